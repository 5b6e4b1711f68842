"""The queues and their bindings: made, changed, removed and counted.

What moves messages in and out of them is in sending, claiming and settling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from posthouse.backends.sqlite.holds import NO_TAG
from posthouse.backends.sqlite.schema import PLACE_BITS, PRIORITY_BITS, first_id, last_id
from posthouse.backends.sqlite.waiting import RECEIVER, SENDER, Ring, wake_all
from posthouse.contracts.transport import Delivery, Overflow, QueueInfo, QueueSpec
from posthouse.errors import QueueUnknownError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant

_NUMBERS: Final = 1 << (63 - PLACE_BITS - PRIORITY_BITS)

_UPDATE: Final = """
UPDATE queues SET capacity = :capacity, capacity_bytes = :capacity_bytes, overflow = :overflow, owner = :owner,
  ephemeral = :ephemeral, peer = :peer
WHERE number = :number"""
_CLEAR: Final = """
UPDATE queues SET name = NULL, cursor = next - 1, messages = 0, bytes = 0, ephemeral = '', peer = '', dropped = 0
WHERE number = ?"""
_ALL: Final = """
SELECT number, name, next, cursor, messages, bytes, capacity, capacity_bytes, overflow, owner, ephemeral
FROM queues WHERE name IS NOT NULL ORDER BY name"""
_RESTING: Final = """
SELECT coalesce(sum(holder = '' OR due <= :now), 0), coalesce(sum(holder = '' AND due > :now), 0)
FROM returned WHERE queue = :queue"""
_EXPIRED: Final = """
SELECT coalesce(sum((SELECT count(*) FROM messages WHERE id BETWEEN first AND last)
  - (SELECT count(*) FROM returned WHERE message BETWEEN first AND last)), 0)
