"""The host of a simulated process: the real one, on a transport, a registry and stores at which it may die.

Each commit and each message has a point before it and one after it. A point is where a process may die: before a
commit nothing of it happens, after it all has happened and nobody has heard of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from posthouse.backends import open_store
from posthouse.message.codec import decode
from posthouse.message.message import Mode
from posthouse.runtime.host import Host
from posthouse.runtime.journal.journals import OpenJournals
from posthouse.testing.faulty import FaultyTransport
from tests.sim.network import Line
from tests.sim.processes import outside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books, Rows, Store
    from posthouse.contracts.transport import Delivery, Outcome, Outgoing, Transport
    from posthouse.protocol.epoch import Identity
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settings import Settings
    from tests.sim.processes import Process
    from tests.sim.world import World

T = TypeVar("T")


class Post(Host):
    """A host that may die."""

    def __init__(self, settings: Settings, *, seams: Seams, process: Process, world: World) -> None:
        super().__init__(settings, seams=seams)
        self.process = process
        self.world = world
        self.stores: list[PointedStore] = []
        self.transport: Any = PointedTransport(self.transport, process, world)
        self.registry: Any = CutRegistry(self.registry, self.transport)

    def make_journals(self) -> OpenJournals:
        """Return journals whose stores have points."""
        return _Journals(
            self.settings,
            transport=self.transport,
            directory=self.directory,
            settler=self.settler,
            seams=self.seams,
            peer=self.peer,
            post=self,
        )

    def die(self, *, is_seen: bool) -> None:
        """Be gone in the middle of everything.

        Args:
            is_seen: its siblings see at once that it is dead; else its lease has to run out.
        """
        for store in self.stores:
            store.inner.abandon()
            if is_seen:
                self.world.disk.database(store.service).dead.add(self.peer)
        self.transport.die()


class _Journals(OpenJournals):
    def __init__(self, settings: Settings, *, post: Post, **parts: Any) -> None:
        super().__init__(settings, **parts)
        self._post = post

    def _make(self, url: str, service: str) -> Store:
        post = self._post
        inner = open_store(
            url, service=service, instance=self._peer, clock=self._seams.clock, new_id=self._seams.new_id
        )
        store: Any = PointedStore(inner, post.process, post.world)
        post.stores.append(store)
        return store


class PointedStore:
    """A store with points around its commits. What is the disk's runs outside of the process.

    Args:
        inner: the store.
        process: who has it open.
        world: is told of the points, and of what each step did.
    """

    def __init__(self, inner: Store, process: Process, world: World) -> None:
        self.inner: Any = inner
        self.service = inner.service
        self._process = process
        self._world = world

    @property
    def identity(self) -> Identity:
        """Which store it is."""
        return self.inner.identity

    @property
    def hold_limit(self) -> float:
        """How long a handler may hold the write slot."""
        return self.inner.hold_limit

    @hold_limit.setter
    def hold_limit(self, limit: float) -> None:
        self.inner.hold_limit = limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def open(self, *, schema: Sequence[str] = ()) -> None:
        """Connect."""
        await asyncio.get_running_loop().create_task(self.inner.open(schema=schema), context=outside())

    async def close(self) -> None:
        """Let go of everything."""
        if not self._process.is_dead:
            await asyncio.get_running_loop().create_task(self.inner.close(), context=outside())

    def commit(
        self, step: Callable[[Books], T], *, name: str, flush: bool = False, weight: int = 1
    ) -> asyncio.Future[T]:
        """Run a step, unless the process dies before."""
        world, process = self._world, self._process
        world.point(process, name, "before")
        if process.is_dead:
            return asyncio.get_running_loop().create_future()
        done: asyncio.Future[T] = self.inner.commit(
            world.watched(process, name, step), name=name, flush=flush, weight=weight
        )
        done.add_done_callback(lambda done: self._committed(name, done), context=outside())
        return done

    def read(self, step: Callable[[Books], T], *, name: str = "read") -> asyncio.Future[T]:
        """Run a step that only reads."""
        return self.inner.read(step, name=name)

    async def tail(self) -> PointedTail:
        """Open a handler's transaction."""
        return PointedTail(await self.inner.tail(), self._process, self._world)

    def reading(self) -> AbstractAsyncContextManager[Rows]:
        """Read the user's tables."""
        return self.inner.reading()

    def _committed(self, name: str, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or self._process.is_dead:
            return
        error = done.exception()
        if error is not None:
            self._world.failed(self._process)
        self._world.trace(self._process, "has committed", name, "" if error is None else repr(error))
        self._world.point(self._process, name, "after")


class PointedTail:
    """A handler's transaction, with points around its end."""

    def __init__(self, inner: Any, process: Process, world: World) -> None:
        self._inner = inner
        self._process = process
        self._world = world

    async def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = (), /) -> list[tuple[Any, ...]]:
        """Run one statement."""
        return await self._inner.execute(sql, values)

    async def executemany(self, sql: str, values: Any, /) -> None:
        """Run one statement for each set of values."""
        await self._inner.executemany(sql, values)

    def end(self, step: Callable[[Books], T]) -> asyncio.Future[T]:
        """Commit, unless the process dies before."""
        world, process = self._world, self._process
        world.point(process, "tail end", "before")
        if process.is_dead:
            return asyncio.get_running_loop().create_future()
        done: asyncio.Future[T] = self._inner.end(world.watched(process, "tail end", step))
        done.add_done_callback(self._ended, context=outside())
        return done

    def give_up(self) -> None:
        """Roll back."""
        self._inner.give_up()

    def _ended(self, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or self._process.is_dead:
            return
        error = done.exception()
        if error is not None:
            self._world.failed(self._process)
        self._world.trace(self._process, "has committed", "tail end", "" if error is None else repr(error))
        self._world.point(self._process, "tail end", "after")


class PointedTransport(FaultyTransport):
    """A transport with points around what goes into queues and out of them."""

    def __init__(self, inner: Transport, process: Process, world: World) -> None:
        super().__init__(inner)
        self._process = process
        self._world = world
        self.direct: Any = Line(world.network, inner.direct.peer, process, lambda: self.is_cut)

    async def open(self) -> None:
        """Connect."""
        await super().open()
        self._world.network.join(self.direct)

    async def close(self) -> None:
        """Let go of everything."""
        self._world.network.leave(self.direct)
        await super().close()

    def die(self) -> None:
        """Be gone; the engine notices, and hands out again what was held here."""
        self.cut()
        self._world.network.leave(self.direct)
        asyncio.get_running_loop().create_task(self._inner.close(), context=outside())

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these."""
        world, process = self._world, self._process
        world.point(process, "deposits", "before")
        if process.is_dead:
            return asyncio.get_running_loop().create_future()
        for each in messages:
            message = decode(each.frame)
            if message.mode is Mode.JOURNALED and message.lane is not None:
                world.watch_leaving(process, message)
            world.trace(process, "deposits", each.address, message.id)
        sent = super().send(messages)
        world.point(process, "deposits", "after")
        return sent

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Take messages."""
        deliveries = await super().receive(queue, credit=credit, wait=wait)
        if deliveries:
            self._world.point(self._process, "takes", "after")
            for each in deliveries:
                self._world.trace(self._process, "takes", queue, decode(each.frame).id, each.attempt)
        return deliveries

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries."""
        self._world.point(self._process, "settles", "before")
        if self._process.is_dead:
            return asyncio.get_running_loop().create_future()
        for delivery, outcome in outcomes:
            self._world.trace(self._process, "settles", decode(delivery.frame).id, type(outcome).__name__)
        settled = super().settle(outcomes)
        self._world.point(self._process, "settles", "after")
        return settled


class CutRegistry:
    """A registry that cannot be reached when the transport cannot."""

    def __init__(self, inner: Any, transport: PointedTransport) -> None:
        self._inner = inner
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        if self._transport.is_cut and name in {"announce", "contracts", "register", "leave", "instances"}:
            return self._unreachable
        return getattr(self._inner, name)

    async def _unreachable(self, *_: Any) -> Any:
        self._transport._reach()  # raises
