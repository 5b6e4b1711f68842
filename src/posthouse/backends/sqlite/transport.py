"""The transport in a SQLite file: queues, topics, and the direct path.

This file joins the parts: calls become operations (sending, claiming, settling), and operations become
results. It keeps what waits: receives that found nothing, and sends that a full queue holds back. What
the operations do to the tables is known by each of them.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, Final, final

from posthouse.backends.sqlite import letters, queues
from posthouse.backends.sqlite.claiming import Claim, Known
from posthouse.backends.sqlite.direct import SqliteDirect
from posthouse.backends.sqlite.holds import join, split
from posthouse.backends.sqlite.leasing import LEASE
from posthouse.backends.sqlite.place import LONGEST_PEER
from posthouse.backends.sqlite.schema import first_id, last_id
from posthouse.backends.sqlite.sending import Lack, SendBatch
from posthouse.backends.sqlite.settling import SettleBatch, renew
from posthouse.backends.sqlite.waiting import RECEIVER, leave, wake
from posthouse.contracts.transport import Features, Released
from posthouse.errors import QueueFullError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from posthouse.backends.sqlite.database import Database
    from posthouse.backends.sqlite.holds import Hold, Tag
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.waiting import Ring
    from posthouse.clock import Clock, Instant, Seconds
    from posthouse.contracts.transport import DeadLetter, Delivery, Direct, Outcome, Outgoing, QueueInfo, QueueSpec

OVERDUE: Final = """
SELECT name FROM queues WHERE number = :queue AND (next - 1 > cursor
  OR EXISTS (SELECT 1 FROM returned WHERE queue = :queue AND due <= :now)
  OR EXISTS (SELECT 1 FROM leases WHERE first BETWEEN :start AND :end AND until <= :now))"""

_PEER: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_PEER}}}")

_UNTOUCHED: Final = Released(untouched=True)

_LARGEST_BATCH: Final = 2048
"""Messages after which a batch takes no more sends: the rest of the turn makes another transaction."""


@final
class _Held:
    """A send that waits for room.

    Args:
        messages: what to store.
        future: what its caller waits for.
    """

    __slots__ = ("deadline", "ends", "future", "lack", "messages", "timer")

    def __init__(self, messages: Sequence[Outgoing], future: asyncio.Future[None]) -> None:
        self.messages = messages
        self.future = future
        self.lack = Lack("", 0, "messages")
        self.deadline: Instant = 0.0  # when it is held back no longer, by the clock, should that be set by hand,
        self.ends = 0.0  # and by the loop's time; whichever comes first
        self.timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Stop the time."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def fail(self, error: Exception) -> None:
        """Tell that it was not stored."""
        self.stop()
        if not self.future.done():
            self.future.set_exception(error)


@final
class SqliteTransport:
    """Carries frames through the file of a data directory; see contracts.transport.Transport.

    Args:
        database: the file, shared with the registry of this process.
        peer: the id of this process, which no other process has: the holder of its leases, and the name
            of its sockets; a word of at most 32 letters, digits, `-` and `_`.
        clock: tells when leases end and delays are over.
        overflow_wait: how long a send is held back by a full queue, in seconds.

    Raises:
        ValueError: the peer is not such a word.
    """

    features: Features = Features(durable=True)

    def __init__(self, database: Database, *, peer: str, clock: Clock, overflow_wait: Seconds = 5.0) -> None:
        if not _PEER.fullmatch(peer):
            raise ValueError(
                f"a peer's id is a word of at most {LONGEST_PEER} letters, digits, '-' and '_', not {peer!r}"
            )
        database.peer = peer
        database.queue_rung = self._rung
        database.polls.append(self._poll)
        self._database = database
        self._peer = peer
        self._clock = clock
        self._overflow_wait = overflow_wait
        self._is_open = False
        self._unwatch: Callable[[], None] | None = None  # ends what a clock that is set by hand tells us
        self._loop: asyncio.AbstractEventLoop
        self._owner: object = object()  # of the holds; a new one each time we open
        self._sending: SendBatch | None = None
        self._settling: SettleBatch | None = None
        self._known: dict[str, Known] = {}
        self._numbers: dict[str, int] = {}  # of the queues that are sent to
        self._parked: dict[int, list[Claim]] = {}  # receives that wait, by the number of their queue
        self._alarms: dict[int, asyncio.TimerHandle] = {}  # when something of a waited-for queue is due
        self._held: dict[str, deque[_Held]] = {}  # sends that wait for room, by the queue that is full
        self._again: dict[asyncio.Future[None], _Held] = {}  # of these, those that are being tried again
        self._direct = SqliteDirect(peer, broken=database.bury)
        self.direct: Direct = self._direct

    @property
    def lease(self) -> Seconds:
        """How long a delivery is held before it must be renewed."""
        return LEASE

    async def open(self) -> None:
        """Open the file and be reachable."""
        if self._is_open:
            return
        self._loop = asyncio.get_running_loop()
        await self._database.open()
        wake: Callable[[Callable[[], None]], Callable[[], None]] | None = getattr(self._clock, "wake", None)
        self._unwatch = wake(self._clock_was_set) if wake is not None else None
        try:
            await self._direct.open(self._database.sockets)
        except BaseException:
            await self._database.close()
            raise
        self._is_open = True

    async def close(self) -> None:
        """Give back every lease as untouched, and close."""
        if not self._is_open:
            return
        self._is_open = False
        if self._unwatch is not None:
            self._unwatch()
        await self._direct.close()
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        for claims in self._parked.values():
            for claim in claims:
                if not claim.future.done():
                    claim.future.set_exception(_closed())
        self._parked.clear()
        for sends in self._held.values():
            for send in sends:
                send.fail(_closed())
        self._held.clear()
        await self._database.close()
        self._owner = object()

    def _must_be_open(self) -> None:
        if not self._is_open:
            raise UnavailableError(f"the transport at {self._database.directory} is not open")

    async def declare(self, *queues_: QueueSpec) -> None:
        """Make these queues, or bring their limits up to date."""
        self._ring(await self._database.call(lambda sql: queues.declare(sql, queues_, self._peer), flush=True))

    async def delete(self, queue: str) -> None:
        """Remove a queue with all that it holds."""
        self._ring(await self._database.call(lambda sql: queues.delete(sql, queue), flush=True))

    async def bind(self, topic: str, queue: str) -> None:
        """Let a topic go to a queue too."""
        await self._database.call(lambda sql: queues.bind(sql, topic, queue), flush=True)

    async def unbind(self, topic: str, queue: str) -> None:
        """Let it no longer."""
        await self._database.call(lambda sql: queues.unbind(sql, topic, queue), flush=True)

    # --- sending -------------------------------------------------------------------------------------

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these, all or none; they are on the disk when the awaitable is done."""
        self._must_be_open()
        future: asyncio.Future[None] = self._loop.create_future()
        if not messages:
            future.set_result(None)
        elif self._held and not messages[0].topic and messages[0].address in self._held:
            self._hold(_Held(messages, future), Lack(messages[0].address, 0, "messages"))
        else:
            self._join(messages, future)
        return future

    def _join(self, messages: Sequence[Outgoing], future: asyncio.Future[None]) -> None:
        batch = self._sending
        if batch is None or batch.weight >= _LARGEST_BATCH:
            batch = SendBatch(self._peer, self._clock, self._numbers, started=self._sends_started, ended=self._sent)
            self._database.submit(batch)
            self._sending = batch
        batch.sends.append(messages)
        batch.futures.append(future)
        batch.weight += len(messages)

    def _sends_started(self) -> None:
        self._sending = None

    def _sent(self, batch: SendBatch, error: Exception | None) -> None:
        if error is None and not batch.refused and not self._again:
            for future in batch.futures:
                if not future.done():
                    future.set_result(None)
            return
        for place, future in enumerate(batch.futures):
            refusal = error or batch.refused.get(place)
            waited = self._again.pop(future, None)
            if isinstance(refusal, Lack):  # even if its caller has stopped waiting: it is on its way
                self._hold(waited or _Held(batch.sends[place], future), refusal)
            elif future.done():
                continue
            elif refusal is not None:
                future.set_exception(refusal)
            else:
                future.set_result(None)

    def _hold(self, send: _Held, lack: Lack) -> None:
        """Keep a send until there is room, behind those that wait for the same room."""
        send.lack = lack
        if not self._is_open:
            send.fail(_closed())
            return
        if not send.ends:
            send.deadline = self._clock.now() + self._overflow_wait
            send.ends = self._loop.time() + self._overflow_wait
        send.timer = self._loop.call_at(send.ends, self._give_up, send)
        self._held.setdefault(lack.queue, deque()).append(send)

    def _give_up(self, send: _Held) -> None:
        held = self._held[send.lack.queue]
        held.remove(send)
        if not held:
            del self._held[send.lack.queue]
        send.fail(QueueFullError(*send.lack))

    def _try_again(self, queue: str) -> None:
        """Send again what waits for room in a queue, in its order."""
        for send in self._held.pop(queue, ()):
            send.stop()
            self._again[send.future] = send
            self._join(send.messages, send.future)

    # --- receiving -----------------------------------------------------------------------------------

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Take up to `credit` messages, oldest first; wait for the first one up to `wait`."""
        self._must_be_open()
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

    def _claimed(self, claim: Claim, error: Exception | None) -> None:
        if error is not None:
            self._known.pop(claim.queue, None)
            if not claim.future.done():
                claim.future.set_exception(error)
            return
        if not self._is_open:  # what it took goes back with all else
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
        """Give back what nobody waits for any more."""
        if deliveries:
            self.settle([(delivery, _UNTOUCHED) for delivery in deliveries])

    def _park(self, claim: Claim) -> None:
        self._parked.setdefault(claim.number, []).append(claim)
        if claim.due is not None:
            alarm = self._alarms.pop(claim.number, None)
            if alarm is not None:
                alarm.cancel()
            delay = max(0.0, claim.due - self._clock.now())
            self._alarms[claim.number] = self._loop.call_later(delay, self._claim_again, claim.number)

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
            self._database.call(lambda sql: leave(sql, claim.number, RECEIVER, self._peer)).add_done_callback(_heed)

    def _forget_parked(self, number: int) -> list[Claim]:
        alarm = self._alarms.pop(number, None)
        if alarm is not None:
            alarm.cancel()
        return self._parked.pop(number, [])

    def _claim_again(self, number: int) -> None:
        for claim in self._forget_parked(number):
            if not claim.future.done():
                self._database.submit(claim)

    # --- what wakes us -------------------------------------------------------------------------------

    def _rung(self, number: int, role: int) -> None:
        if role != RECEIVER:
            self._try_again_all()
        elif number in self._parked:
            self._claim_again(number)
        else:  # we wait no longer: it is for somebody else
            self._database.call(lambda sql: wake(sql, number, RECEIVER, 1)).add_done_callback(self._ring_result)

    def _try_again_all(self) -> None:
        for queue in list(self._held):
            self._try_again(queue)

    def _clock_was_set(self) -> None:
        """Look what is due now: timers run by the loop's time, which did not move."""
        now = self._clock.now()
        for send in [send for held in self._held.values() for send in held if send.deadline <= now]:
            self._give_up(send)
        for claim in [claim for claims in self._parked.values() for claim in claims if claim.until <= now]:
            self._stop_waiting(claim)
        self._poll()

    def _poll(self) -> None:
        """Look for what no bell has told us: the net below the doorbells."""
        self._try_again_all()
        if self._parked:
            waited = list(self._parked)
            self._database.call(lambda sql: _overdue(sql, waited, self._clock.now()), reads=True).add_done_callback(
                self._found
            )

    def _found(self, overdue: asyncio.Future[list[int]]) -> None:
        if not overdue.cancelled() and overdue.exception() is None:
            for number in overdue.result():
                self._claim_again(number)

    def _ring(self, rings: list[Ring]) -> None:
        if rings:
            self._database.ring(rings)

    def _ring_result(self, rings: asyncio.Future[list[Ring]]) -> None:
        if not rings.cancelled() and rings.exception() is None:
            self._ring(rings.result())

    # --- settling ------------------------------------------------------------------------------------

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries; return those that were lost."""
        self._must_be_open()
        future: asyncio.Future[list[Delivery]] = self._loop.create_future()
        if not outcomes:
            future.set_result([])
            return future
        batch = self._settling
        if batch is None or batch.weight >= _LARGEST_BATCH:
            batch = SettleBatch(self._peer, self._owner, self._clock, started=self._settles_started)
            self._database.submit(batch)
            self._settling = batch
        batch.add(outcomes, future)
        return future

    def _settles_started(self) -> None:
        self._settling = None

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Hold on to these for another lease; return those that were lost."""
        self._settling = None  # what is settled from now on comes after this
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
        ranges = [hold for hold, some in wanted.items() if len(some) == hold.open]
        parts = [
            (delivery, *split(delivery)) for hold, some in wanted.items() if len(some) < hold.open for delivery in some
        ]
        until = self._clock.now() + LEASE
        try:
            lost_holds, lost_tags = await self._database.call(
                lambda sql: renew(
                    sql,
                    self._peer,
                    ranges=ranges,
                    split=[(whole, part.ids[0]) for _, (whole, _), part in parts],
                    alone=alone,
                    until=until,
                )
            )
        except UnavailableError:
            for delivery, whole, part in parts:
                join(delivery, whole, part)
            raise
        lost += [delivery for hold in lost_holds for delivery in wanted[hold]]
        lost += [delivery for delivery in deliveries if delivery.tag in lost_tags]
        return lost

    # --- inspection ----------------------------------------------------------------------------------

    async def queues(self) -> list[QueueInfo]:
        """Return what every queue holds."""
        return await self._database.call(lambda sql: queues.inspect(sql, self._clock.now()), reads=True)

    async def bindings(self) -> list[tuple[str, str]]:
        """Return every (topic, queue)."""
        return await self._database.call(queues.bindings, reads=True)

    async def peek(self, queue: str, *, limit: int = 20) -> list[Delivery]:
        """Return the oldest messages without taking them."""
        return await self._database.call(lambda sql: queues.peek(sql, queue, limit), reads=True)

    async def dead(self, *, queue: str = "", after: str = "", limit: int = 100) -> list[DeadLetter]:
        """Return dead letters, oldest first."""
        return await self._database.call(
            lambda sql: letters.listed(sql, queue=queue, after=after, limit=limit), reads=True
        )

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Put dead letters back into their queues; return the ids that were there."""
        done, rings = await self._database.call(lambda sql: letters.replay(sql, ids, self._clock.now()), flush=True)
        self._ring(rings)
        return done

    async def drop(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters; return the ids that were there."""
        return await self._database.call(lambda sql: letters.drop(sql, ids), flush=True)


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


def _heed(done: asyncio.Future[None]) -> None:
    """Take note of a failure that changes nothing: a row of `waiting` that stays is passed on when it is rung."""
    if not done.cancelled():
        done.exception()
