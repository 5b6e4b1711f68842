"""Taking messages under a lease: first what came back and is due, then what is new.

New messages are the ids behind the queue's cursor, without gaps: they are only ever added at the end and
taken from the front. They are leased as one range, with one row, however many they are. A claim that
finds nothing enters its process as waiting, in the same transaction, and tells when something will be
due by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from posthouse.backends.sqlite.commits import Operation
from posthouse.backends.sqlite.holds import Hold
from posthouse.backends.sqlite.leasing import LEASE, end_expired
from posthouse.backends.sqlite.schema import first_id, last_id
from posthouse.backends.sqlite.waiting import RECEIVER, enter
from posthouse.contracts.transport import Delivery
from posthouse.errors import QueueUnknownError, StorageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Clock, Instant, Seconds

_LOOK: Final[Seconds] = 0.5
"""How often a receiver looks for leases that ran out, at most."""

ROW: Final = "SELECT number, next, cursor FROM queues WHERE name = ?"
ROW_AGAIN: Final = "SELECT number, next, cursor FROM queues WHERE number = ? AND name = ?"
DUE: Final = """
SELECT message, attempt, failures, fence, holder, frame FROM returned CROSS JOIN messages ON id = message
WHERE queue = ? AND due <= ? ORDER BY due, message LIMIT ?"""
HAND_OUT: Final = "UPDATE returned SET due = ?, attempt = ?, fence = ?, holder = ? WHERE message = ?"
NEW: Final = "SELECT frame FROM messages WHERE id BETWEEN ? AND ? ORDER BY id"
LEASE_RANGE: Final = "INSERT INTO leases (first, last, holder, until) VALUES (?, ?, ?, ?)"
MOVE: Final = "UPDATE queues SET cursor = ? WHERE number = ?"
NEXT_RETURNED: Final = "SELECT due FROM returned WHERE queue = ? ORDER BY due LIMIT 1"
NEXT_LEASE: Final = "SELECT min(until) FROM leases WHERE first BETWEEN ? AND ?"


@final
class Known:
    """What this process remembers of a queue that it receives from, so as not to look it up each time."""

    __slots__ = ("_looked", "number")

    def __init__(self) -> None:
        self.number = 0
        self._looked: Instant | None = None

    def looks_for_expired(self, number: int, now: Instant) -> bool:
        """Return whether it is time to look for leases that ran out; they may be ended somewhat late."""
        if number == self.number and self._looked is not None and 0 <= now - self._looked < _LOOK:
            return False
        self.number = number
        self._looked = now
        return True


@final
class Claim(Operation):
    """One call of `receive`; it is run again when its process is rung.

    Args:
        queue: what to take from.
        known: what is remembered of it.
        credit: how many at most.
        until: how long to wait when there is none; None for not at all.
        peer: this process.
        clock: tells when leases end.
        future: is given the deliveries.
        ended: is given the claim when it has run, and the error if it failed.

    Attributes:
        number: of the queue, once it has run.
        due: when something of an empty queue is due by itself; None if never.
    """

    __slots__ = (
        "_clock",
        "_ended",
        "_first",
        "_new",
        "_peer",
        "_returned",
        "credit",
        "due",
        "future",
        "known",
        "number",
        "queue",
        "until",
        "waits",
    )

    def __init__(
        self,
        queue: str,
        known: Known,
        *,
        credit: int,
        until: Instant | None,
        peer: str,
        clock: Clock,
        future: asyncio.Future[list[Delivery]],
        ended: Callable[[Claim, Exception | None], None],
    ) -> None:
        self.queue = queue
        self.known = known
        self.credit = credit
        self.waits = until is not None
        self.until = until or 0.0
        self.future = future
        self.number = 0
        self.due: Instant | None = None
        self._peer = peer
        self._clock = clock
        self._ended = ended
        self._returned: list[tuple[Any, ...]] = []
        self._first = 0
        self._new: list[tuple[bytes]] = []

    def done(self, error: Exception | None) -> None:
        """Tell the transport."""
        self._ended(self, error)

    def run(self, sql: Sql) -> None:
        """Take what there is."""
        self._returned = self._new = []
        if self.future.cancelled():
            return
        found = sql.execute(ROW_AGAIN, (self.known.number, self.queue)).fetchall() if self.known.number else []
        found = found or sql.execute(ROW, (self.queue,)).fetchall()
        if not found:
            raise QueueUnknownError(f"there is no queue {self.queue!r}")
        self.number, following, cursor = found[0]
        now = self._clock.now()
        looked = self.known.looks_for_expired(self.number, now)
        if looked:
            end_expired(sql, self.number, now)
        self._take_returned(sql, now)
        if not looked and not self._returned and cursor + 1 == following:  # better to look than to find nothing
            end_expired(sql, self.number, now)
            self._take_returned(sql, now)
        left = self.credit - len(self._returned)
        new = min(left, following - 1 - cursor)
        if new > 0:
            last = cursor + new
            self._first = cursor + 1
            self._new = sql.execute(NEW, (self._first, last)).fetchall()
            if len(self._new) != new:
                raise StorageError(
                    f"the queue {self.queue!r} has lost messages from {self._first} to {last}",
                    hint="The file was changed by something else than posthouse; restore it, or delete the queue.",
                )
            sql.execute(LEASE_RANGE, (self._first, last, self._peer, now + LEASE))
            sql.execute(MOVE, (last, self.number))
        elif not self._returned and self.waits:
            enter(sql, self.number, RECEIVER, self._peer)
            times = sql.execute(NEXT_RETURNED, (self.number,)).fetchall()
            times += sql.execute(NEXT_LEASE, (first_id(self.number), last_id(self.number))).fetchall()
            self.due = min((time for (time,) in times if time is not None), default=None)

    def _take_returned(self, sql: Sql, now: Instant) -> None:
        self._returned = sql.execute(DUE, (self.number, now, self.credit)).fetchall()
        if self._returned:
            sql.executemany(
                HAND_OUT,
                # one with a holder was not settled in time: this delivery is another attempt
                [
                    (now + LEASE, attempt + (holder != ""), fence + 1, self._peer, message)
                    for message, attempt, _, fence, holder, _ in self._returned
                ],
            )

    def deliveries(self, owner: object) -> list[Delivery]:
        """Return what was taken, as held by `owner`."""
        queue = self.queue
        made: list[Delivery] = []
        if self._returned:
            ids = [row[0] for row in self._returned]
            hold = Hold(owner, self.number, ids=ids, fences=[row[3] + 1 for row in self._returned])
            for index, (_, attempt, failures, _, holder, frame) in enumerate(self._returned):
                made.append(Delivery(queue, frame, (hold, index), attempt + (holder != ""), failures))
        if self._new:
            first = self._first
            hold = Hold(owner, self.number, first=first, ids=range(first, first + len(self._new)))
            made += [Delivery(queue, frame, (hold, index)) for index, (frame,) in enumerate(self._new)]
        self._returned = self._new = []
        return made
