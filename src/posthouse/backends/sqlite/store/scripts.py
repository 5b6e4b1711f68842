"""The user's SQL scripts, each of which makes or changes tables of theirs: run once, in order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from posthouse.errors import SqlError, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.store.rows import UserSql
    from posthouse.clock import Instant


def run_scripts(sql: Sql, theirs: UserSql, schema: Sequence[str], *, service: str, now: Instant) -> None:
    """Run the scripts that were not run yet; inside a transaction of the caller.

    A program with fewer scripts than were run is an older one, whose tables are all there.

    Raises:
        StorageError: one failed, or one that was run is another one now.
    """
    ran: dict[int, bytes] = dict(sql.execute("SELECT number, digest FROM posthouse_scripts").fetchall())
    for number, script in enumerate(schema, start=1):
        digest = hashlib.sha256(script.strip().encode()).digest()
        if number not in ran:
            try:
                theirs.execute(script)
            except SqlError as error:
                hint = error.hint or "Mend the script; nothing of it was kept."
                raise StorageError(f"schema script {number} of {service!r} failed: {error}", hint=hint) from error
            sql.execute("INSERT INTO posthouse_scripts VALUES (?, ?, ?)", (number, digest, now))
        elif ran[number] != digest:
            raise StorageError(
                f"schema script {number} of {service!r} was changed after it was run",
                hint="Put it back as it was, and add a script behind the last one that makes the change.",
            )
