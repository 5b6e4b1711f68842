"""How messages come in: all of one send, or none; and what happens when there is no room.

A send is planned (which queue gets which frames), judged (is there room in every one?), and then
carried out in one step, or refused, or held back until there is room. A send that is held back is
on its way: it is stored when its turn comes, whether or not its sender still waits for it. Sends to
one queue are held back in their order, and a later one does not slip past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from posthouse.backends.memory.alarm import Alarm
from posthouse.errors import QueueFullError, QueueUnknownError, UnavailableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from posthouse.backends.memory.queue import Queue
    from posthouse.backends.memory.stock import Stock
    from posthouse.clock import Seconds
    from posthouse.contracts.transport import Outgoing

    Plan: TypeAlias = dict[str, list[bytes]]


class _Stored:
    """What a send gives back when the messages are stored: awaiting it lets one turn of the loop pass.

    Without that turn, a sender in a loop would keep everybody else from running.
    """

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


STORED = _Stored()


class Obstacle(NamedTuple):
    """The queue that has no room for a send, what it lacks, and whether room may come."""

    queue: Queue
    unit: str
    passing: bool

    def error(self) -> QueueFullError:
        """Return it as the sender is told."""
        spec = self.queue.spec
        return QueueFullError(spec.name, spec.capacity if self.unit == "messages" else spec.capacity_bytes, self.unit)


class Held:
    """A send that waits for room."""

    __slots__ = ("alarm", "messages", "obstacle", "sender", "stored")

    def __init__(self, stock: Stock, messages: list[Outgoing], obstacle: Obstacle, sender: str) -> None:
        self.messages = messages
        self.obstacle = obstacle
        self.sender = sender
        self.stored: asyncio.Future[None] = stock.loop.create_future()
        self.alarm = Alarm(stock.alarms, lambda: give_up(stock, self), patient=True)

    def end(self, error: Exception | None) -> None:
        """Tell the sender, if it still waits."""
        self.alarm.cancel()
        if self.stored.done():  # canceled
            return
        if error is None:
            self.stored.set_result(None)
        else:
            self.stored.set_exception(error)


def take_in(stock: Stock, messages: Sequence[Outgoing], *, sender: str, overflow_wait: Seconds) -> Awaitable[None]:
    """Store these messages, or refuse them, or hold them back."""
    try:
        plan = _plan(stock, messages)
    except QueueUnknownError as error:
        return _failed(stock.loop, error)
    obstacle = _obstacle(stock, plan, behind_others=True)
    if obstacle is None:
        _store(stock, plan)
        return STORED
    if not obstacle.passing:
        return _failed(stock.loop, obstacle.error())
    held = Held(stock, list(messages), obstacle, sender)
    obstacle.queue.held.append(held)
    held.alarm.set(stock.clock.now() + overflow_wait)
    return held.stored


def admit(stock: Stock, queue: Queue) -> None:
    """Store what was held back at this queue, as far as there is room now; in order."""
    while queue.held:
        held: Held = queue.held[0]
        error: Exception | None = None
        try:
            plan = _plan(stock, held.messages)
        except QueueUnknownError as unknown:
            error = unknown
        else:
            obstacle = _obstacle(stock, plan, behind_others=False)
            if obstacle is None:
                _store(stock, plan)
            elif not obstacle.passing:
                error = obstacle.error()
            else:
                held.obstacle = obstacle
                if obstacle.queue is queue:
                    return
                queue.held.popleft()
                obstacle.queue.held.append(held)
                continue
        queue.held.popleft()
        held.end(error)


def give_up(stock: Stock, held: Held) -> None:
    """Refuse a send that was held back for as long as may be."""
    queue = held.obstacle.queue
    queue.held.remove(held)
    held.end(held.obstacle.error())
    admit(stock, queue)  # a smaller one behind it may fit


def send_away(queue: Queue, which: Callable[[Held], bool], error: Exception) -> None:
    """Refuse those sends that are held back at this queue and are meant."""
    for held in [held for held in queue.held if which(held)]:
        queue.held.remove(held)
        held.end(error)


def send_away_from(queue: Queue, sender: str) -> None:
    """Refuse what a sender that closes has waiting here."""
    send_away(queue, lambda held: held.sender == sender, UnavailableError("the transport was closed"))


def room_for(queue: Queue, frames: Sequence[bytes]) -> Obstacle | None:
    """Return what keeps these frames out of a queue, whatever it does about overflow."""
    spec = queue.spec
    if queue.count + len(frames) > spec.capacity:
        return Obstacle(queue, "messages", passing=False)
    if queue.size + sum(map(len, frames)) > spec.capacity_bytes:
        return Obstacle(queue, "bytes", passing=False)
    return None


def _plan(stock: Stock, messages: Sequence[Outgoing]) -> Plan:
    plan: Plan = {}
    for message in messages:
        if message.topic:
            for name in stock.bindings.get(message.address, ()):
                plan.setdefault(name, []).append(message.frame)
        elif message.address in stock.queues:
            plan.setdefault(message.address, []).append(message.frame)
        else:
            raise QueueUnknownError(f"nobody declared the queue {message.address!r}")
    return plan


def _obstacle(stock: Stock, plan: Plan, *, behind_others: bool) -> Obstacle | None:
    for name, frames in plan.items():
        queue = stock.queues[name]
        spec = queue.spec
        if spec.overflow == "drop-oldest":
            obstacle = _too_large(queue, frames)
        else:
            obstacle = room_for(queue, frames)
            if spec.overflow == "wait":
                if obstacle is not None:
                    fits_when_empty = len(frames) <= spec.capacity and sum(map(len, frames)) <= spec.capacity_bytes
                    obstacle = obstacle._replace(passing=fits_when_empty)
                elif behind_others and queue.held:
                    obstacle = queue.held[0].obstacle._replace(queue=queue, passing=True)
        if obstacle is not None:
            return obstacle
    return None


def _too_large(queue: Queue, frames: Sequence[bytes]) -> Obstacle | None:
    """Return what keeps frames out of a queue that drops: a delivered message cannot be dropped."""
    spec = queue.spec
    count, size = queue.leased_now()
    if count >= spec.capacity:
        return Obstacle(queue, "messages", passing=False)
    if size + max(map(len, frames)) > spec.capacity_bytes:
        return Obstacle(queue, "bytes", passing=False)
    return None


def _store(stock: Stock, plan: Plan) -> None:
    now = stock.clock.now()
    for name, frames in plan.items():
        queue = stock.queues[name]
        dropping = queue.spec.overflow == "drop-oldest"
        for frame in frames:
            while dropping and room_for(queue, (frame,)) is not None and queue.drop_oldest():
                pass
            stock.numbers += 1
            queue.put(stock.numbers, frame, now)
        queue.wake()


def _failed(loop: asyncio.AbstractEventLoop, error: Exception) -> asyncio.Future[None]:
    failed: asyncio.Future[None] = loop.create_future()
    failed.set_exception(error)
    return failed