FROM leases WHERE first BETWEEN :start AND :end AND until <= :now"""
_RECEIVERS: Final = """
SELECT count(*) FROM (
  SELECT peer FROM waiting WHERE queue = :queue AND sender = 0
  UNION SELECT holder FROM leases WHERE first BETWEEN :start AND :end
  UNION SELECT holder FROM returned WHERE queue = :queue AND holder <> '')"""


def number_of(sql: Sql, queue: str) -> int:
    """Return the number of a queue.

    Raises:
        QueueUnknownError: nobody declared it.
    """
    for (number,) in sql.execute("SELECT number FROM queues WHERE name = ?", (queue,)).fetchall():
        return number
    raise QueueUnknownError(f"there is no queue {queue!r}")


def declare(sql: Sql, specs: Sequence[QueueSpec], peer: str) -> list[Ring]:
    """Make queues, or bring their limits up to date; return whom to ring, since there may be room now."""
    rings: list[Ring] = []
    for spec in specs:
        found = sql.execute("SELECT number FROM queues WHERE name = ?", (spec.name,)).fetchall()
        number = found[0][0] if found else _new(sql, spec.name)
        sql.execute(
            _UPDATE,
            {
                "capacity": spec.capacity,
                "capacity_bytes": spec.capacity_bytes,
                "overflow": spec.overflow,
                "owner": spec.owner,
                "ephemeral": spec.ephemeral,
                "peer": peer if spec.ephemeral else "",
                "number": number,
            },
        )
        if found:
            rings += wake_all(sql, number, SENDER)
    return rings


def _new(sql: Sql, name: str) -> int:
    for (number,) in sql.execute("SELECT number FROM queues WHERE name IS NULL LIMIT 1").fetchall():
        sql.execute("UPDATE queues SET name = ? WHERE number = ?", (name, number))
        return number
    [[most]] = sql.execute("SELECT coalesce(max(number), 0) FROM queues").fetchall()
    number = most + 1
    if number >= _NUMBERS:
        raise UnavailableError(f"there are {_NUMBERS:,} queues, which is as many as there may be")
    start = first_id(number)
    sql.execute("INSERT INTO queues (number, name, next, cursor) VALUES (?, ?, ?, ?)", (number, name, start + 1, start))
    return number


def delete(sql: Sql, queue: str) -> list[Ring]:
    """Remove a queue with all that it holds; return whom to ring, to be told that it is gone."""
    found = sql.execute("SELECT number FROM queues WHERE name = ?", (queue,)).fetchall()
    return remove(sql, found[0][0]) if found else []


def remove(sql: Sql, number: int) -> list[Ring]:
    """Remove the queue of this number; its number is given to another queue later, its ids never."""
    rings = wake_all(sql, number, RECEIVER) + wake_all(sql, number, SENDER)
    sql.execute("DELETE FROM messages WHERE id BETWEEN ? AND ?", (first_id(number), last_id(number)))
    sql.execute("DELETE FROM leases WHERE first BETWEEN ? AND ?", (first_id(number), last_id(number)))
    sql.execute("DELETE FROM returned WHERE queue = ?", (number,))
    sql.execute("DELETE FROM bindings WHERE queue = ?", (number,))
    sql.execute(_CLEAR, (number,))
    return rings


def bind(sql: Sql, topic: str, queue: str) -> None:
    """Let a topic go to a queue too."""
    sql.execute("INSERT OR IGNORE INTO bindings VALUES (?, ?)", (topic, number_of(sql, queue)))


def unbind(sql: Sql, topic: str, queue: str) -> None:
    """Let it no longer."""
    sql.execute(
        "DELETE FROM bindings WHERE topic = ? AND queue = (SELECT number FROM queues WHERE name = ?)", (topic, queue)
    )


def bindings(sql: Sql) -> list[tuple[str, str]]:
    """Return every (topic, queue)."""
    found = sql.execute("SELECT topic, name FROM bindings JOIN queues ON number = queue ORDER BY topic, name")
    return cast("list[tuple[str, str]]", found.fetchall())


def inspect(sql: Sql, now: Instant) -> list[QueueInfo]:
    """Return what every queue holds."""
    return [_info(sql, row, now) for row in sql.execute(_ALL).fetchall()]


def _info(sql: Sql, row: tuple[Any, ...], now: Instant) -> QueueInfo:
    number, name, following, cursor, messages, size, capacity, capacity_bytes, overflow, owner, ephemeral = row
    fresh = following - 1 - cursor
    its = {"queue": number, "start": first_id(number), "end": last_id(number), "now": now}
    [[resting, delayed]] = sql.execute(_RESTING, its).fetchall()
    [[expired]] = sql.execute(_EXPIRED, its).fetchall()
    oldest = sql.execute(
        "SELECT stored FROM messages WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1", (first_id(number), last_id(number))
    ).fetchall()
    [[dead]] = sql.execute("SELECT count(*) FROM dead WHERE queue = ?", (name,)).fetchall()
    [[receivers]] = sql.execute(_RECEIVERS, its).fetchall()
    return QueueInfo(
        spec=QueueSpec(name, capacity, capacity_bytes, cast("Overflow", overflow), owner, ephemeral),
        stored=messages,
        stored_bytes=size,
        leased=messages - fresh - resting - expired,
        delayed=delayed,
        dead=dead,
        oldest=oldest[0][0] if oldest else None,
        receivers=receivers,
    )


def peek(sql: Sql, queue: str, limit: int) -> list[Delivery]:
    """Return the oldest messages of a queue; their tags settle nothing.

    Raises:
        QueueUnknownError: nobody declared it.
    """
    number = number_of(sql, queue)
    rows = sql.execute(
        """
        SELECT frame, coalesce(attempt, 1), coalesce(failures, 0) FROM messages LEFT JOIN returned ON message = id
        WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?""",
        (first_id(number), last_id(number), limit),
    ).fetchall()
    return [Delivery(queue, frame, NO_TAG, attempt, failures) for frame, attempt, failures in rows]
