"""What the tests of a transport stand on: several peers on one fresh engine, and the time.

No test here; they stand in the modules beside it, one for each side of the contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar, Protocol, TypeAlias, TypeVar

import pytest

from posthouse.clock import Seconds
from posthouse.contracts.transport import Delivery, Outgoing, Transport
from posthouse.testing.clock import ManualClock

Tests = TypeVar("Tests")
PassTime: TypeAlias = Callable[[Seconds], Awaitable[None]]
WipeEngine: TypeAlias = Callable[[], Awaitable[None]]


class MakeTransport(Protocol):
    """Makes a transport on the test's engine."""

    def __call__(self, peer: str) -> Transport:
        """Return a transport that is not open yet; each call is another process's, as far as anyone can see."""
        ...


class OpenTransport(Protocol):
    """Makes a transport on the test's engine, and opens it."""

    async def __call__(self, peer: str) -> Transport:
        """Return an open transport; the test need not close it."""
        ...


class OnOneEngine:
    """The fixtures.

    Attributes:
        patience: how long a test waits for what must happen, in seconds; only a failing test waits so long.
        overflow_wait: how long the engine holds a sender back before it refuses, in seconds.
    """

    pytestmark = pytest.mark.anyio
    patience: ClassVar[Seconds] = 10.0
    overflow_wait: ClassVar[Seconds] = 5.0

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio."""
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Give the clock that `make_transport` hands in."""
        return ManualClock()

    @pytest.fixture
    def make_transport(self) -> MakeTransport:
        """Give what makes transports on one engine that nobody has used before. Override this."""
        raise NotImplementedError("a suite needs its fixture `make_transport`; see posthouse.testing.conformance")

    @pytest.fixture
    def pass_time(self, clock: ManualClock) -> PassTime:
        """Give what lets time pass on the engine. Override it where the engine has a clock of its own."""

        async def advance(by: Seconds) -> None:
            clock.advance(by)

        return advance

    @pytest.fixture
    def wipe_engine(self) -> WipeEngine:
        """Give what deletes all that the engine holds, while it is used. Override this, or its tests are skipped."""
        pytest.skip("nothing says how to wipe the engine; see the fixture `wipe_engine`")

    @pytest.fixture
    async def open_transport(
        self, make_transport: MakeTransport, request: pytest.FixtureRequest
    ) -> AsyncIterator[OpenTransport]:
        """Give what opens further peers on the engine; all are closed in the end."""
        opened: list[Transport] = []

        async def open_peer(peer: str) -> Transport:
            transport = make_transport(peer)
            await transport.open()
            opened.append(transport)
            return transport

        yield open_peer
        for transport in opened:
            await transport.close()

    @pytest.fixture
    async def transport(self, open_transport: OpenTransport, request: pytest.FixtureRequest) -> Transport:
        """Give a first peer; skip the test if the engine cannot do what it needs."""
        transport = await open_transport("one")
        for marker in request.node.iter_markers("needs"):
            for feature in marker.args:
                if not getattr(transport.features, feature):
                    pytest.skip(f"the engine has no {feature}")
        return transport

    @pytest.fixture
    async def other(self, transport: Transport, open_transport: OpenTransport) -> Transport:
        """Give a second peer on the same engine."""
        return await open_transport("two")

    async def take(self, transport: Transport, queue: str, count: int, *, credit: int = 100) -> list[Delivery]:
        """Receive until there are `count` deliveries, as a receiver does who has the time."""
        taken: list[Delivery] = []
        for_long = 10 * self.patience  # longer than the test waits: who is not woken is not to find it when he gives up
        async with asyncio.timeout(self.patience):
            while len(taken) < count:
                taken += await transport.receive(queue, credit=min(credit, count - len(taken)), wait=for_long)
        return taken


def every_test_needs(*features: str) -> Callable[[type[Tests]], type[Tests]]:
    """Mark every test of a class; the class's own mark would spread to all that a suite is made of."""

    def mark(tests: type[Tests]) -> type[Tests]:
        for name, test in vars(tests).items():
            if name.startswith("test_"):
                pytest.mark.needs(*features)(test)
        return tests

    return mark


def to(queue: str, *frames: bytes) -> list[Outgoing]:
    """Return messages to a queue."""
    return [Outgoing(queue, frame) for frame in frames]


def tell(topic: str, *frames: bytes) -> list[Outgoing]:
    """Return messages to a topic."""
    return [Outgoing(topic, frame, topic=True) for frame in frames]


def frames_of(deliveries: list[Delivery]) -> list[bytes]:
    """Return what was delivered."""
    return [delivery.frame for delivery in deliveries]


def tries_of(deliveries: list[Delivery]) -> list[tuple[bytes, int, int]]:
    """Return what was delivered, with attempt and failures."""
    return [(delivery.frame, delivery.attempt, delivery.failures) for delivery in deliveries]
