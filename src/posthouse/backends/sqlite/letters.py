"""Dead letters: listed, put back, dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.backends.sqlite.waiting import RECEIVER, Ring, wake
from posthouse.contracts.transport import DeadLetter, Rejected
from posthouse.errors import QueueUnknownError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant

_COLUMNS: Final = "id, queue, frame, state, code, reason, detail, attempts, at"
ALL: Final = f"SELECT {_COLUMNS} FROM dead WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - a constant
OF_QUEUE: Final = f"SELECT {_COLUMNS} FROM dead WHERE queue = ? AND id > ? ORDER BY id LIMIT ?"  # noqa: S608
_ONE: Final = """
SELECT number, next, length(frame) FROM dead LEFT JOIN queues ON name = queue WHERE id = ?"""
_REPLAY: Final = "INSERT INTO messages (id, frame, stored) SELECT ?, frame, ? FROM dead WHERE id = ?"
_COUNT: Final = "UPDATE queues SET next = next + 1, messages = messages + 1, bytes = bytes + ? WHERE number = ?"
_DROP: Final = "DELETE FROM dead WHERE id = ?"

_LAST: Final = (1 << 63) - 1
_DIGITS: Final = len(str(_LAST))
"""A number with as many may be more than SQLite takes."""


def listed(sql: Sql, *, queue: str, after: str, limit: int) -> list[DeadLetter]:
    """Return dead letters, oldest first; see Transport.dead."""
    behind = 0
    if after.isdecimal():
        behind = int(after) if len(after) < _DIGITS else _LAST  # behind all that there can be
    if queue:
        rows = sql.execute(OF_QUEUE, (queue, behind, limit)).fetchall()
    else:
        rows = sql.execute(ALL, (behind, limit)).fetchall()
    return [
        DeadLetter(id=str(number), queue=its, frame=frame, outcome=Rejected(*outcome), attempts=attempts, at=at)
        for number, its, frame, *outcome, attempts, at in rows
    ]


def replay(sql: Sql, ids: Sequence[str], now: Instant) -> tuple[list[str], list[Ring]]:
    """Put letters back into their queues, at the end; return those that were there, and whom to ring.

    It is an operator's deed, so a queue's capacity does not stand against it.

    Raises:
        QueueUnknownError: the queue of one is gone; none was put back.
    """
    done: list[str] = []
    rings: list[Ring] = []
    for letter in _numbers(ids):
        for number, following, size in sql.execute(_ONE, (letter,)).fetchall():
            if number is None:
                raise QueueUnknownError(f"the queue of dead letter {letter} is gone")
            sql.execute(_REPLAY, (following, now, letter))
            sql.execute(_COUNT, (size, number))
            sql.execute(_DROP, (letter,))
            rings += wake(sql, number, RECEIVER, 1)
            done.append(str(letter))
    return done, rings


def drop(sql: Sql, ids: Sequence[str]) -> list[str]:
    """Delete letters; return the ids that were there."""
    done: list[str] = []
    for letter in _numbers(ids):
        sql.execute(_DROP, (letter,))
        if sql.connection.changes():
            done.append(str(letter))
    return done


def _numbers(ids: Sequence[str]) -> list[int]:
    return [int(letter) for letter in ids if letter.isdecimal() and len(letter) < _DIGITS]
