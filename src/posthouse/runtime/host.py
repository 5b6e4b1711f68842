"""One process's post office: a transport, a registry, the services that it runs, the doors it opens.

What belongs to the process and not to one service lives here: the connection to the engine, the
direct path and who gets what arrives on it, heartbeats and leases. Everything is opened and closed in
one order, and every task started here is awaited here.

An engine may be wiped while we use it. Then what this process has told it is told again: the queues,
contracts and subscriptions of its services, and its instances.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import msgspec

from posthouse.backends import open_backend
from posthouse.contracts.registry import Instance
from posthouse.contracts.transport import CAPACITY_BYTES, QueueSpec
from posthouse.declare.contract_of import contract_of
from posthouse.declare.target import Handler
from posthouse.errors import ContractError, FrameError, PosthouseError, QueueFullError, UnavailableError, UsageError
from posthouse.flow.backoff import full_jitter
from posthouse.message.codec import decode_many
from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.message.names import service_of
from posthouse.runtime.answers import refuse
from posthouse.runtime.caller import Caller, not_served
from posthouse.runtime.client import Client
from posthouse.runtime.directory import Directory
from posthouse.runtime.journal.journals import OpenJournals
from posthouse.runtime.parts import Parts
from posthouse.runtime.promises import broken_promise, mode_of, needs_store
from posthouse.runtime.seams import system_seams
from posthouse.runtime.settler import Settler
from posthouse.runtime.workplace import Work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from posthouse.clock import Seconds
    from posthouse.contracts.transport import Delivery
    from posthouse.declare.service import Service
    from posthouse.declare.target import Subscription
    from posthouse.runtime.runner import Runner
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.service import Serving
    from posthouse.runtime.settings import Settings

_log: Final = logging.getLogger("posthouse.host")

# Members that are looked at for each message; in Python 3.11 a look at one through its class takes 70 ns.
_REPLY, _REQUEST, _EVENT = Kind.REPLY, Kind.REQUEST, Kind.EVENT

VOLATILE_BACKLOG: Final = 10_000
"""The most volatile messages that wait here for one handler; beyond, their callers are told at once."""


class Host:
    """What a process needs to take part; `async with` opens and closes it.

    Attributes:
        settings: how it runs here.
        seams: time, chance, ids, tasks.
        peer: where this process is reached directly.
        transport: carries messages.
        registry: knows the services.
        directory: what is known of the registry.
        caller: requests that wait for replies.
        settler: outcomes on their way to the transport.
        parts: those of these that everybody uses, in one.
    """

    directory: Directory
    caller: Caller
    settler: Settler
    parts: Parts
    journals: OpenJournals

    def __init__(self, settings: Settings, *, seams: Seams | None = None) -> None:
        self.settings = settings
        self.seams = seams or system_seams()
        self.peer = self.seams.new_id()[-16:]
        self.transport, self.registry = open_backend(settings.transport, peer=self.peer, clock=self.seams.clock)
        self._servings: dict[str, Serving] = {}
        self._present: dict[str, Instance] = {}
        self._clients: dict[str, Client] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._draining: list[Serving] = []
        self._announced: dict[str, Service] = {}
        self._wiped = asyncio.Event()
        self._opened: list[str] = []

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- life ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect to the engine, and take part.

        Raises:
            ConfigError: the engine or its place cannot be used; nothing was started.
            UnavailableError: the engine cannot be reached.
        """
        try:
            self.transport.direct.listen(self._arrived, self._lost)
            self.transport.on_reset(self._wiped.set)
            self.registry.on_reset(self._forgot)
            self._opened.append("transport")
            await self.transport.open()
            self._opened.append("registry")
            await self.registry.open()
            self.directory = Directory(self.registry, seams=self.seams)
            self._opened.append("directory")
            await self.directory.open()
            self.caller = self.make_caller()
            self.settler = Settler(self.transport, seams=self.seams)
            self.settler.open()
            self.journals = self.make_journals()
            self.parts = Parts(self.seams, self.transport, self.directory, self.caller, self.settler, self.journals)
            self._opened.append("rest")
            self._tasks = [
                self.seams.spawn(self._beat(), "posthouse heartbeat"),
                self.seams.spawn(self._renew(), "posthouse leases"),
                self.seams.spawn(self._tell_again(), "posthouse resets"),
            ]
        except BaseException:
            await self._close_opened()
            raise

    def make_caller(self) -> Caller:
        """Return what asks for this process; a test's host watches it."""
        return Caller(self.transport, self.directory, peer=self.peer, seams=self.seams)

    def make_journals(self) -> OpenJournals:
        """Return the journals of this process; a test's host plays crashes with them."""
        return OpenJournals(
            self.settings,
            transport=self.transport,
            directory=self.directory,
            settler=self.settler,
            seams=self.seams,
            peer=self.peer,
        )

    async def close(self) -> None:
        """Drain what is served without grace, and let go of everything; again is no error."""
        if "rest" in self._opened:
            for serving in self._draining:  # by a drain that was canceled
                self._servings.setdefault(serving.name, serving)
            await self.drain(grace=0.0)
        await self._close_opened()

    async def _close_opened(self) -> None:
        opened, self._opened = self._opened, []
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if "rest" in opened:
            await self.journals.close()
            self.caller.close()
            await self.settler.close()
        if "directory" in opened:
            await self.directory.close()
        if "registry" in opened:
            await self.registry.close()
        if "transport" in opened:
            await self.transport.close()

    # --- serving ---------------------------------------------------------------------------------------

    async def announce(self, *services: Service) -> None:
        """Make the queues, contracts and subscriptions of services; nothing is delivered yet.

        Raises:
            NotBuiltError: a contract is journaled.
            NotDurableError: a contract promises that messages are kept, and the engine keeps nothing.
            ContractError: a subscription means another mode than the publisher of its event.
            PosthouseError: the engine refused.
        """
        for service in services:
            self._check_promises(service)
            self._check_events(service, services)
        for service in services:
            contract = contract_of(service)
            targets = [*service.operations.values(), *service.subscriptions.values()]
            await self.transport.declare(
                *(self._queue(service, target) for target in targets if self.has_queue(target))
            )
            await self.registry.announce(msgspec.structs.replace(contract, announced=self.seams.clock.now()))
            await self._bind(service)
            self._announced[service.name] = service
        await self.directory.refresh()

    async def _bind(self, service: Service) -> None:
        """Bind the subscriptions of a service, and nothing else of it: not what an earlier program declared."""
        wanted = {
            (each.event.name, each.name)
            for each in service.subscriptions.values()
            if mode_of(each) is Mode.QUEUED  # what is journaled comes from the publisher's own store
        }
        bound = {pair for pair in await self.transport.bindings() if service_of(pair[1]) == service.name}
        for topic, queue in sorted(wanted - bound):
            await self.transport.bind(topic, queue)
        for topic, queue in sorted(bound - wanted):  # drained, not left to grow
            _log.warning("%s does not hear %s any more: it gets no new ones, what it holds stays", queue, topic)
            await self.transport.unbind(topic, queue)

    async def serve(self, *services: Service) -> None:
        """Announce services, and start to handle their messages; all subscriptions are there before the first one.

        Raises:
            UsageError: one of them is served here already.
            PosthouseError: as `announce`.
        """
        from posthouse.runtime.service import Serving

        for service in services:
            if service.name in self._servings:
                raise UsageError(f"service {service.name!r} is served by this process already")
        for service in services:
            self.journals.allow(service.name, schema=service.schema)
            self._check_promises(service)
        journals = {
            service.name: await self.journals.need(service.name)
            for service in services
            if needs_store(service) or self.journals.get(service.name) is not None
        }
        await self.announce(*services)
        begun = [
            Serving(
                service,
                parts=self.parts,
                client=self.client(service.name),
                concurrency=self.settings.service(service.name).concurrency or service.concurrency,
                make_again=partial(self.announce, service),
                journal=journals.get(service.name),
            )
            for service in services
        ]
        for serving in begun:
            self._servings[serving.name] = serving
            await serving.open()
        for serving in begun:
            serving.receive()
        await self._enter(*(self._instance(serving.name) for serving in begun))
        await asyncio.gather(*(serving.listen() for serving in begun))

    async def join(self, name: str) -> None:
        """Show this process as an instance of a service that asks and does not serve, and has a store."""
        self.journals.allow(name)
        await self.journals.need(name)
        if name not in self._present:
            await self._enter(msgspec.structs.replace(self._instance(name), serving=False))

    def client(self, name: str) -> Client:
        """Return the door of a service of this process."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = Client(self.parts, name)
        return client

    async def drain(self, grace: Seconds | None = None) -> None:
        """Take nothing more, let what is at work end, and give back the rest.

        Canceled, it leaves the rest to `close`.

        Args:
            grace: seconds for what is at work; None for that of the settings.
        """
        if not self._servings:
            return
        servings, self._servings = self._servings, {}
        self._draining = list(servings.values())
        try:
            await self._enter(
                *(
                    msgspec.structs.replace(self._present[name], draining=True)
                    for name in servings
                    if name in self._present
                )
            )
        except UnavailableError as error:
            _log.warning("nobody could be told that this instance drains: %s", error)
        wait = self.settings.grace if grace is None else grace
        await asyncio.gather(*(serving.drain(wait) for serving in servings.values()))
        try:
            async with asyncio.timeout(max(1.0, wait)):
                await self.settler.drained()
        except TimeoutError:
            _log.warning("the transport could not be told every outcome; what it does not know comes again")
        await asyncio.gather(*(serving.close() for serving in servings.values()))
        self._draining = []
        leaving = [self._present.pop(name).id for name in servings if name in self._present]
        try:
            await self.registry.leave(leaving)
        except UnavailableError as error:
            _log.warning("the registry could not be told that this instance leaves: %s", error)

    def hurry(self) -> None:
        """End the grace of a drain now."""
        for serving in self._draining:
            serving.hurry()

    def has_queue(self, target: Handler | Subscription) -> bool:
        """Say whether messages for a target may wait in a queue of the transport: journaled events never do."""
        mode = mode_of(target)
        return mode is Mode.QUEUED or (mode is Mode.JOURNALED and isinstance(target, Handler))

    def _check_promises(self, service: Service) -> None:
        for target in (*service.operations.values(), *service.subscriptions.values()):
            error = broken_promise(target, features=self.transport.features, settings=self.settings)
            if error is not None:
                raise error

    def _check_events(self, service: Service, together: Sequence[Service]) -> None:
        """See to it that no subscription waits where its event never comes; a publisher is right, whoever was first."""
        told = {name: record.mode for name, record in self.directory.events.items()}
        told |= {event.name: event.promise for each in together for event in each.events.values()}
        for subscription in service.subscriptions.values():
            ours = subscription.event.promise
            if (its := told.get(subscription.event.name, ours)) is not ours:
                raise ContractError(
                    f"{subscription.event.name} is {its.name.lower()} for its service,"
                    f" and {ours.name.lower()} for {subscription.name}"
                )
        for event in service.events.values():
            for record in self.directory.subscriptions.get(event.name, ()):
                if record.mode is not event.promise and service_of(record.name) != service.name:
                    _log.warning("%s does not hear %s: it means another mode", record.name, event.name)

    def _queue(self, service: Service, target: Handler | Subscription) -> QueueSpec:
        said = self.settings.service(service.name)
        return QueueSpec(
            target.name,
            capacity=said.capacity or service.capacity,
            capacity_bytes=said.capacity_bytes or CAPACITY_BYTES,
            overflow=said.overflow or service.overflow,
            owner=service.name,
        )

    def _instance(self, service: str) -> Instance:
        journal = self.journals.get(service)
        return Instance(
            id=self.seams.new_id(),
            service=service,
            peer=self.peer,
            pid=os.getpid(),
            host=platform.node(),
            started=self.seams.clock.now(),
            store="" if journal is None else journal.store.identity.id,
            store_epoch=0 if journal is None else journal.store.identity.epoch,
        )

    async def _enter(self, *instances: Instance) -> None:
        await self.registry.register(instances)
        self._present.update({instance.service: instance for instance in instances})
        await self.directory.refresh()

    # --- what arrives directly -------------------------------------------------------------------------

    def _arrived(self, peer: str, frames: list[bytes]) -> None:
        replies = self.caller.receive
        works: dict[Runner, list[Work]] = {}
        journaled: list[tuple[str, str, Message, bytes]] = []
        for message, frame in zip(decode_many(frames), frames, strict=True):
            if isinstance(message, FrameError):
                _log.warning("%s sent what is no frame, which was dropped: %s", peer, message)
            elif message.lane is not None:
                journaled.append((*_addressee(message, message.lane), message, frame))
            elif message.kind is _REPLY:
                replies(message)
            elif message.kind is _REQUEST or message.kind is _EVENT:
                runner = self._volatile_runner(message)
                if runner is not None:
                    works.setdefault(runner, []).append(Work(message, None))
            else:
                _log.warning("%s sent a %s message, which this version does not know", peer, message.kind.name.lower())
        if journaled:
            self.journals.arrived(journaled)
        for runner, taken in works.items():  # all at once: one turn works them off, unless it has to wait
            runner.take(taken)

    def _volatile_runner(self, message: Message) -> Runner | None:
        """Return what handles a message, or refuse it."""
        name = str(message.extensions.get("subscription", message.type)) if message.extensions else message.type
        serving = self._servings.get(service_of(name))
        runner = None if serving is None else serving.volatile_runner(name)
        if runner is None or runner.held >= VOLATILE_BACKLOG:
            error = not_served(message.type) if runner is None else QueueFullError(name, VOLATILE_BACKLOG)
            runner = None
            refuse(self.transport.direct, message, error, source=service_of(name), now=self.seams.clock.now())
        return runner

    def _lost(self, peer: str, frames: list[bytes]) -> None:
        self.caller.lost(peer, frames)
        self.journals.lost(peer)
        if any(instance.peer == peer for instance in self.directory.all_instances):
            self.directory.doubt()

    # --- an engine that was wiped ----------------------------------------------------------------------

    def _forgot(self) -> None:
        if "directory" in self._opened:
            self.directory.hold_over()
        self._wiped.set()

    async def _tell_again(self) -> None:
        failures = 0
        while True:
            await self._wiped.wait()
            self._wiped.clear()
            try:
                await self.registry.register(list(self._present.values()))
                await self.announce(*self._announced.values())
            except PosthouseError as error:
                failures += 1
                hold_off = full_jitter(failures, base=0.1, cap=5.0, rng=self.seams.rng)
                _log.warning("the engine was wiped, and cannot be told of this process yet: %s", error)
                await asyncio.sleep(hold_off)
                self._wiped.set()
            else:
                failures = 0

    # --- heartbeats and leases -------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.registry.heartbeat)
            present = [
                msgspec.structs.replace(instance, load=serving.at_work)
                if (serving := self._servings.get(instance.service))
                else instance
                for instance in self._present.values()
            ]
            try:
                await self.registry.register(present)
            except UnavailableError as error:
                _log.warning("the registry cannot be told that this instance lives: %s", error)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.transport.lease / 3)
            servings = [*self._servings.values(), *self._draining]
            held: list[Delivery] = [delivery for serving in servings for delivery in serving.deliveries]
            held += self.settler.held
            if not held:
                continue
            try:
                lost = await self.transport.renew(held)
            except UnavailableError as error:
                _log.warning("leases cannot be renewed: %s", error)
                continue
            if lost:
                _log.warning("%d leases were lost; those messages come again", len(lost))
                ids = {id(delivery) for delivery in lost}
                for serving in servings:
                    serving.forget(ids)


def _addressee(message: Message, stamps: Lane) -> tuple[str, str]:
    """Return for which service, or for which store, a journaled message is: one of both is empty."""
    if message.kind is _REPLY:
        return "", stamps.caller_store
    if message.kind is _REQUEST:
        return service_of(message.type), ""
    match message.kind:
        case Kind.ACK:
            return message.type, ""
        case Kind.CONTROL if message.type == "cancel":
            return service_of(message.subject), ""
        case Kind.CONTROL if message.type in {"pull", "heads", "probe"}:
            return message.subject, ""
        case Kind.EVENT:
            return "", ""
        case _:
            return "", stamps.caller_store
