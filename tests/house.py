"""Hosts on a broker in memory, for tests of the runtime: open them, look into them, and all are closed.

The stores of their services lie in memory too, under the name of the broker. What is asked of a house is the same for
queues and for stores, so that one test can say what both modes promise.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from posthouse.backends import open_store
from posthouse.backends.sqlite.store import MemoryDisk
from posthouse.errors import FrameError, OutcomeUnknownError, PendingError
from posthouse.message.codec import decode, decode_many
from posthouse.message.names import service_of
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.outbox import CallState
from posthouse.runtime.seams import seeded_seams
from posthouse.runtime.settings import Settings
from posthouse.testing.loop import LoopClock
from posthouse.testing.mortal import MortalHost
from posthouse.testing.watched import Record, WatchedTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.contracts.store import Books, Store
    from posthouse.contracts.transport import QueueInfo, Transport
    from posthouse.declare.service import Service
    from posthouse.protocol.inbox import Request
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.client import Client
    from posthouse.runtime.host import Host
    from posthouse.runtime.journal.journal import Journal
    from posthouse.testing.faults import Faults

T = TypeVar("T")

_numbers: Final = itertools.count(1)

LONG: Final = 10_000.0
"""More seconds than any test here takes; virtual ones, mostly."""

PATIENT: Final = 1000.0
"""More seconds than anything here is waited for."""


class Letter(NamedTuple):
    """A dead letter, of a queue or of a store.

    Attributes:
        operation: what was asked, or what should have heard.
        message: the id of the message.
        state: parked or failed.
        code: of the error that ended it.
        reason: its text.
        detail: the traceback.
        attempts: how often it was run.
        handle: what replays it.
    """

    operation: str
    message: str
    state: str
    code: str
    reason: str
    detail: str
    attempts: int
    handle: str


class Holds(NamedTuple):
    """How many messages lie somewhere.

    Attributes:
        free: nobody has them.
        taken: somebody has them.
        dead: dead letters.
    """

    free: int
    taken: int
    dead: int


class House:
    """Some hosts that share a broker.

    Attributes:
        hosts: those that were opened, in order.
        callers_have_stores: whether a client can keep what it asks; else it leaves that to the replier.
    """

    def __init__(self, *, seed: int = 1, transport: str = "") -> None:
        self.hosts: list[MortalHost] = []
        self.callers_have_stores = True
        self._seed = seed
        self._transport = transport or f"memory:house-{next(_numbers)}"
        self._stack = AsyncExitStack()
        self._disk = MemoryDisk(self._transport.partition(":")[2])
        self._stores: dict[str, Store] = {}

    async def __aenter__(self) -> House:
        self._stack.enter_context(self._disk)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # --- hosts ----------------------------------------------------------------------------------------

    def host(self, *, wrap: Callable[[Any], Any] | None = None, **settings: Any) -> MortalHost:
        """Make a host; who opens it is the caller's affair."""
        said: dict[str, Any] = {"env": "test", "transport": self._transport, **settings}
        config = Settings(**said)
        seams = seeded_seams(self._seed + 100 * len(self.hosts), clock=LoopClock())
        host = MortalHost(config, seams=seams)
        if wrap is not None:
            host.transport = wrap(host.transport)
        self.hosts.append(host)
        return host

    async def open(self, **how: Any) -> MortalHost:
        """Open a host that serves nothing yet."""
        return await self._stack.enter_async_context(self.host(**how))

    async def serve(self, *services: Service, **how: Any) -> MortalHost:
        """Open a host, and serve."""
        host = await self.open(**how)
        await host.serve(*services)
        return host

    async def client(self, name: str = "shop") -> Client:
        """Open a host of its own for a client."""
        return self.client_of(await self.open(), name)

    def client_of(self, host: Host, name: str = "shop") -> Client:
        """Return a client of a host."""
        if self.callers_have_stores:
            host.journals.allow(name)
        return host.client(name)

    # --- queues and stores ------------------------------------------------------------------------------

    async def queue(self, name: str) -> QueueInfo:
        """Return what a queue holds."""
        return next(info for info in await self.transport.queues() if info.spec.name == name)

    @property
    def transport(self) -> Transport:
        """That of a host that is open."""
        return next(host.transport for host in self.hosts if "transport" in host._opened)

    async def settled(self, name: str) -> None:
        """Wait until nothing is under way to an operation or subscription: in no queue, and in no store."""
        await until(lambda: self.under_way(name), lambda count: count == 0)

    async def under_way(self, name: str) -> int:
        """Return how many messages for an operation or subscription have not come to an end."""
        count = sum(info.stored for info in await self.transport.queues() if info.spec.name == name)
        for service in self.stored_services:
            count += await self.read(service, lambda books: _open(books, name))
        return count

    async def holds(self, name: str) -> Holds:
        """Return what lies in an operation's or subscription's queue, and in the store of its service.

        A copy of what a caller's store holds is not counted: it is there so that the call is found sooner.
        """
        info = await self.queue(name)
        lies = await self.transport.peek(name, limit=1000)
        copies = sum(decode(delivery.frame).lane is not None for delivery in lies)
        states = [row.state for row in await self.requests(name)]
        return Holds(
            info.stored - info.leased - copies + states.count(RequestState.RECEIVED),
            info.leased + states.count(RequestState.RUNNING),
            len(await self.dead(name)),
        )

    async def calls(self, operation: str, *, of: str) -> list[Call]:
        """Return a service's calls of an operation, in the order of their numbers; last those that have none."""
        rows = await self.read(of, lambda books: books.calls_listed(service=service_of(operation), limit=10_000))
        rows = sorted(rows, key=lambda row: (not row.place, row.place, row.created))
        return [row for row in rows if row.operation == operation]

    async def requests(self, operation: str) -> list[Request]:
        """Return the requests to an operation in the store of its service, in the order of their places."""
        service = service_of(operation)
        if service not in self.stored_services:
            return []
        rows = await self.read(service, lambda books: books.requests_listed(operation=operation, limit=10_000))
        return sorted(rows, key=lambda row: row.place)

    async def read(self, service: str, step: Callable[[Books], T]) -> T:
        """Look into the store of a service."""
        return await (await self._store(service)).read(step)

    async def rows(self, service: str, sql: str) -> list[tuple[Any, ...]]:
        """Look into a service's own tables."""
        store = await self._store(service)
        async with store.reading() as rows:
            return await rows.execute(sql)

    async def _store(self, service: str) -> Store:
        store = self._stores.get(service)
        if store is None:
            store = self._stores[service] = open_store(
                f"memory:{self._disk.name}", service=service, instance="house", clock=LoopClock()
            )
            await store.open()
            self._stack.push_async_callback(store.close)
        return store

    @property
    def stored_services(self) -> list[str]:
        """Which services have a store."""
        return list(self._disk._databases)

    # --- dead letters -----------------------------------------------------------------------------------

    async def dead(self, queue: str = "") -> list[Letter]:
        """Return the dead letters, those of queues and those of stores, oldest first."""
        letters: list[tuple[float, Letter]] = []
        for dead in await self.transport.dead(queue=queue):
            message = decode_many([dead.frame])[0]
            id = "" if isinstance(message, FrameError) else message.id
            letters.append((dead.at, Letter(dead.queue, id, *_why(dead.outcome), dead.attempts, dead.id)))
        for service in self.stored_services:
            for dead in await self.read(service, lambda books: books.dead_letters(operation=queue)):
                letters.append((dead.at, Letter(dead.operation, dead.id, *_why(dead), dead.attempts, str(dead.number))))
        return [letter for _at, letter in sorted(letters, key=lambda pair: pair[0])]

    async def bury(self, count: int, queue: str = "") -> list[Letter]:
        """Wait until there are so many dead letters."""
        await until(lambda: self.dead(queue), lambda letters: len(letters) >= count)
        return await self.dead(queue)


