"""The transport contract on a broker in memory: what becomes of a delivery, and who waits for one.

All is done at the call; what is awaited is only that one turn of the loop passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from posthouse.backends.memory.direct import MemoryDirect
from posthouse.backends.memory.intake import admit, send_away_from, take_in
from posthouse.backends.memory.queue import Waiter
from posthouse.contracts.transport import Accepted, DeadLetter, Delivery, Features, QueueInfo, Rejected, Released
from posthouse.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from posthouse.backends.memory.broker import Broker
    from posthouse.backends.memory.queue import Queue
    from posthouse.clock import Clock, Seconds
    from posthouse.contracts.transport import Direct, Outcome, Outgoing, QueueSpec

LEASE: Final[Seconds] = 30.0
OVERFLOW_WAIT: Final[Seconds] = 5.0


class _Settled:
    """What `settle` gives back: the deliveries that were lost, after one turn of the loop."""

    __slots__ = ("_lost",)

    def __init__(self, lost: list[Delivery]) -> None:
        self._lost = lost

    def __await__(self) -> Generator[None, None, list[Delivery]]:
        yield
        return self._lost


class MemoryTransport:
    """Carries frames between those who share a broker.

    Args:
        broker: what they share.
        peer: where this user is reached directly; unique on the broker.
        clock: what time it is, if this user is the first to open the broker.
        lease: how long a delivery is held before it must be renewed, in seconds.
        overflow_wait: how long a send waits for room in a full queue that says `wait`, in seconds.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        peer: str,
        clock: Clock,
        lease: Seconds = LEASE,
        overflow_wait: Seconds = OVERFLOW_WAIT,
    ) -> None:
        self.features = Features(durable=False, shared=False)
        self.direct: Direct = MemoryDirect(broker, peer)
        self._direct = self.direct
        self._broker = broker
        self._clock = clock
        self._lease = lease
        self._overflow_wait = overflow_wait
        self._peer = peer
        self._is_open = False
        self._resets: list[Callable[[], None]] = []

    @property
    def lease(self) -> Seconds:
        """How long a delivery is held before it must be renewed."""
        return self._lease

    async def open(self) -> None:
        """Join the broker.

        Raises:
            UsageError: the broker is used in another event loop, or has a user of this peer name.
        """
        if self._is_open:
            return
        self._broker.join(self, self._clock, peer=self._peer, resets=self._resets)
        self._is_open = True
        self._direct.open()

    async def close(self) -> None:
        """Give back every lease that is still held, as untouched, and leave the broker."""
        if not self._is_open:
            return
        self._is_open = False
        self._direct.close()
        broker = self._broker
        for queue in list(broker.stock.queues.values()):
            if queue.spec.ephemeral and queue.declared_by == self._peer:
                broker.delete(queue.spec.name)
                continue
            for waiter in [waiter for waiter in queue.waiters if waiter.peer == self._peer]:
                waiter.fail(UnavailableError("the transport was closed"))
            send_away_from(queue, self._peer)
            for tag in queue.tags_of(self._peer):
                queue.give_back(tag, untouched=True)
            queue.wake()
        broker.quit(self)

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the broker was wiped."""
        self._resets.append(callback)

    # --- queues and topics ---------------------------------------------------------------------------

    async def declare(self, *queues: QueueSpec) -> None:
        """Make these queues, or bring their limits up to date. What they hold stays."""
        self._must_be_open()
        for spec in queues:
            self._broker.declare(spec, by=self._peer)

    async def delete(self, queue: str) -> None:
        """Remove a queue with all that it holds, and its bindings; no error when there is none."""
        self._must_be_open()
        self._broker.delete(queue)

    async def bind(self, topic: str, queue: str) -> None:
        """From now on, what is sent to the topic goes to this queue too. Twice is once.

        Raises:
            QueueUnknownError: nobody declared the queue.
        """
        self._must_be_open()
        self._broker.stock.bind(topic, queue)

    async def unbind(self, topic: str, queue: str) -> None:
        """From now on, no longer; what the queue holds stays."""
        self._must_be_open()
        self._broker.stock.unbind(topic, queue)

    # --- messages ------------------------------------------------------------------------------------

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these, all or none.

        Raises (when awaited):
            QueueUnknownError: nobody declared the queue.
            QueueFullError: it is full and rejects, or a sender was held back for `overflow_wait`.
        """
        self._must_be_open()
        return take_in(self._broker.stock, messages, sender=self._peer, overflow_wait=self._overflow_wait)

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Take up to `credit` messages, oldest first; wait for the first one up to `wait`.

        Raises:
            QueueUnknownError: nobody declared the queue, or it was deleted meanwhile.
        """
        self._must_be_open()
        stock = self._broker.stock
        source = stock.queue(queue)
        deliveries = self._take(source, credit)
        if deliveries or wait <= 0 or credit <= 0:
            return deliveries
        waiter = Waiter(self._peer, stock.loop.create_future(), stock.alarms)
        waiter.alarm.set(stock.clock.now() + wait)
        try:
            while not deliveries:
                deliveries = await self._take_when_woken(source, credit, waiter)
                if deliveries is None:
                    return []
            return deliveries
        finally:
            waiter.alarm.cancel()

    async def _take_when_woken(self, source: Queue, credit: int, waiter: Waiter) -> list[Delivery] | None:
        """Wait for one wake-up and take what is there then; None when the time is over."""
        waiter.woken = self._broker.stock.loop.create_future()
        source.waiters.append(waiter)
        source.await_time()
        try:
            more_may_come = await waiter.woken
        except BaseException:
            if waiter in source.waiters:
                source.waiters.remove(waiter)
            else:
                source.wake()  # it was woken and cannot look any more: the next one must
            raise
        if waiter in source.waiters:  # its time is over, and nobody woke it
            source.waiters.remove(waiter)
        self._must_be_open()
        deliveries = self._take(source, credit)
        return deliveries if deliveries or more_may_come else None

    def _take(self, source: Queue, credit: int) -> list[Delivery]:
        tag = self._broker.stock.next_numbers(max(credit, 0))
        return source.take(credit, holder=self._peer, lease=self._lease, tag=tag)

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries; return those whose lease was lost, which were not settled."""
        self._must_be_open()
        broker, stock = self._broker, self._broker.stock
        lost: list[Delivery] = []
        touched: dict[Queue, None] = {}
        for delivery, outcome in outcomes:
            queue = stock.queues.get(delivery.queue)
            if queue is None or queue.held_by(delivery.tag) is None:
                lost.append(delivery)
                continue
            match outcome:
                case Accepted():
                    queue.finish(delivery.tag)
                case Released(after, failed, untouched):
                    queue.give_back(delivery.tag, after=after, failed=failed, untouched=untouched)
                case Rejected():
                    broker.bury(queue, delivery.tag, outcome)
                case _:
                    assert_never(outcome)
            touched[queue] = None
        for queue in touched:
            admit(stock, queue)
            queue.wake()
        return _Settled(lost)

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Hold on to these for another lease; return those that were lost."""
        self._must_be_open()
        queues = self._broker.stock.queues
        return [
            delivery
            for delivery in deliveries
            if delivery.queue not in queues or not queues[delivery.queue].renew(delivery.tag, self._lease)
        ]

    # --- looking in ----------------------------------------------------------------------------------

    async def queues(self) -> list[QueueInfo]:
        """Return what every queue holds, by name."""
        self._must_be_open()
        return self._broker.infos(lease=self._lease)

    async def bindings(self) -> list[tuple[str, str]]:
        """Return every (topic, queue), sorted."""
        self._must_be_open()
        return sorted((topic, queue) for topic, bound in self._broker.stock.bindings.items() for queue in bound)

    async def peek(self, queue: str, *, limit: int = 20) -> list[Delivery]:
        """Return the oldest messages without taking them; their tags settle nothing.

        Raises:
            QueueUnknownError: nobody declared the queue.
        """
        self._must_be_open()
        return self._broker.stock.queue(queue).peek(limit)

    async def dead(self, *, queue: str = "", after: str = "", limit: int = 100) -> list[DeadLetter]:
        """Return dead letters, oldest first."""
        self._must_be_open()
        return self._broker.letters(queue=queue, after=after, limit=limit)

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Put dead letters back into their queues, as new deliveries; return the ids that were there.

        Raises:
            QueueUnknownError: the queue of one is gone; none was put back.
        """
        self._must_be_open()
        return self._broker.replay(ids)

    async def drop(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters; return the ids that were there."""
        self._must_be_open()
        return self._broker.drop(ids)

    def _must_be_open(self) -> None:
        if not self._is_open:
            raise UnavailableError("the transport is not open")
