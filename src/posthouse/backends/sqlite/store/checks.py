"""Looks at the whole file of a store: at its structure, its indexes, and the checksum of each row of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

import apsw

from posthouse.backends.sqlite.store.copies import Facts, cannot_open, connected, facts_of
from posthouse.backends.sqlite.store.damage import damaged_rows
from posthouse.backends.sqlite.store.faults import FAILURES
from posthouse.backends.sqlite.store.tables import VERSION
from posthouse.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

_MOST: Final = 20
_INTEGRITY: Final = f"PRAGMA integrity_check({_MOST})"
_NO_FAULTS: Final = {"ok", "*** in database main ***"}


class Looked(NamedTuple):
    """What was seen of a file.

    Attributes:
        facts: what it says of itself; None when that cannot be read.
        faults: what is wrong with it.
    """

    facts: Facts | None
    faults: list[str]


def look_at_all(path: Path, *, is_backup: bool) -> Looked:
    """Read a whole file, and say what is wrong with it. Nothing is written, and it blocks.

    Args:
        path: of the file.
        is_backup: nobody writes to it, so it is read without locks, and where nothing can be written.

    Raises:
        StorageError: it cannot be opened, so nothing is known of it.
    """
    place = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if is_backup else ''}"
    facts: Facts | None = None
    try:
        with connected(place, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI) as connection:
            connection.execute("BEGIN")
            facts = facts_of(connection, path)
            found = connection.execute(_INTEGRITY).fetchall()
            faults = [line for (text,) in found for line in text.splitlines() if line not in _NO_FAULTS]
            if not faults and facts.format == VERSION:  # rows of an older format have other columns
                faults = damaged_rows(connection.cursor(), most=_MOST)
    except apsw.CantOpenError as error:
        raise cannot_open(path, error) from error
    except FAILURES as error:
        return Looked(facts, [f"SQLite cannot read it: {error}"])
    except StorageError as error:
        return Looked(facts, [str(error)])
    return Looked(facts, faults)
