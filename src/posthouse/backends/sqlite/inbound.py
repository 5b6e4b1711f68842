"""The calls of `receive`, `settle` and `renew` on their way, and the receives that wait.

A receive that finds nothing is parked. It is run again when the process is rung for its queue, when
something of the queue is due by itself, and when the slow poll finds something that was missed. What is
done to the tables is in claiming and settling.

When the file was deleted, what was received from it is not ours any more: settling and renewing say that it was
lost. The receives that wait look into the new file.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, final

from posthouse.backends.sqlite.claiming import Claim, Known
from posthouse.backends.sqlite.holds import join, split
from posthouse.backends.sqlite.leasing import LEASE
from posthouse.backends.sqlite.schema import first_id, last_id
from posthouse.backends.sqlite.settling import SettleBatch, renew
from posthouse.backends.sqlite.waiting import RECEIVER, leave, wake
from posthouse.contracts.transport import Released
from posthouse.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.backends.sqlite.database import Database
    from posthouse.backends.sqlite.holds import Hold, Tag
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.waiting import Ring
    from posthouse.clock import Clock, Instant, Seconds
    from posthouse.contracts.transport import Delivery, Outcome

OVERDUE: Final = """
SELECT name FROM queues WHERE number = :queue AND (next - 1 > cursor
  OR EXISTS (SELECT 1 FROM returned WHERE queue = :queue AND due <= :now)
  OR EXISTS (SELECT 1 FROM leases WHERE first BETWEEN :start AND :end AND until <= :now))"""

_UNTOUCHED: Final = Released(untouched=True)

_LARGEST_BATCH: Final = 2048
"""Deliveries after which a batch takes no more outcomes."""


@final
class Inbound:
    """All that one open transport receives.

    Args:
        database: where the operations run.
        peer: this process, the holder of the leases.
        clock: tells when leases end.
    """

    __slots__ = ("_alarms", "_batch", "_clock", "_closed", "_database", "_known", "_loop", "_owner", "_parked", "_peer")

    def __init__(self, database: Database, *, peer: str, clock: Clock) -> None:
        self._database = database
        self._peer = peer
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._batch: SettleBatch | None = None
        self._known: dict[str, Known] = {}
        self._parked: dict[int, list[Claim]] = {}  # by the number of their queue
        self._alarms: dict[int, asyncio.TimerHandle] = {}  # when something of a waited-for queue is due
        self._closed = False
        self._owner = object()  # of the holds: this transport, on this very file

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Take up to `credit` messages, oldest first; wait for the first one up to `wait`."""
        future: asyncio.Future[list[Delivery]] = self._loop.create_future()
        claim = Claim(
            queue,
            self._known.setdefault(queue, Known()),
            credit=credit,
            until=self._clock.now() + wait if wait > 0 else None,
            peer=self._peer,
            clock=self._clock,
            future=future,
            ended=self._claimed,
        )
        self._database.submit(claim)
        timer = self._loop.call_later(wait, self._stop_waiting, claim) if wait > 0 else None
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._return(future.result())
            else:
                self._stop_waiting(claim)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def rung(self, number: int) -> None:
        """Hear that there is something in a queue."""
        if number in self._parked:
            self.claim_again(number)
        else:  # nobody waits here any longer: it is for somebody else
            self._database.call(lambda sql: wake(sql, number, RECEIVER, 1)).add_done_callback(self._pass_on)

    def poll(self) -> None:
        """Look for what no bell has told us: the net below the doorbells."""
        if self._parked:
            waited = list(self._parked)
            self._database.call(lambda sql: _overdue(sql, waited, self._clock.now()), reads=True).add_done_callback(
                self._found
            )

    def clock_was_set(self, now: Instant) -> None:
        """End the waits that are over by the clock; the loop's time did not move."""
        for claim in [claim for claims in self._parked.values() for claim in claims if claim.until <= now]:
            self._stop_waiting(claim)

    def reset(self) -> None:
        """Own nothing of a file that was deleted, and look into the new one."""
        self._owner = object()
        self._known.clear()
        for number in list(self._parked):
            self.claim_again(number)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True
        for number in list(self._parked):
            for claim in self._forget_parked(number):
                if not claim.future.done():
                    claim.future.set_exception(_closed())

    def _claimed(self, claim: Claim, error: Exception | None) -> None:
        if error is not None:
            self._known.pop(claim.queue, None)
            if not claim.future.done():
                claim.future.set_exception(error)
            return
        if self._closed:  # what it took goes back with all else
            if not claim.future.done():
                claim.future.set_exception(_closed())
            return
        deliveries = claim.deliveries(self._owner)
        if claim.future.done():
            self._return(deliveries)
        elif deliveries or not claim.waits:
            claim.future.set_result(deliveries)
        else:
            self._park(claim)

    def _return(self, deliveries: list[Delivery]) -> None:
        """Give back what nobody waits for any more; after closing it goes back with all else."""
        if deliveries and not self._closed:
            self.settle([(delivery, _UNTOUCHED) for delivery in deliveries]).add_done_callback(_heed)

    def _park(self, claim: Claim) -> None:
        self._parked.setdefault(claim.number, []).append(claim)
        if claim.due is not None:
            alarm = self._alarms.pop(claim.number, None)
            if alarm is not None:
                alarm.cancel()
            delay = max(0.0, claim.due - self._clock.now())
            self._alarms[claim.number] = self._loop.call_later(delay, self.claim_again, claim.number)

    def _stop_waiting(self, claim: Claim) -> None:
        claim.waits = False
        parked = self._parked.get(claim.number, [])
        if claim not in parked:
            return  # it is being run, and ends by itself
        parked.remove(claim)
        if not claim.future.done():
            claim.future.set_result([])
        if not parked:
            self._forget_parked(claim.number)
            self._database.call(lambda sql: leave(sql, claim.number, RECEIVER, self._peer)).add_done_callback(
                lambda done: self._left(done, claim.number)
            )

    def _left(self, done: asyncio.Future[None], number: int) -> None:
        """The process waits no longer; unless another receive came meanwhile, which must enter it again."""
        _heed(done)
        self.claim_again(number)

    def _forget_parked(self, number: int) -> list[Claim]:
        alarm = self._alarms.pop(number, None)
        if alarm is not None:
            alarm.cancel()
        return self._parked.pop(number, [])

    def claim_again(self, number: int) -> None:
        """Run again the receives that wait for a queue."""
        for claim in self._forget_parked(number):
            if not claim.future.done():
                self._database.submit(claim)

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> asyncio.Future[list[Delivery]]:
        """Say what became of deliveries; return those that were lost."""
        future: asyncio.Future[list[Delivery]] = self._loop.create_future()
        if not outcomes:
            future.set_result([])
            return future
        batch = self._batch
        if batch is None or batch.weight >= _LARGEST_BATCH:
            batch = SettleBatch(self._peer, self._owner, self._clock, started=self._started)
            self._database.submit(batch)
            self._batch = batch
        batch.add(outcomes, future)
        return future

    def _started(self) -> None:
        self._batch = None

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Hold on to these for another lease; return those that were lost."""
        self._batch = None  # what is settled from now on comes after this
        wanted: dict[Hold, list[Delivery]] = {}
        alone: list[Tag] = []
        lost: list[Delivery] = []
        for delivery in deliveries:
            hold, index = delivery.tag
            if hold.owner is not self._owner or hold.settled[index]:
                lost.append(delivery)
            elif hold.first:
                wanted.setdefault(hold, []).append(delivery)
            else:
                alone.append((hold, index))
        ranges = [hold for hold, some in wanted.items() if len(some) >= hold.open]
        parts = [
            (delivery, *split(delivery)) for hold, some in wanted.items() if len(some) < hold.open for delivery in some
        ]
        until = self._clock.now() + LEASE

        def renewed(call: asyncio.Future[tuple[set[Hold], set[Tag]]]) -> None:
            """Heed what became of the parts, also when nobody waits for it any more."""
            if call.cancelled() or call.exception() is not None:
                for delivery, whole, part in parts:
                    join(delivery, whole, part)
                return
            for _, (whole, _), part in parts:
                if whole in call.result()[0]:
                    part.settled[0] = 1  # it never had a lease; the next one of this message looks the same

        try:
            call = self._database.call(
                lambda sql: renew(
                    sql,
                    self._peer,
                    ranges=ranges,
                    split=[(whole, part.ids[0]) for _, (whole, _), part in parts],
                    alone=alone,
                    until=until,
                ),
                held=True,
            )
        except UnavailableError:
            for delivery, whole, part in parts:
                join(delivery, whole, part)
            raise
        call.add_done_callback(renewed)
        lost_holds, lost_tags = await asyncio.shield(call)
        lost += [delivery for hold in lost_holds for delivery in wanted[hold]]
        lost += [delivery for delivery in deliveries if delivery.tag in lost_tags]
        return lost

    def _found(self, overdue: asyncio.Future[list[int]]) -> None:
        if not overdue.cancelled() and overdue.exception() is None:  # else the next poll looks again
            for number in overdue.result():
                self.claim_again(number)

    def _pass_on(self, rings: asyncio.Future[list[Ring]]) -> None:
        if not rings.cancelled() and rings.exception() is None:  # else their own slow poll finds it
            self._database.ring(rings.result())


def _overdue(sql: Sql, numbers: list[int], now: Instant) -> list[int]:
    return [
        number
        for number in numbers
        if sql.execute(
            OVERDUE, {"queue": number, "start": first_id(number), "end": last_id(number), "now": now}
        ).fetchall()
    ]


def _closed() -> UnavailableError:
    return UnavailableError("the transport was closed")


def _heed(done: asyncio.Future[Any]) -> None:
    """Take note of a failure that changes nothing: what was not given back comes back when its lease ends."""
    if not done.cancelled():
        done.exception()
