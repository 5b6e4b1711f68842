"""A host that can die in the middle, within a process that goes on.

From then on it is deaf and dumb, and of its stores nothing more is committed: others see what they see of a process
that was killed. What of it still runs is canceled, because a coroutine cannot be made to vanish: so a `finally` of a
handler is run, and a lifespan is left, which a real death does not do. Its stores have to lie in memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, cast

from posthouse.backends.sqlite.store.memory import disk_named
from posthouse.errors import UnavailableError
from posthouse.runtime.host import Host
from posthouse.runtime.journal.journals import OpenJournals
from posthouse.testing.faulty import FaultyTransport

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from posthouse.contracts.store import Books, Store, Tail
    from posthouse.contracts.transport import Delivery, Direct, Outcome, Transport
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settings import Settings

T = TypeVar("T")


class MortalHost(Host):
    """A host that can die.

    Args:
        settings: how it runs.
        seams: time, chance, ids, tasks.

    Attributes:
        stores: those that it has opened.
        is_dead: nothing of it happens any more.
    """

    def __init__(self, settings: Settings, *, seams: Seams) -> None:
        super().__init__(settings, seams=seams)
        self.stores: list[MortalStore] = []
        self.is_dead = False
        self._wire = MortalTransport(self.transport)
        self.transport: Transport = self._wire

    def make_journals(self) -> OpenJournals:
        """Return journals whose stores can be abandoned."""
        return _MortalJournals(
            self.settings,
            transport=self.transport,
            directory=self.directory,
            settler=self.settler,
            seams=self.seams,
            peer=self.peer,
            host=self,
        )

    def make_store(self, inner: Store, *, disk: str) -> MortalStore:
        """Return the store of a service of this host.

        Args:
            inner: what keeps it.
            disk: the name of the place in memory where it lies; empty for a file.
        """
        return MortalStore(inner, instance=self.peer, disk=disk)

    def vanish(self) -> None:
        """Be gone for all others. What is left here has to be cleared away by `close`."""
        self.is_dead = True
        self._wire.die()
        for store in self.stores:
            store.die()

    async def die(self) -> None:
        """Be gone, and clear away what is left."""
        self.vanish()
        await self.close()


class _MortalJournals(OpenJournals):
    def __init__(self, settings: Settings, *, host: MortalHost, **parts: Any) -> None:
        super().__init__(settings, **parts)
        self._host = host

    def _make(self, url: str, service: str) -> Store:
        scheme, _, place = url.partition(":")
        store = self._host.make_store(super()._make(url, service), disk=place if scheme == "memory" else "")
        self._host.stores.append(store)
        return cast("Store", store)


class MortalStore:
    """A store whose owner can die: then nothing more is done, and whoever waits is sent away, as they are dead too.

    Args:
        inner: what keeps it.
        instance: who has it open.
        disk: the name of the place in memory where it lies; empty for a file.

    Attributes:
        service: whose it is.
    """

    def __init__(self, inner: Store, *, instance: str, disk: str) -> None:
        self.service = inner.service
        self._inner = inner
        self._instance = instance
        self._disk = disk
        self._is_dead = False
        self._due: set[Future[Any]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether something was asked of it that is not done."""
        return bool(self._due)

    @property
    def is_mortal(self) -> bool:
        """Whether it lies in memory."""
        return bool(self._disk)

    def die(self) -> None:
        """Leave it as a process does that was killed; its siblings see that at once."""
        abandon: Callable[[], None] = getattr(self._inner, "abandon")  # noqa: B009 - those in memory can
        self._is_dead = True
        abandon()
        disk_named(self._disk).database(self.service).dead.add(self._instance)
        for future in list(self._due):
            if not future.done():
                future.set_exception(_dead())
                future.exception()  # whoever asked may be gone already

    # --- the contract of a store --------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Return what is the same for the living and the dead."""
        return getattr(self._inner, name)

    @property
    def hold_limit(self) -> float:
        """How long a handler may hold the write slot, in seconds."""
        return self._inner.hold_limit

    @hold_limit.setter
    def hold_limit(self, limit: float) -> None:
        self._inner.hold_limit = limit

    async def open(self, *, schema: Sequence[str] = ()) -> None:
        """Connect, create what is not there, and find out who it is."""
        await self._inner.open(schema=schema)

    async def close(self) -> None:
        """Let go of everything."""
        if not self._is_dead:
            await self._inner.close()

    def commit(self, step: Callable[[Books], T], *, name: str, **how: Any) -> Future[T]:
        """Run a step in the next transaction."""
        return self._sent_away() if self._is_dead else self.tracked(self._inner.commit(step, name=name, **how))

    def read(self, step: Callable[[Books], T], **how: Any) -> Future[T]:
        """Run a step that only reads."""
        return self._sent_away() if self._is_dead else self.tracked(self._inner.read(step, **how))

    async def tail(self) -> Tail:
        """Wait for the write slot."""
        if self._is_dead:
            raise _dead()
        return MortalTail(await self._inner.tail(), self)

    def tracked(self, future: Future[T]) -> Future[T]:
        """Remember a future until it is done, to be failed at the death."""
        self._due.add(future)
        future.add_done_callback(self._due.discard)
        return future

    def _sent_away(self) -> Future[Any]:
        failed: Future[Any] = asyncio.get_running_loop().create_future()
        failed.set_exception(_dead())
        return failed


class MortalTail:
    """A handler's transaction in such a store."""

    def __init__(self, inner: Tail, store: MortalStore) -> None:
        self._inner = inner
        self._store = store

    async def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = (), /) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        return await self._inner.execute(sql, values)

    async def executemany(self, sql: str, values: Sequence[Mapping[str, Any]] | Sequence[tuple[Any, ...]], /) -> None:
        """Run one statement for each set of values."""
        await self._inner.executemany(sql, values)

    def end(self, step: Callable[[Books], T]) -> Future[T]:
        """Run the step that ends the delivery, and commit."""
        return self._store.tracked(self._inner.end(step))

    def give_up(self) -> None:
        """Roll back."""
        self._inner.give_up()


class MortalTransport(FaultyTransport):
    """A transport whose owner can die: then nothing leaves any more, and nothing arrives."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.direct: Direct = _MortalDirect(self.direct, self)
        self.is_dead = False

    def die(self) -> None:
        """Be deaf and dumb, and reached no more."""
        self.is_dead = True
        self.cut()
        hang_up: Callable[[], None] | None = getattr(self._inner.direct, "close", None)
        if hang_up is not None:
            hang_up()

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries; the dead only believe that they do, and the engine hands them out again."""
        return _unheard() if self.is_dead else super().settle(outcomes)


class _MortalDirect:
    def __init__(self, inner: Direct, owner: MortalTransport) -> None:
        self.peer = inner.peer
        self._inner = inner
        self._owner = owner

    def listen(self, receive: Callable[[str, list[bytes]], None], lost: Callable[[str, list[bytes]], None]) -> None:
        owner = self._owner

        def receive_alive(peer: str, frames: list[bytes]) -> None:
            if not owner.is_dead:
                receive(peer, frames)

        def lost_alive(peer: str, frames: list[bytes]) -> None:
            if not owner.is_dead:
                lost(peer, frames)

        self._inner.listen(receive_alive, lost_alive)

    def send(self, peer: str, frame: bytes) -> None:
        self._inner.send(peer, frame)


async def _unheard() -> list[Delivery]:
    return []


def _dead() -> UnavailableError:
    return UnavailableError("this instance has died")
