"""All given services in the test's own process: a transport in memory, a clock that the test sets.

A test calls, sends and publishes as a client does, then asks what happened. Time stands still unless
`advance` moves it; a `call` moves it as far as retries need, since its caller would wait too. Two
things go by the loop's own time, and so take it: a handler's time-out, and the `linger` of a batch.

What needs a store (faults around a commit, acks, the reply to an earlier request) is not in this
version, and says so.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from posthouse.clock import seconds
from posthouse.declare.operation import Event, Operation
from posthouse.errors import NotBuiltError, OutcomeUnknownError, Reject, UsageError, told
from posthouse.message.message import Kind
from posthouse.message.names import service_of
from posthouse.runtime.client import Client
from posthouse.runtime.outbound import refused
from posthouse.runtime.seams import seeded_seams
from posthouse.runtime.settings import load
from posthouse.testing.clock import ManualClock
from posthouse.testing.stubs import Stubs
from posthouse.testing.watched import Record, WatchedHost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from httpx2 import AsyncClient

    from posthouse.clock import Duration, Seconds
    from posthouse.declare.operation import Priority
    from posthouse.declare.service import Service
    from posthouse.gateway import Gateway
    from posthouse.runtime.seams import Seams

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")

Fault: TypeAlias = Literal[
    "crash before commit",
    "crash after commit",
    "lose request",
    "lose reply",
    "lose ack",
    "duplicate request",
    "duplicate reply",
    "lose event",
    "reorder",
    "away",
]

NAME: Final = "test"
"""The service in whose name a test asks."""

CALM: Final = 20
"""So many turns of the loop without work mean rest: no step from one message to the next takes as many."""

PATIENT_TURNS: Final = 200
"""After so many turns a handler waits for the world outside, and need not be looked at without a pause."""

CALL_STEP: Final[Seconds] = 0.1
STEP: Final[Seconds] = 1.0
"""How far the clock moves at once while a message waits for it; well below every lease."""

_names: Final = itertools.count(1)
_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class Harness(Client):
    """All given services in this process; `async with` starts and ends them.

    Args:
        services: what is tested.
        transport: the URL of the engine; "memory:" is one of its own for each harness.
        stores: none in this version.
        config: what would stand in posthouse.toml; neither a file nor the environment is read.
        seed: of all chance and all ids: the same seed gives the same run.

    Raises:
        NotBuiltError: there are stores.
    """

    def __init__(
        self,
        *services: Service,
        transport: str = "memory:",
        stores: Mapping[Service, object] = _NOTHING,
        config: Mapping[str, Any] = _NOTHING,
        seed: int = 0,
    ) -> None:
        if stores:
            raise NotBuiltError("stores= needs journaled delivery, which this version does not have")
        self._config = {**config, "env": "test"}
        self._transport = f"memory:harness-{next(_names)}" if transport == "memory:" else transport
        self._clock = ManualClock()
        self._seams: Seams = seeded_seams(seed, clock=self._clock)
        self._record = Record()
        self._stubs = Stubs(self._record)
        self._topics = {heard.name: heard.event.name for each in services for heard in each.subscriptions.values()}
        self._services = [self._stubs.watched(service) for service in services]
        self._hosts: list[WatchedHost] = []
        self._starting: list[asyncio.Task[None]] = []
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
        host = await self._open_host()
        try:
            await host.serve(*self._services)
        except BaseException:
            await self._stack.aclose()
            raise
        self._host = host
        super().__init__(host.parts, NAME)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them; what is at work is canceled."""
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
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
            OutcomeUnknownError: everything rests, or `timeout` is over, and there is no reply.
            PosthouseError: what Client.call raises.
        """
        await self._started()
        left = float("inf") if timeout is None else seconds(timeout)
        asking = self._seams.spawn(
            super().call(op, data, timeout=None, deadline=deadline, priority=priority, id=id), f"test calls {op.name}"
        )
        try:
            await self._see_through(asking, left)
            if not asking.done():
                raise OutcomeUnknownError(f"{op.name} has not answered, and nothing that could is under way")
            return await asking
        finally:
            asking.cancel()
            await asyncio.wait([asking])

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
        await self._host.client(service_of(event.name)).publish(event, data, id=id, within=within)

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
        here = any(op.name == handler.name for each in self._services for handler in each.operations.values())
        if not here and any(name == service.name for service in self._services):
            raise UsageError(f"service {name!r} is here, and has no handler {op.name!r} that could be stubbed")
        if not here and not self._stubs.knows(op):
            self._starting.append(self._seams.spawn(self._serve_stub(op), f"test stubs {op.name}"))
        self._stubs.answer(op, answer)

    def fault(self, where: Operation[Any, Any] | Event[Any], what: Fault, /, *, times: int = 1) -> None:
        """Let something go wrong the next so many times; not in this version."""
        raise NotBuiltError(f"fault({where.name!r}, {what!r}) needs journaled delivery, which this version lacks")

    async def advance(self, by: Duration, /) -> None:
        """Let time pass, and everything happen that becomes due in it.

        Raises:
            ValueError: `by` is no duration.
        """
        left = seconds(by)
        await self.idle()
        while left > 0:
            step = min(left, STEP) if await self._something_is_delayed() else left
            await self._move(step)
            left -= step

    async def idle(self) -> None:
        """Wait until no queue and no handler has work that is due."""
        await self._started()
        await self._rest()

    # --- what happened ---------------------------------------------------------------------------------

    def requests(self, op: Operation[_Req, Any], /) -> list[_Req]:
        """Return what an operation was asked, each request once."""
        return [op.decode_request(message.data) for message in self._record.of(Kind.REQUEST, op.name)]

    def replies(self, op: Operation[Any, _Rep], /) -> list[_Rep | Reject]:
        """Return what it replied to those who waited: data and Rejects; other errors are not among them."""
        outcomes: list[_Rep | Reject] = []
        for message in self._record.of(Kind.REPLY, op.name):
            if message.refusal is None:
                outcomes.append(op.decode_reply(message.data))
            elif isinstance(error := refused(message, op.rejects), Reject):
                outcomes.append(error)
        return outcomes

    def acks(self, op: Operation[Any, Any], /) -> int:
        """Return how many replies were acked; not in this version."""
        raise NotBuiltError(f"acks({op.name!r}) needs journaled delivery, which this version does not have")

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
        host = WatchedHost(self._settings, seams=self._seams, record=self._record)
        await self._stack.enter_async_context(host)
        self._hosts.append(host)
        return host

    async def _serve_stub(self, op: Operation[Any, Any]) -> None:
        stub = self._stubs.service_with(op)
        host = await self._open_host()
        await host.serve(stub)
        await self._hosts[0].directory.refresh()

    async def _started(self) -> None:
        if not self._hosts:
            raise UsageError("the harness is not started: write `async with Harness(...) as h:`")
        starting, self._starting = self._starting, []
        for task in starting:
            await task

    async def _open_door(self) -> tuple[Gateway, Callable[[asyncio.Task[Any]], Awaitable[None]]]:
        """Return the gateway, and what lets time pass for an HTTP request that it is at work on."""
        from posthouse.gateway import Gateway

        await self._started()
        if self._gateway is None:
            self._gateway = Gateway.of(self._hosts[0])
            await self._gateway.open()
        return self._gateway, self._see_through

    # --- rest and time ---------------------------------------------------------------------------------

    async def _rest(self, until: asyncio.Task[Any] | None = None) -> None:
        """Wait until nothing is due, or `until` is done."""
        calm = turns = 0
        while calm < CALM and not (until is not None and until.done()):
            await asyncio.sleep(0 if turns < PATIENT_TURNS else 0.001)
            turns += 1
            calm = 0 if await self._is_busy() else calm + 1

    async def _see_through(self, asking: asyncio.Task[Any], left: Seconds = float("inf")) -> None:
        """Let time pass until a task is done, or nothing is delayed that it could wait for, or `left` is over."""
        await self._rest(asking)
        while not asking.done() and left > 0 and await self._something_is_delayed():
            await self._move(CALL_STEP, asking)
            left -= CALL_STEP

    async def _is_busy(self) -> bool:
        if any(host.is_busy for host in self._hosts):
            return True
        queues = await self._hosts[0].transport.queues()
        return any(queue.stored > queue.leased + queue.delayed for queue in queues)

    async def _something_is_delayed(self) -> bool:
        return any(queue.delayed for queue in await self._hosts[0].transport.queues())

    async def _move(self, step: Seconds, until: asyncio.Task[Any] | None = None) -> None:
        self._clock.advance(step)
        for host in self._hosts:
            await host.hold_on()
        await self._rest(until)