def lossy(faults: Faults, record: Record | None = None) -> Callable[[Any], Any]:
    """Return what makes a transport fail to order, message by message, and tells a record what went through it."""
    return lambda inner: WatchedTransport(inner, record or Record(), faults)


def unanswered(mode: str) -> type[Exception]:
    """Return the error of a caller whose time is over: what is journaled lives on, of the rest nobody knows."""
    return PendingError if mode == "journaled" else OutcomeUnknownError


def waiting(host: Host) -> int:
    """Return how many replies are waited for in a host."""
    return len(host.caller._waiting) + sum(len(journal.outbox._tickets) for journal in journals_of(host))


def journals_of(host: Host) -> list[Journal]:
    """Return the journals that a host has open."""
    return list(host.journals._open.values()) if hasattr(host, "journals") else []


def _open(books: Books, name: str) -> int:
    calls = [call for call in books.calls_listed(service=service_of(name), limit=10_000) if call.operation == name]
    asked = [call for call in calls if (call.state.asked and not call.parked) or call.state is CallState.WAITING]
    requests = books.requests_listed(operation=name, decided=False, limit=10_000)
    return len(asked) + len([row for row in requests if row.state is not RequestState.PARKED])


def _why(outcome: Any) -> tuple[str, str, str, str]:
    return outcome.state, outcome.code, outcome.reason, outcome.detail


async def until(ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    """Ask again and again, until the answer is good; for what no event tells. Virtual time, else a bounded wait."""
    wait = 0.01
    async with asyncio.timeout(PATIENT):
        while not good(answer := await ask()):
            await asyncio.sleep(wait)
            wait = min(1.1 * wait, 1.0)
        return answer


class Errors(logging.Handler):
    """Collects what is logged as an error, so that a test sees what nobody raised."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(record.getMessage())
