"""Settling deliveries and renewing leases: all of one turn in one operation.

Accepted messages of a range lease are deleted by runs of ids; the lease's row goes with the last of
them. A lease that was ended by somebody else (it ran out, its process was taken for dead) is not there
any more, and what it held is reported as lost, not settled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, final

from posthouse.backends.sqlite.commits import Operation
from posthouse.backends.sqlite.waiting import RECEIVER, SENDER, Ring, wake, wake_all
from posthouse.contracts.transport import ACCEPTED, Accepted, Rejected, Released

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.holds import Hold, Holds
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Clock
    from posthouse.contracts.transport import Delivery, Outcome

STANDS: Final = "SELECT 1 FROM leases WHERE first = ?"
END: Final = "DELETE FROM leases WHERE first = ?"
FORGET_RUN: Final = "DELETE FROM messages WHERE id BETWEEN ? AND ?"
FORGET: Final = "DELETE FROM messages WHERE id = ?"
TAKE_OUT: Final = "DELETE FROM returned WHERE message = ? AND fence = ? AND holder = ?"
LESS: Final = "UPDATE queues SET messages = messages - ?, bytes = bytes - ? WHERE number = ?"
RETURN: Final = """
INSERT INTO returned (message, queue, due, attempt, failures, fence, holder) VALUES (?, ?, ?, ?, ?, 0, '')"""
RETURN_AGAIN: Final = """
UPDATE returned SET due = ?, attempt = ?, failures = ?, holder = '' WHERE message = ? AND fence = ? AND holder = ?"""
BURY: Final = """
INSERT INTO dead (queue, frame, state, code, reason, detail, attempts, at)
SELECT ?, frame, ?, ?, ?, ?, ?, ? FROM messages WHERE id = ?"""
RENEW_RANGE: Final = "UPDATE leases SET until = ? WHERE first = ?"
RENEW: Final = "UPDATE returned SET due = ? WHERE message = ? AND fence = ? AND holder = ?"
LEASE_ALONE: Final = """
INSERT INTO returned (message, queue, due, attempt, failures, fence, holder) VALUES (?, ?, ?, 1, 0, 1, ?)"""


@final
class _Part:
    """What of one hold is settled."""

    __slots__ = ("accepted", "closes", "others", "size")

    def __init__(self) -> None:
        self.accepted: list[int] = []  # tags
        self.others: list[tuple[Delivery, Released | Rejected]] = []
        self.size = 0  # bytes of the frames that go
        self.closes = False  # it is the last of the hold


@final
class SettleBatch(Operation):
    """All settling of one turn of the loop.

    Args:
        peer: this process, which holds the deliveries.
        holds: what it holds.
        clock: tells when released messages are due.
        started: called when nothing more may join.
        ended: is given whom to ring, when it is done.
    """

    __slots__ = (
        "_calls",
        "_clock",
        "_ended",
        "_holds",
        "_lost",
        "_parts",
        "_peer",
        "_rings",
        "_started",
        "flush",
        "weight",
    )

    def __init__(
        self,
        peer: str,
        holds: Holds,
        clock: Clock,
        *,
        started: Callable[[], None],
        ended: Callable[[list[Ring]], None],
    ) -> None:
        self._peer = peer
        self._holds = holds
        self._clock = clock
        self._started = started
        self._ended = ended
        self._parts: dict[Hold, _Part] = {}
        self._calls: list[tuple[asyncio.Future[list[Delivery]], list[tuple[Delivery, Hold | None]]]] = []
        self._lost: set[Hold | int] = set()  # whole range holds, and tags of messages with leases of their own
        self._rings: list[Ring] = []
        self.flush = False
        self.weight = 0

    def add(self, outcomes: Sequence[tuple[Delivery, Outcome]], future: asyncio.Future[list[Delivery]]) -> None:
        """Let one call of `settle` join."""
        self.weight += len(outcomes)
        take = self._holds.take
        parts = self._parts
        taken: list[tuple[Delivery, Hold | None]] = []
        part: _Part | None = None
        last: Hold | None = None
        for delivery, outcome in outcomes:
            hold = take(delivery.tag)
            taken.append((delivery, hold))
            if hold is None:
                continue
            if hold is not last or part is None:
                last = hold
                part = parts.get(hold)
                if part is None:
                    part = parts[hold] = _Part()
            if outcome is ACCEPTED or type(outcome) is Accepted:
                part.accepted.append(delivery.tag)
                part.size += len(delivery.frame)
            else:
                part.others.append((delivery, outcome))  # pyright: ignore[reportArgumentType] - not Accepted
                if type(outcome) is Rejected:
                    part.size += len(delivery.frame)
                    self.flush = True  # a dead letter is all that is left of its message
        self._calls.append((future, taken))

    def start(self) -> None:
        """Let nothing more join."""
        for hold, part in self._parts.items():
            part.closes = hold.open == 0
        self._started()

    def run(self, sql: Sql) -> None:
        """Settle what is still ours."""
        self._lost = set()
        self._rings = []
        gone: dict[int, tuple[int, int]] = {}
        back: dict[int, int] = {}
        for hold, part in self._parts.items():
            settle = self._settle_range if hold.first else self._settle_alone
            count, size, released = settle(sql, hold, part)
            messages, total = gone.get(hold.queue, (0, 0))
            gone[hold.queue] = (messages + count, total + size)
            if released:
                back[hold.queue] = back.get(hold.queue, 0) + released
        for queue, (count, size) in gone.items():
            if count:
                sql.execute(LESS, (count, size, queue))
                self._rings += wake_all(sql, queue, SENDER)
        for queue, count in back.items():
            self._rings += wake(sql, queue, RECEIVER, count)

    def _settle_range(self, sql: Sql, hold: Hold, part: _Part) -> tuple[int, int, int]:
        """Return how many messages are gone, their bytes, and how many came back."""
        if part.closes:
            sql.execute(END, (hold.first,))
            stands = sql.connection.changes() > 0
        else:
            stands = bool(sql.execute(STANDS, (hold.first,)).fetchall())
        if not stands:
            self._lost.add(hold)
            return 0, 0, 0
        gone = len(part.accepted)
        _forget(sql, sorted(hold.ids[tag - hold.base] for tag in part.accepted))
        released = 0
        for delivery, outcome in part.others:
            message = hold.ids[cast("int", delivery.tag) - hold.base]
            if isinstance(outcome, Released):
                due, attempt, failures = self._again(delivery, outcome)
                sql.execute(RETURN, (message, hold.queue, due, attempt, failures))
                released += 1
            else:
                self._bury(sql, message, delivery, outcome)
                gone += 1
        return gone, part.size, released

    def _settle_alone(self, sql: Sql, hold: Hold, part: _Part) -> tuple[int, int, int]:
        gone = released = 0
        size = part.size
        for tag in part.accepted:
            message = hold.ids[tag - hold.base]
            sql.execute(TAKE_OUT, (message, hold.fences[tag - hold.base], self._peer))
            if sql.connection.changes():
                sql.execute(FORGET, (message,))
                gone += 1
            else:
                self._lost.add(tag)
        for delivery, outcome in part.others:
            index = cast("int", delivery.tag) - hold.base
            message, fence = hold.ids[index], hold.fences[index]
            if isinstance(outcome, Released):
                due, attempt, failures = self._again(delivery, outcome)
                sql.execute(RETURN_AGAIN, (due, attempt, failures, message, fence, self._peer))
                stands = sql.connection.changes() > 0
                released += stands
            else:
                sql.execute(TAKE_OUT, (message, fence, self._peer))
                stands = sql.connection.changes() > 0
                if stands:
                    self._bury(sql, message, delivery, outcome)
                    gone += 1
            if not stands:
                self._lost.add(delivery.tag)
        if self._lost:
            size -= self._lost_bytes(hold)
        return gone, size, released

    def _lost_bytes(self, hold: Hold) -> int:
        released = {delivery.tag for delivery, outcome in self._parts[hold].others if isinstance(outcome, Released)}
        return sum(
            len(delivery.frame)
            for _, taken in self._calls
            for delivery, its in taken
            if its is hold and delivery.tag in self._lost and delivery.tag not in released
        )

    def _again(self, delivery: Delivery, outcome: Released) -> tuple[float, int, int]:
        due = self._clock.now() + outcome.after
        if outcome.untouched:
            return due, delivery.attempt, delivery.failures
        return due, delivery.attempt + 1, delivery.failures + outcome.failed

    def _bury(self, sql: Sql, message: int, delivery: Delivery, outcome: Rejected) -> None:
        values = (
            delivery.queue, outcome.state, outcome.code, outcome.reason, outcome.detail,
            delivery.attempt, self._clock.now(), message,
        )  # fmt: skip
        sql.execute(BURY, values)
        sql.execute(FORGET, (message,))

    def done(self, error: Exception | None) -> None:
        """Tell those who wait."""
        if error is None:
            self._ended(self._rings)
        for future, taken in self._calls:
            if error is not None:
                for delivery, hold in taken:
                    if hold is not None:
                        self._holds.put_back(delivery.tag, hold)
                if not future.done():
                    future.set_exception(error)
            elif not future.done():
                future.set_result(
                    [
                        delivery
                        for delivery, hold in taken
                        if hold is None or hold in self._lost or delivery.tag in self._lost
                    ]
                    if self._lost or None in (hold for _, hold in taken)
                    else []
                )


def _forget(sql: Sql, ids: list[int]) -> None:
    """Delete messages by runs of ids that follow each other; they come sorted."""
    runs: list[tuple[int, int]] = []
    first = last = 0
    for message in ids:
        if message != last + 1:
            if last:
                runs.append((first, last))
            first = message
        last = message
    if last:
        runs.append((first, last))
    if len(runs) == 1:
        sql.execute(FORGET_RUN, runs[0])
    else:
        sql.executemany(FORGET_RUN, runs)


def renew(
    sql: Sql,
    peer: str,
    *,
    ranges: Sequence[Hold],
    split: Sequence[tuple[Hold, int]],
    alone: Sequence[tuple[int, int, int]],
    until: float,
) -> tuple[set[Hold], set[int]]:
    """Hold on to deliveries for another lease.

    A range lease is renewed whole. When only some of what it holds is to be renewed, these are split off
    with leases of their own, and the others keep the end that they had.

    Args:
        sql: in a transaction.
        peer: this process.
        ranges: the holds that are renewed whole.
        split: the messages that are split off, each with the hold that it leaves.
        alone: (message, fence, tag) of those that have leases of their own.
        until: the new end.

    Returns:
        The range holds that were lost, and the tags that were lost.
    """
    lost_holds: set[Hold] = set()
    lost_tags: set[int] = set()
    for hold in ranges:
        sql.execute(RENEW_RANGE, (until, hold.first))
        if not sql.connection.changes():
            lost_holds.add(hold)
    standing: dict[Hold, bool] = {}
    for hold, message in split:
        if hold not in standing:
            standing[hold] = bool(sql.execute(STANDS, (hold.first,)).fetchall())
        if standing[hold]:
            sql.execute(LEASE_ALONE, (message, hold.queue, until, peer))
        else:
            lost_holds.add(hold)
    for message, fence, tag in alone:
        sql.execute(RENEW, (until, message, fence, peer))
        if not sql.connection.changes():
            lost_tags.add(tag)
    return lost_holds, lost_tags
