"""The dead letters of a store, and its idempotency keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from posthouse.backends.sqlite.store.reading import read, sound
from posthouse.backends.sqlite.store.seals import must_be_sealed, one, seal
from posthouse.backends.sqlite.store.sums import LETTER, letter_of, letter_row, select
from posthouse.contracts.store import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant
    from posthouse.contracts.store import Deceased

_WHOLE: Final = f"{LETTER}, sum"
_NUMBER: Final = "UPDATE posthouse_store SET letters = letters + 1 RETURNING letters"
_ADD: Final = f"INSERT INTO posthouse_dead ({_WHOLE}) VALUES ({', '.join('?' * (_WHOLE.count(',') + 1))})"  # noqa: S608 - names of columns
LETTERS: Final = select(_WHOLE, "FROM posthouse_dead WHERE number > ? ORDER BY number LIMIT ?")
LETTERS_OF: Final = select(_WHOLE, "FROM posthouse_dead WHERE operation = ? AND number > ? ORDER BY number LIMIT ?")
LETTERS_BY_CAUSE: Final = select(
    _WHOLE,
    """
FROM posthouse_dead
WHERE cause = :cause AND (:operation = '' OR operation = :operation) AND number > :after ORDER BY number LIMIT :limit
""",
)
LETTER_AT: Final = select(_WHOLE, "FROM posthouse_dead WHERE number = ?")
LETTER_OF: Final = select(_WHOLE, "FROM posthouse_dead WHERE place = ? ORDER BY number DESC LIMIT 1")
DROP: Final = "DELETE FROM posthouse_dead WHERE number = ?"

KEY: Final = "SELECT scope, key, digest, reference, until, sum FROM posthouse_keys WHERE scope = ? AND key = ?"
_ADD_KEY: Final = """
INSERT OR REPLACE INTO posthouse_keys (scope, key, digest, reference, until, sum) VALUES (?, ?, ?, ?, ?, ?)
"""
OVER: Final = "SELECT scope, key, digest, reference, until FROM posthouse_keys WHERE until < ? ORDER BY until LIMIT ?"
DROP_KEY: Final = "DELETE FROM posthouse_keys WHERE scope = ? AND key = ?"
_MOST: Final = 1000


class LetterBooks:
    """What is kept of dead letters."""

    _sql: Sql

    def add_dead(self, letter: Deceased) -> None:
        """Keep a dead letter; it gets the next number."""
        [[number]] = self._sql.execute(_NUMBER).fetchall()
        self._sql.execute(_ADD, letter_row(letter, number))

    def dead_letters(self, *, operation: str = "", cause: str = "", after: int = 0, limit: int = 100) -> list[Deceased]:
        """Return dead letters, oldest first, those behind the number `after`."""
        if cause:
            asked = {"cause": cause, "operation": operation, "after": after, "limit": limit}
            return sound(self._sql, LETTERS_BY_CAUSE, asked, letter_of)
        if operation:
            return sound(self._sql, LETTERS_OF, (operation, after, limit), letter_of)
        return sound(self._sql, LETTERS, (after, limit), letter_of)

    def dead_letter(self, number: int) -> Deceased | None:
        """Return one."""
        return next(iter(read(self._sql, LETTER_AT, (number,), letter_of)), None)

    def drop_dead(self, numbers: Sequence[int]) -> None:
        """Forget dead letters."""
        self._sql.executemany(DROP, [(number,) for number in numbers])

    def dead_at(self, place: int) -> Deceased | None:
        """Return the newest dead letter of a request."""
        return next(iter(read(self._sql, LETTER_OF, (place,), letter_of)), None)


class KeyBooks:
    """What is kept of idempotency keys."""

    _sql: Sql

    def key(self, scope: str, key: str) -> Key | None:
        """Return what a key stands for."""
        return one(self._sql, KEY, (scope, key), _key)

    def add_key(self, key: Key) -> None:
        """Keep a key; one that is there is replaced."""
        values = key.scope, key.key, key.digest, key.reference, float(key.until)
        self._sql.execute(_ADD_KEY, (*values, seal(*values)))

    def forget_keys(self, before: Instant) -> list[Key]:
        """Drop the keys whose time is over, at most 1,000 at once, and return them."""
        keys = [Key(*row) for row in self._sql.execute(OVER, (before, _MOST)).fetchall()]
        self._sql.executemany(DROP_KEY, [(key.scope, key.key) for key in keys])
        return keys

    def drop_key(self, scope: str, key: str) -> None:
        """Forget a key."""
        self._sql.execute(DROP_KEY, (scope, key))


def _key(row: Sequence[Any]) -> Key:
    must_be_sealed("key", row)
    return Key(*row[:-1])
