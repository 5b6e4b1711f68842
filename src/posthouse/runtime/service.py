"""A service at work in this process: its handlers, their slots, its beginning and its end.

It begins with its lifespan, then takes messages; a drain goes the other way: no new messages, what
waits goes back untouched, what is at work ends (or, when the grace is over, is canceled and comes
again), then the lifespan is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from posthouse.contracts.transport import Released
from posthouse.errors import NotServedError
from posthouse.flow.concurrency import Slots
from posthouse.runtime.answers import answer, refuse
from posthouse.runtime.batch import BatchRunner
from posthouse.runtime.ending import Work
from posthouse.runtime.receiver import Receiver
from posthouse.runtime.runner import Runner

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from posthouse.clock import Seconds
    from posthouse.contracts.transport import Delivery
    from posthouse.declare.service import Service
    from posthouse.declare.target import Handler, Subscription
    from posthouse.errors import PosthouseError
    from posthouse.message.message import Message
    from posthouse.runtime.host import Host
    from posthouse.runtime.runner import Turn

_log: Final = logging.getLogger("posthouse.service")

THREADS: Final = 1024
"""The most threads for plain `def` handlers of a service: those at work, and those that wait for a reply."""


class Serving:
    """One service in this process.

    Attributes:
        host: whose process it is.
        service: what was declared.
        client: sends and asks in its name.
        settler: tells the transport about its deliveries.
        slots: how many of its handlers may be at work at once.
        runners: by the name of the operation or subscription.
    """

    def __init__(self, host: Host, service: Service) -> None:
        settings = host.settings.services.get(service.name)
        self.host = host
        self.service = service
        self.name = service.name
        self.loop = asyncio.get_running_loop()
        self.client = host.client(service.name)
        self.settler = host.settler
        self.slots = Slots((settings.concurrency if settings else None) or service.concurrency)
        self.runners: dict[str, Runner] = {}
        self.draining = False
        self._idle = asyncio.Event()
        self._hungry: deque[Runner] = deque()
        self._resuming: deque[tuple[Turn, asyncio.Future[None]]] = deque()
        self._receivers: list[asyncio.Task[None]] = []
        self._lifespan = AsyncExitStack()
        self._pool: ThreadPoolExecutor | None = None
        for handler in service.operations.values():
            self._add(handler, handler.operation.decode_request)
        for subscription in service.subscriptions.values():
            self._add(subscription, subscription.event.decode)

    def _add(self, target: Handler | Subscription, decode: Any) -> None:
        kind = BatchRunner if target.batch else Runner
        self.runners[target.name] = kind(self, target, decode)

    # --- life ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Enter the lifespan."""
        if self.service.lifespan is not None:
            await self._lifespan.enter_async_context(self.service.lifespan())

    def receive(self) -> None:
        """Begin to take messages."""
        for target in (*self.service.operations.values(), *self.service.subscriptions.values()):
            if self.host.is_queued(target):
                receiver = Receiver(self, self.runners[target.name])
                self._receivers.append(
                    self.host.seams.spawn(receiver.receive_all(), f"posthouse receives {target.name}")
                )

    async def drain(self, grace: Seconds) -> None:
        """Take no more, give back what waits, let what is at work end; after `grace` seconds cancel it."""
        self.draining = True
        for task in self._receivers:
            task.cancel()
        await asyncio.gather(*self._receivers, return_exceptions=True)
        for runner in self.runners.values():
            for work in runner.hand_back():
                self._give_back(work, untouched=True)
        try:
            async with asyncio.timeout(grace):
                self.turn_ended()
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%s: after %g s of grace, what is still at work is canceled and comes again", self.name, grace)
        for runner in self.runners.values():
            for work in await runner.stop():
                self._give_back(work, untouched=False)
            runner.close()

    def turn_ended(self) -> None:
        """Look whether a drain has nothing more to wait for."""
        if not any(runner.at_work for runner in self.runners.values()):
            self._idle.set()

    async def close(self) -> None:
        """Leave the lifespan; comes after `drain`."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        await self._lifespan.aclose()

    def _give_back(self, work: Work, *, untouched: bool) -> None:
        if work.delivery is not None:
            self.settler.add(work.delivery, Released(failed=False, untouched=untouched))
        elif work.message.reply_to:
            self.refuse(work.message, NotServedError(f"the instance that {work.message.type} was sent to stops"))

    # --- what comes directly ---------------------------------------------------------------------------

    def take_volatile(self, name: str, message: Message) -> bool:
        """Handle a message that no queue holds; return False when this service does not take it."""
        runner = self.runners.get(name)
        if self.draining or runner is None:
            return False
        runner.take((Work(message, None),))
        return True

    # --- slots -----------------------------------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for a slot."""
        return bool(self._hungry or self._resuming)

    def take_slot(self, runner: Runner) -> bool:
        """Hold a slot for a runner; one that gets none is started when there is one."""
        if not runner.slots.take():
            return False  # one of its own turns will look at the backlog again
        if self._resuming or not self.slots.take():
            runner.slots.give()
            if runner not in self._hungry:
                self._hungry.append(runner)
            return False
        return True

    def give_slot(self, runner: Runner) -> None:
        """Give a slot back, to whoever waits for one: first those who had begun."""
        runner.slots.give()
        self.slots.give()
        for _ in range(len(self._resuming)):
            turn, woken = self._resuming.popleft()
            if woken.done():
                continue
            if self._hold(turn):
                woken.set_result(None)
                return
            self._resuming.append((turn, woken))
        if self._hungry:
            self._hungry.popleft().start_soon()

    def pause(self, turn: Turn) -> None:
        """Give up the slot of a turn that waits for a reply."""
        if turn.has_slot:
            turn.has_slot = False
            self.give_slot(turn.runner)

    async def resume(self, turn: Turn) -> None:
        """Hold a slot again; waits for one."""
        if self._hold(turn):
            return
        woken: asyncio.Future[None] = self.loop.create_future()
        self._resuming.append((turn, woken))
        await woken

    def _hold(self, turn: Turn) -> bool:
        if not turn.runner.slots.take():
            return False
        if not self.slots.take():
            turn.runner.slots.give()
            return False
        turn.has_slot = True
        return True

    def threads(self) -> ThreadPoolExecutor:
        """Return the threads of plain `def` handlers; slots say how many are used."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"posthouse-{self.name}")
        return self._pool

    # --- answers ---------------------------------------------------------------------------------------

    def reply(self, request: Message, data: bytes) -> None:
        """Answer a request with data."""
        answer(self.host.transport.direct, request, data, None, source=self.name, now=self.host.seams.clock.now())

    def refuse(self, request: Message, error: PosthouseError) -> None:
        """Answer a request with an error."""
        refuse(self.host.transport.direct, request, error, source=self.name, now=self.host.seams.clock.now())

    # --- leases ----------------------------------------------------------------------------------------

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries that are here."""
        return [delivery for runner in self.runners.values() for delivery in runner.deliveries]

    def forget(self, lost: set[int]) -> None:
        """Drop what waits of the deliveries, by id(), whose lease was lost."""
        for runner in self.runners.values():
            runner.forget(lost)

    @property
    def at_work(self) -> int:
        """Handlers at work."""
        return self.slots.taken
