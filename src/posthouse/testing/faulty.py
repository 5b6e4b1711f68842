"""A transport that fails to order: what an engine may do at its worst, and no more.

It stands before any transport and keeps the contract: whoever is tested behind it must live with all
that it does. (What breaks the contract is for the conformance suites to find, and has no place here.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from posthouse.errors import PosthouseError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.transport import (
        DeadLetter,
        Delivery,
        Direct,
        Features,
        Outcome,
        Outgoing,
        QueueInfo,
        QueueSpec,
        Transport,
    )

Fault: TypeAlias = Literal[
    "refuse send", "lose confirmation", "send twice", "refuse receive", "lose settle", "lose lease", "lose direct"
]
"""What may go wrong.

- refuse send: nothing is stored, and the sender is told so.
- lose confirmation: all is stored, and the sender is told that it was not.
- send twice: every message of the send is stored twice.
- refuse receive: the engine cannot be reached.
- lose settle: the engine never hears it, and the settler is told that all is well.
- lose lease: `renew` says that all were lost; the receiver's lease runs on until it is up.
- lose direct: a frame vanishes on its way, and nobody is told.
"""


class FaultyTransport:
    """Does what the transport behind it does, but for the faults that were ordered.

    Args:
        inner: what really carries the messages.
    """

    def __init__(self, inner: Transport) -> None:
        self.features: Features = inner.features
        self.direct: Direct = _FaultyDirect(inner.direct, self)
        self._inner = inner
        self._due: Counter[Fault] = Counter()
        self._cut: PosthouseError | None = None

    # --- orders --------------------------------------------------------------------------------------

    def fault(self, what: Fault, *, times: int = 1) -> None:
        """Let this go wrong the next so many times."""
        self._due[what] += times

    def cut(self, error: PosthouseError | None = None) -> None:
        """From now on the engine cannot be reached: every method raises, and direct frames vanish."""
        self._cut = error or UnavailableError("the connection was cut")

    def heal(self) -> None:
        """From now on it can."""
        self._cut = None

    def strikes(self, what: Fault) -> bool:
        """Return whether this goes wrong now, and count it."""
        if self._due[what] <= 0:
            return False
        self._due[what] -= 1
        return True

    @property
    def is_cut(self) -> bool:
        """Whether the engine cannot be reached."""
        return self._cut is not None

    def _reach(self) -> Transport:
        if self._cut is not None:
            raise self._cut
        return self._inner

    # --- where it can go wrong -----------------------------------------------------------------------

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these, all or none."""
        if self._cut is not None:
            return _failed(self._cut)
        if self.strikes("refuse send"):
            return _failed(UnavailableError("the engine refused to store it"))
        stored = self._inner.send([*messages, *messages] if self.strikes("send twice") else messages)
        return _unconfirmed(stored) if self.strikes("lose confirmation") else stored

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Take up to `credit` messages."""
        inner = self._reach()
        if self.strikes("refuse receive"):
            raise UnavailableError("the engine cannot be reached")
        return await inner.receive(queue, credit=credit, wait=wait)

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries."""
        if self._cut is not None:
            return _failed(self._cut)
        return self._inner.settle([] if self.strikes("lose settle") else outcomes)

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Hold on to these for another lease."""
        inner = self._reach()
        return list(deliveries) if self.strikes("lose lease") else await inner.renew(deliveries)

    # --- the rest ------------------------------------------------------------------------------------

    @property
    def lease(self) -> Seconds:
        """How long a delivery is held before it must be renewed."""
        return self._inner.lease

    async def open(self) -> None:
        """Connect."""
        await self._reach().open()
        self.features = self._inner.features

    async def close(self) -> None:
        """Let go of everything; possible even when the engine cannot be reached."""
        await self._inner.close()

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call `callback` when all that the engine held is gone."""
        self._inner.on_reset(callback)

    async def declare(self, *queues: QueueSpec) -> None:
        """Make these queues."""
        await self._reach().declare(*queues)

    async def delete(self, queue: str) -> None:
        """Remove a queue."""
        await self._reach().delete(queue)

    async def bind(self, topic: str, queue: str) -> None:
        """Let a queue have what is sent to a topic."""
        await self._reach().bind(topic, queue)

    async def unbind(self, topic: str, queue: str) -> None:
        """Let it have that no longer."""
        await self._reach().unbind(topic, queue)

    async def queues(self) -> list[QueueInfo]:
        """Return what every queue holds."""
        return await self._reach().queues()

    async def bindings(self) -> list[tuple[str, str]]:
        """Return every (topic, queue)."""
        return await self._reach().bindings()

    async def peek(self, queue: str, *, limit: int = 20) -> list[Delivery]:
        """Return the oldest messages without taking them."""
        return await self._reach().peek(queue, limit=limit)

    async def dead(self, *, queue: str = "", after: str = "", limit: int = 100) -> list[DeadLetter]:
        """Return dead letters, oldest first."""
        return await self._reach().dead(queue=queue, after=after, limit=limit)

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Put dead letters back into their queues."""
        return await self._reach().replay(ids)

    async def drop(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters."""
        return await self._reach().drop(ids)


class _FaultyDirect:
    def __init__(self, inner: Direct, orders: FaultyTransport) -> None:
        self.peer = inner.peer
        self._inner = inner
        self._orders = orders

    def listen(self, receive: Callable[[str, list[bytes]], None], lost: Callable[[str, list[bytes]], None]) -> None:
        self._inner.listen(receive, lost)

    def send(self, peer: str, frame: bytes) -> None:
        if not self._orders.is_cut and not self._orders.strikes("lose direct"):
            self._inner.send(peer, frame)


async def _unconfirmed(stored: Awaitable[None]) -> None:
    await stored
    raise UnavailableError("the connection was lost before the engine confirmed")


def _failed(error: PosthouseError) -> asyncio.Future[Any]:
    failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    failed.set_exception(error)
    return failed
