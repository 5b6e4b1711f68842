"""A service at work in this process: its beginning, its handlers, its end.

It begins with its lifespan, then takes messages; a drain goes the other way: no new messages, what
waits goes back untouched, what is at work ends (or, when the grace is over, is canceled and comes
again), then the lifespan is closed.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from posthouse.contracts.transport import Released
from posthouse.errors import NotServedError, OutcomeUnknownError
from posthouse.message.message import Mode
from posthouse.runtime.batch import BatchRunner
from posthouse.runtime.journal.ending import JournaledEnding
from posthouse.runtime.journal.hearing import gap_reader, reply_reader
from posthouse.runtime.receiver import Receiver
from posthouse.runtime.runner import Runner
from posthouse.runtime.workplace import Work, Workplace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from posthouse.clock import Seconds
    from posthouse.contracts.transport import Delivery
    from posthouse.declare.service import Service
    from posthouse.declare.target import Target
    from posthouse.runtime.client import Client
    from posthouse.runtime.journal.journal import Journal
    from posthouse.runtime.parts import Parts

_log: Final = logging.getLogger("posthouse.service")


class Serving:
    """One service in this process.

    Attributes:
        name: of the service.
        service: what was declared.
        journal: its store at work; None for a service that has nothing journaled.
        place: where its handlers work.
        runners: by the name of the operation or subscription.
        draining: it takes nothing more.
    """

    def __init__(
        self,
        service: Service,
        *,
        parts: Parts,
        client: Client,
        concurrency: int,
        make_again: Callable[[], Awaitable[None]],
        journal: Journal | None = None,
    ) -> None:
        self.name = service.name
        self.service = service
        self.place = Workplace(service.name, parts=parts, client=client, concurrency=concurrency)
        self.runners: dict[str, Runner] = {}
        self.draining = False
        self.journal = journal
        self._journaled: dict[str, JournaledEnding] = {}
        self._parts = parts
        self._make_again = make_again
        self._idle = asyncio.Event()
        self._receivers: list[asyncio.Task[None]] = []
        self._lifespan: asyncio.Task[None] | None = None
        self._entered = asyncio.Event()
        self._leaving = asyncio.Event()
        self._grace: asyncio.Timeout | None = None
        self._hurried = False
        if journal is not None:
            journal.here.reply_handlers = {name: heard.name for name, heard in service.reply_handlers.items()}
            journal.here.ack_handlers = {name: heard.name for name, heard in service.ack_handlers.items()}
            journal.here.window = service.capacity
            journal.here.gap_handlers = {topic: heard.name for topic, heard in service.gap_handlers.items()}
            for heard in (*service.reply_handlers.values(), *service.ack_handlers.values()):
                self._add(heard, reply_reader(heard), Mode.JOURNALED)
            for gaps in service.gap_handlers.values():
                self._add(gaps, gap_reader, Mode.JOURNALED)
        for handler in service.operations.values():
            self._add(handler, handler.operation.decode_request, handler.operation.promise)
        for subscription in service.subscriptions.values():
            self._add(subscription, subscription.event.decode, subscription.event.promise)

    def _add(self, target: Target, decode: Any, mode: Mode) -> None:
        ending = None
        if mode is Mode.JOURNALED and self.journal is not None:
            ending = self._journaled[target.name] = JournaledEnding(self.place, target, self.journal)
        kind = BatchRunner if target.batch else Runner
        runner = kind(self.place, target, decode, queued=mode is not Mode.VOLATILE, ending=ending)
        runner.on_idle = self._look_idle
        self.runners[target.name] = runner

    # --- life ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Enter the subscriptions in the store, then the lifespan; what it raises is raised here."""
        if self.journal is not None:
            heard = [each for each in self.service.subscriptions.values() if each.name in self._journaled]
            await self.journal.subscriber.declare(heard)
        if self.service.lifespan is None:
            return
        lifespan = self._lifespan = self._parts.seams.spawn(
            self._live(self.service.lifespan()), f"posthouse lifespan of {self.name}"
        )
        lifespan.add_done_callback(lambda _: self._entered.set())
        try:
            await self._entered.wait()
        except asyncio.CancelledError:
            lifespan.cancel()
            await asyncio.gather(lifespan, return_exceptions=True)
            raise
        if lifespan.done():
            self._lifespan = None
            lifespan.result()
        else:
            lifespan.add_done_callback(self._lived)

    async def _live(self, lifespan: AbstractAsyncContextManager[None]) -> None:
        """Enter and leave the lifespan in one task: a task group or a time-out in it would bear nothing else."""
        async with lifespan:
            self.place.context = copy_context()
            self._entered.set()
            await self._leaving.wait()

    def _lived(self, lifespan: asyncio.Task[None]) -> None:
        if lifespan.cancelled():
            return
        if (error := lifespan.exception()) is not None:
            when = "at its end" if self._leaving.is_set() else "while its handlers are at work"
            _log.error("%s: its lifespan failed %s", self.name, when, exc_info=error)

    def receive(self) -> None:
        """Begin to take messages."""
        if self.journal is not None:
            runners = [self.runners[name] for name in self._journaled]
            queues = [handler.name for handler in self.service.operations.values() if handler.name in self._journaled]
            self.journal.serve(runners, queues=queues, make_again=self._make_again)
        for runner in self.runners.values():
            if runner.queued and runner.name not in self._journaled:
                receiver = Receiver(runner, parts=self._parts, make_again=self._make_again)
                task = self._parts.seams.spawn(receiver.receive_all(), f"posthouse receives {runner.name}")
                self._receivers.append(task)

    async def listen(self) -> None:
        """Begin to ask for events; where new subscriptions begin is known when it returns, if publishers are there."""
        if self.journal is not None:
            await self.journal.subscriber.begin()

    async def drain(self, grace: Seconds) -> None:
        """Take no more, give back what waits, let what is at work end; after `grace` seconds cancel it."""
        self.draining = True
        for task in self._receivers:
            task.cancel()
        await asyncio.gather(*self._receivers, return_exceptions=True)
        if self.journal is not None:
            await self.journal.stop()
        for runner in self.runners.values():
            for work in runner.hand_back():
                self._give_back(work, untouched=True)
        # A journaled handler that waits for a reply is run again elsewhere, and is given it there.
        for works in await asyncio.gather(*(self.runners[name].stop_waiting() for name in self._journaled)):
            for work in works:
                self._give_back(work, untouched=True)
        try:
            async with asyncio.timeout(0.0 if self._hurried else grace) as self._grace:
                self._look_idle()
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%s: the grace is over; what is still at work is canceled and comes again", self.name)
        self._grace = None
        for works in await asyncio.gather(*(runner.stop() for runner in self.runners.values())):
            for work in works:
                self._give_back(work, untouched=False)
        for runner in self.runners.values():
            runner.close()

    def hurry(self) -> None:
        """End the grace of a drain now, or as soon as it begins."""
        self._hurried = True
        if self._grace is not None and not self._grace.expired():
            self._grace.reschedule(self.place.loop.time())

    def _look_idle(self) -> None:
        if self.draining and not any(runner.at_work for runner in self.runners.values()):
            self._idle.set()

    async def close(self) -> None:
        """Leave the lifespan; comes after `drain`."""
        self.place.close()
        self._leaving.set()
        if self._lifespan is not None:
            await asyncio.gather(self._lifespan, return_exceptions=True)  # what it raises was logged

    def _give_back(self, work: Work, *, untouched: bool) -> None:
        if work.claim is not None:
            self._journaled[work.claim.name].give_back(work)
        elif work.delivery is not None:
            self._parts.settler.add(work.delivery, Released(failed=False, untouched=untouched))
        elif work.message.reply_to:
            text = f"the instance that {work.message.type} was sent to stops"
            self.place.refuse(work.message, NotServedError(text) if untouched else OutcomeUnknownError(text))

    # --- what comes directly ---------------------------------------------------------------------------

    def volatile_runner(self, name: str) -> Runner | None:
        """Return what handles messages that no queue holds; None when this service does not take them now.

        What is declared queued is never served with less, whatever the sender thinks.
        """
        runner = self.runners.get(name)
        return None if self.draining or runner is None or runner.queued else runner

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
        return self.place.slots.taken
