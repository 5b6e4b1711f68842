"""Who waits for a queue, and whom to ring for it: receivers for a message, senders for room.

A process enters itself in the same transaction in which it found nothing, and whoever brings something
takes it out in the transaction that brings it, so no ring is missed and none goes to one who is busy.
The rings themselves follow the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from posthouse.backends.sqlite.sql import Sql

RECEIVER: Final = 0
SENDER: Final = 1

REGISTRY: Final = 0
"""What is rung when the registry has changed."""

MOVED: Final = 1
"""What is rung when the file was deleted, and there is another one; all other numbers are queues, from 2 on."""

Ring = tuple[str, int]
"""A peer, and what its ring is about."""

ENTER: Final = """
INSERT INTO waiting (queue, sender, place, peer)
SELECT ?1, ?2, coalesce(max(place), 0) + 1, ?3 FROM waiting WHERE queue = ?1 AND sender = ?2
HAVING sum(peer = ?3) IS NOT TRUE"""
_LEAVE: Final = "DELETE FROM waiting WHERE queue = ? AND sender = ? AND peer = ?"
LONGEST: Final = "SELECT place, peer FROM waiting WHERE queue = ? AND sender = ? ORDER BY place LIMIT ?"
TAKE: Final = "DELETE FROM waiting WHERE queue = ? AND sender = ? AND place <= ?"


def note(queue: int, role: int) -> int:
    """Return the number that is rung for a queue and a role."""
    return queue << 1 | role


def noted(number: int) -> tuple[int, int]:
    """Return the queue and the role that a ring is about."""
    return number >> 1, number & 1


def enter(sql: Sql, queue: int, role: int, peer: str) -> None:
    """Enter a process among those who wait; twice is once."""
    sql.execute(ENTER, (queue, role, peer))


def leave(sql: Sql, queue: int, role: int, peer: str) -> None:
    """Take a process out: it waits no longer."""
    sql.execute(_LEAVE, (queue, role, peer))


def wake(sql: Sql, queue: int, role: int, most: int) -> list[Ring]:
    """Take out the processes that have waited longest, and return their rings.

    Args:
        sql: in a transaction.
        queue: what there is something for.
        role: RECEIVER or SENDER.
        most: how many processes at most.
    """
    longest = sql.execute(LONGEST, (queue, role, most)).fetchall()
    if longest:
        sql.execute(TAKE, (queue, role, longest[-1][0]))
    return [(peer, note(queue, role)) for _, peer in longest]


def wake_all(sql: Sql, queue: int, role: int) -> list[Ring]:
    """Take out all who wait, and return their rings."""
    return wake(sql, queue, role, -1)
