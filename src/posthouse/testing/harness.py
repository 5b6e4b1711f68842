"""All given services in the test's own process: transport and stores in memory, a clock that the test sets.

A test calls, sends and publishes as a client does, lets things go wrong, then asks what happened. Each
service has a host of its own, as if it were a process. Time stands still unless `advance` moves it; a
`call` moves it as far as retries and resends need, since its caller would wait too. Two things go by the
loop's own time, and so take it: a handler's time-out, and the `linger` of a batch.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from posthouse.backends.sqlite.store import MemoryDisk
from posthouse.clock import seconds
from posthouse.declare.operation import Event, Operation
from posthouse.errors import NotBuiltError, OutcomeUnknownError, PendingError, Reject, UsageError, told
from posthouse.message.message import Kind, Mode
from posthouse.message.names import service_of
from posthouse.runtime.client import Client
from posthouse.runtime.outbound import refused
from posthouse.runtime.seams import seeded_seams
from posthouse.runtime.settings import load
from posthouse.testing.clock import ManualClock
from posthouse.testing.faults import CRASHES, Faults
from posthouse.testing.stubs import Stubs
from posthouse.testing.watched import Record, WatchedHost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from httpx2 import AsyncClient

    from posthouse.clock import Duration, Seconds
    from posthouse.declare.operation import Priority
    from posthouse.declare.service import Service
    from posthouse.gateway import Gateway
    from posthouse.runtime.seams import Seams
    from posthouse.testing.faults import Fault

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")

NAME: Final = "test"
"""The service in whose name a test asks."""

CALM: Final = 20
"""So many turns of the loop without work mean rest: no step from one message to the next takes as many."""

PATIENT_TURNS: Final = 200
"""After so many turns a handler waits for the world outside, and need not be looked at without a pause."""

LEAST: Final[Seconds] = 0.001
STEP: Final[Seconds] = 10.0
"""How far the clock moves at once while something waits for it: below every lease."""

CALL_STEP: Final[Seconds] = 0.1
BLIND_STEP: Final[Seconds] = 1.0
"""How far it moves when nobody can say when that is due: for who calls, and for who lets time pass."""

NEVER: Final = float("inf")

_names: Final = itertools.count(1)
_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class Harness(Client):
    """All given services in this process; `async with` starts and ends them.

    Args:
        services: what is tested.
        transport: the URL of the engine; "memory:" is one of its own for each harness.
        stores: the URLs of the stores of services; without one a service has its store in memory.
        config: what would stand in posthouse.toml; neither a file nor the environment is read.
        seed: of all chance and all ids: the same seed gives the same run.

    Raises:
        NotBuiltError: a store is not named by a URL.
    """

    def __init__(
        self,
        *services: Service,
        transport: str = "memory:",
        stores: Mapping[Service, object] = _NOTHING,
        config: Mapping[str, Any] = _NOTHING,
        seed: int = 0,
    ) -> None:
        place = f"harness-{next(_names)}"
        self._config = {"store": f"memory:{place}", **config, "env": "test"}
        self._transport = f"memory:{place}" if transport == "memory:" else transport
        self._urls = {service.name: _url(store) for service, store in stores.items()}
        self._clock = ManualClock()
        self._seams: Seams = seeded_seams(seed, clock=self._clock)
        self._record = Record()
        self._faults = Faults()
        self._stubs = Stubs(self._record)
        self._topics = {heard.name: heard.event.name for each in services for heard in each.subscriptions.values()}
        self._services = {service.name: self._stubs.watched(service) for service in services}
        self._disk = MemoryDisk(place)
        self._hosts: list[WatchedHost] = []
        self._by_service: dict[str, WatchedHost] = {}
        self._stubbed: dict[str, None] = {}
        self._replacing: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()
        self._host: WatchedHost
        self._http: AsyncClient | None = None
        self._gateway: Gateway | None = None

    async def __aenter__(self) -> Self:
        """Start all services; every subscription is there when this returns.

        Raises:
            ConfigError: the configuration cannot be used, or a service cannot be served so.
        """
        # In a thread, since paths are made absolute, and no file system is asked on the loop.
        self._settings = await asyncio.to_thread(
            load, self._config, overrides={"transport": self._transport}, environ={}
        )
        self._stack.enter_context(self._disk)
        try:
            self._host = await self._open_host()
            self._host.journals.allow(NAME)
            for name, service in self._services.items():
                self._by_service[name] = await self._open_host()
                await self._by_service[name].announce(service)
            for name, service in self._services.items():
                await self._serve(self._by_service[name], service)
        except BaseException:
            await self._stack.aclose()
            self._hosts = []
            raise
        super().__init__(self._host.parts, NAME)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them; what is at work is canceled."""
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()
        if self._gateway is not None:
            await self._gateway.close()
        await self._stack.aclose()
        self._hosts = []

    # --- the verbs -------------------------------------------------------------------------------------

    async def call(
        self,
        op: Operation[_Req, _Rep],
        data: _Req,
        /,
        *,
        timeout: Duration | None = "30s",
        deadline: Duration | datetime | None = None,
        priority: Priority = "normal",
        id: str | None = None,
    ) -> _Rep:
        """Ask a service, and return its reply; the clock moves as far as retries need, `timeout` at most.

        Raises:
            PendingError: journaled, and there is no reply: `timeout` is over, or nothing that could bring one is
                under way.
            OutcomeUnknownError: the same, not journaled.
            PosthouseError: what Client.call raises.
        """
        await self._started()
        is_kept = op.promise is Mode.JOURNALED
        if is_kept and id is None:
            id = self._seams.new_id()
        asking = super().call(op, data, timeout=None, deadline=deadline, priority=priority, id=id)
        return await self._wait_for(asking, op, timeout=timeout, id=id or "" if is_kept else None)

    async def reply(self, op: Operation[Any, _Rep], id: str, /, *, timeout: Duration | None = "30s") -> _Rep:
        """Wait again for the reply to an earlier request; the clock moves as with `call`.

        Raises:
            PendingError: there is no reply: `timeout` is over, or nothing that could bring one is under way.
            PosthouseError: what Client.reply raises.
        """
        await self._started()
        return await self._wait_for(super().reply(op, id, timeout=None), op, timeout=timeout, id=id)

    async def cancel(self, id: str, /, *, within: object = None) -> None:
        """Ask that a request that was sent by this test is not done; see Client.cancel."""
        await self._started()
        await super().cancel(id, within=within)

    async def send(
        self,
        op: Operation[_Req, Any],
        data: _Req,
        /,
        *,
        deadline: Duration | datetime | None = None,
        delay: Duration = 0,
        at: datetime | None = None,
        priority: Priority = "normal",
        id: str | None = None,
        within: object = None,
    ) -> str:
        """Store a request that nobody waits for, and return its id; see Client.send."""
        await self._started()
        return await super().send(
            op, data, deadline=deadline, delay=delay, at=at, priority=priority, id=id, within=within
        )

    async def publish(self, event: Event[_T], data: _T, /, *, id: str | None = None, within: object = None) -> None:
        """Publish an event in the name of its service, whichever that is; see Client.publish."""
        await self._started()
        name = service_of(event.name)
        host = self._by_service.get(name, self._host)
        if event.promise is Mode.JOURNALED and host is self._host and host.journals.get(name) is None:
            await host.join(name)  # who hears it asks its publisher for what it misses
            for each in self._hosts:
                await each.directory.refresh()
        await host.client(name).publish(event, data, id=id, within=within)

    @property
    def http(self) -> AsyncClient:
        """Speaks HTTP to a gateway in memory; as with `call`, the clock moves as far as retries need.

        Raises:
            ModuleNotFoundError: httpx2 is not installed; it comes with `posthouse[testing]`.
        """
        if self._http is None:
            from posthouse.testing.door import client_of

            self._http = client_of(self._open_door)
        return self._http

    # --- the world around ------------------------------------------------------------------------------

    def stub(self, op: Operation[_Req, _Rep], answer: _Rep | Exception | Callable[[_Req], _Rep], /) -> None:
        """Answer an operation in place of its handler, from now on.

        Args:
            op: of a service that is tested, or of any other.
            answer: the reply; or what is raised; or a function from the request to the reply, which may raise.

        Raises:
            UsageError: its service is tested, and has no such handler.
        """
        name = service_of(op.name)
        tested = self._services.get(name)
        if tested is None:
            if not self._stubs.knows(op):
                self._stubbed[name] = None
        elif all(op.name != handler.name for handler in tested.operations.values()):
            raise UsageError(f"service {name!r} is here, and has no handler {op.name!r} that could be stubbed")
        self._stubs.answer(op, answer)

    def fault(self, where: Operation[Any, Any] | Event[Any], what: Fault, /, *, times: int = 1) -> None:
        """Let something go wrong the next so many times; see posthouse.testing.faults for what each one is.

        Args:
            where: the operation or event to which it happens.
            what: what happens.
            times: how often.

        Raises:
            UsageError: it cannot happen there: its mode promises that it does not, or it is not served here.
        """
        if what in CRASHES and where.promise is Mode.JOURNALED:
            name = service_of(where.name)
            if name not in self._services and name not in self._stubs.services:
                raise UsageError(f"{where.name} is neither tested nor stubbed, so nothing of it could crash here")
            if not self._urls.get(name, self._config["store"]).startswith("memory:"):
                raise UsageError(f"{what!r} at {where.name} needs its store in memory: no process can be killed here")
        self._faults.order(where, what, times=times)

    async def advance(self, by: Duration, /) -> None:
        """Let time pass, and everything happen that becomes due in it.

        Raises:
            ValueError: `by` is no duration.
        """
        left = seconds(by)
        await self.idle()
        while left > 0:
            step = min(left, await self._step(BLIND_STEP))
            await self._move(step)
            left -= step

    async def idle(self) -> None:
        """Wait until no outbox, no inbox, no queue and no handler has work that is due."""
        await self._started()
        await self._rest()

    # --- what happened ---------------------------------------------------------------------------------

    def requests(self, op: Operation[_Req, Any], /) -> list[_Req]:
        """Return what an operation was asked, each request once."""
        return [op.decode_request(message.data) for message in self._record.of(Kind.REQUEST, op.name)]

    def replies(self, op: Operation[Any, _Rep], /) -> list[_Rep | Reject]:
        """Return what it replied: data and Rejects; other errors are not among them.

        A journaled request is always replied to; the others are when somebody waits.
        """
        outcomes: list[_Rep | Reject] = []
        for message in self._record.of(Kind.REPLY, op.name):
            if message.refusal is None:
                outcomes.append(op.decode_reply(message.data))
            elif isinstance(error := refused(message, op.rejects), Reject):
                outcomes.append(error)
        return outcomes

    def acks(self, op: Operation[Any, Any], /) -> int:
        """Return how many requests to an operation were told to be final, so that its replies could be forgotten."""
        return self._record.acked(op.name)

    def attempts(self, op: Operation[Any, Any], /) -> int:
        """Return how often its handler, or its stub, was run."""
        return self._record.runs.count(op.name)

    def published(self, event: Event[_T], /) -> list[_T]:
        """Return what was published, each event once."""
        return [event.decode(message.data) for message in self._record.of(Kind.EVENT, event.name)]

    def parked(self, where: Operation[Any, Any] | Event[Any], /) -> list[Exception]:
        """Return why requests to an operation, or an event's deliveries to its subscriptions, were parked."""
        names = (
            {where.name} if isinstance(where, Operation) else {n for n, t in self._topics.items() if t == where.name}
        )
        return [told(why.code, why.reason) for queue, why in self._record.parked if queue in names]

    # --- hosts and stubs -------------------------------------------------------------------------------

    async def _open_host(self) -> WatchedHost:
        host = WatchedHost(
            self._settings, seams=self._seams, record=self._record, faults=self._faults, on_crash=self._crash
        )
        await self._stack.enter_async_context(host)
        self._hosts.append(host)
        return host

    async def _serve(self, host: WatchedHost, service: Service) -> None:
        if service.name in self._urls:
            host.journals.allow(service.name, store=self._urls[service.name])
        await host.serve(service)
        self._by_service[service.name] = host
        for each in self._hosts:
            await each.directory.refresh()

    def _crash(self, host: WatchedHost) -> None:
        """Let a host die, and another one take over."""
        host.vanish()
        self._replacing.append(self._seams.spawn(self._replace(host), "test replaces a host"))

    async def _replace(self, host: WatchedHost) -> None:
        """Clear away what is left of a host, and serve elsewhere what it served."""
        self._hosts.remove(host)
        await host.close()
        for name in [name for name, its in self._by_service.items() if its is host]:
            service = self._services.get(name) or self._stubs.services[name]
            await self._serve(await self._open_host(), service)

    async def _started(self) -> None:
        if not self._hosts:
            raise UsageError("the harness is not started: write `async with Harness(...) as h:`")
        stubbed, self._stubbed = list(self._stubbed), {}
        for name in stubbed:
            before = self._by_service.pop(name, None)
            if before is not None:
                self._hosts.remove(before)
                await before.close()
            await self._serve(await self._open_host(), self._stubs.services[name])
        await self._take_in_failures()

    async def _take_in_failures(self) -> None:
        """Raise what kept a host from being replaced."""
        over = [task for task in self._replacing if task.done()]
        self._replacing = [task for task in self._replacing if not task.done()]
        for task in over:
            await task

    async def _open_door(self) -> tuple[Gateway, Callable[[asyncio.Task[Any]], Awaitable[object]]]:
        """Return the gateway, and what lets time pass for an HTTP request that it is at work on."""
        from posthouse.gateway import Gateway

        await self._started()
        if self._gateway is None:
            self._gateway = Gateway.of(self._host)
            await self._gateway.open()
        return self._gateway, self._see_through

    # --- rest and time ---------------------------------------------------------------------------------

    async def _wait_for(
        self, asking: Coroutine[Any, Any, _T], op: Operation[Any, Any], *, timeout: Duration | None, id: str | None
    ) -> _T:
        """Wait for a reply; `id` is that of a request that is kept, and None for one that is not."""
        left = float("inf") if timeout is None else seconds(timeout)
        task = self._seams.spawn(asking, f"test calls {op.name}")
        try:
            left = await self._see_through(task, left)
            if not task.done():
                why = "nothing that could is under way" if left > 0 else "its time is over"
                if id is None:
                    raise OutcomeUnknownError(f"{op.name} has not answered, and {why}")
                raise PendingError(f"{op.name} has not answered, and {why}; the request is stored", id=id)
            return await task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _rest(self, until: asyncio.Task[Any] | None = None) -> None:
        """Wait until nothing is due, or `until` is done."""
        calm = turns = 0
        while calm < CALM and not (until is not None and until.done()):
            await asyncio.sleep(0 if turns < PATIENT_TURNS else 0.001)
            turns += 1
            calm = 0 if await self._is_busy() else calm + 1
            if calm == CALM and self._let_go():
                calm = 0
        await self._take_in_failures()

    def _let_go(self) -> bool:
        """Let go what waits for more of its kind only: acks, and requests that none has overtaken."""
        let_go = [host.let_overtaken_go() or host.ack() for host in self._hosts]
        return any(let_go)

    async def _see_through(self, asking: asyncio.Task[Any], left: Seconds = float("inf")) -> Seconds:
        """Let time pass until a task is done, or nothing is delayed that it could wait for; return what is left."""
        await self._rest(asking)
        while not asking.done() and left > 0 and (step := await self._step(CALL_STEP)) < NEVER:
            step = min(step, left)
            await self._move(step, asking)
            left -= step
        return left

    async def _is_busy(self) -> bool:
        if self._replacing and not all(task.done() for task in self._replacing):
            return True
        if any(host.is_busy for host in self._hosts):
            return True
        queues = await self._host.transport.queues()
        return any(queue.stored > queue.leased + queue.delayed for queue in queues)

    async def _step(self, blind: Seconds) -> Seconds:
        """Return how far the clock may move at once: to what is due next; NEVER when nothing waits for it.

        Args:
            blind: how far, when something is delayed and nobody says for how long.
        """
        due = min([await host.next_due() for host in self._hosts])
        step = NEVER if due == NEVER else min(max(due - self._clock.now(), LEAST), STEP)
        is_delayed = any(queue.delayed for queue in await self._host.transport.queues())
        return min(step, blind) if is_delayed else step

    async def _move(self, step: Seconds, until: asyncio.Task[Any] | None = None) -> None:
        self._clock.advance(step)
        for host in self._hosts:
            await host.hold_on()
        await self._rest(until)


def _url(store: object) -> str:
    if not isinstance(store, str):
        raise NotBuiltError("stores= takes the URLs of stores; other kinds are not in this version")
    return store
