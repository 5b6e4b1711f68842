"""Leases that end otherwise than by settling: what was held comes back to its queue.

A lease ends when its time runs out, when its process is dead, or when the process hands it back. Fresh
messages are leased as a range, so what is left of the range becomes rows of `returned`; messages that
have such a row already were released, or are leased by it, and stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.backends.sqlite.schema import first_id, last_id, queue_number

if TYPE_CHECKING:
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant, Seconds

LEASE: Final[Seconds] = 30.0
"""How long a delivery is held before it must be renewed."""

EXPIRED: Final = "SELECT first, last, until FROM leases WHERE first BETWEEN ? AND ? AND until <= ?"
_OF_HOLDER: Final = "SELECT first, last FROM leases WHERE holder = ?"
RETURN_RANGE: Final = """
INSERT OR IGNORE INTO returned (message, queue, due, attempt, failures, fence, holder)
SELECT id, ?, ?, ?, 0, 0, '' FROM messages WHERE id BETWEEN ? AND ?"""
_END: Final = "DELETE FROM leases WHERE first = ?"
_HELD: Final = "SELECT message, queue FROM returned WHERE holder = ? AND holder <> ''"
_HAND_BACK: Final = "UPDATE returned SET holder = '', due = ?, attempt = attempt + ? WHERE message = ?"


def end_expired(sql: Sql, queue: int, now: Instant) -> None:
    """Return to a queue what is left of the ranges whose time has run out."""
    for first, last, until in sql.execute(EXPIRED, (first_id(queue), last_id(queue), now)).fetchall():
        _return_range(sql, first, last, until, attempt=2)  # due since then, so that older ones come first


def end_of_holder(sql: Sql, holder: str, now: Instant, *, untouched: bool) -> set[int]:
    """Return all that a process holds; and the numbers of the queues that it came back to.

    Args:
        sql: in a transaction.
        holder: the process.
        now: from when on it is due.
        untouched: whether no handler saw it, so that the delivery was no attempt.
    """
    queues: set[int] = set()
    for first, last in sql.execute(_OF_HOLDER, (holder,)).fetchall():
        _return_range(sql, first, last, now, attempt=1 if untouched else 2)
        queues.add(queue_number(first))
    held = sql.execute(_HELD, (holder,)).fetchall()
    sql.executemany(_HAND_BACK, [(now, 0 if untouched else 1, message) for message, _ in held])
    return queues | {queue for _, queue in held}


def _return_range(sql: Sql, first: int, last: int, now: Instant, *, attempt: int) -> None:
    sql.execute(RETURN_RANGE, (queue_number(first), now, attempt, first, last))
    sql.execute(_END, (first,))
