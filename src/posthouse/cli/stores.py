"""Opens the stores of the services for a command that looks into them, or changes something by hand.

Who looks is no instance: no store is made, begins a new life, or learns of us. One that cannot be read is
told, and left out; the others are shown all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from posthouse.backends import open_store
from posthouse.cli import output
from posthouse.cli.house import check_there, opened
from posthouse.errors import PosthouseError, StorageError, UnknownServiceError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from posthouse.cli.options import Options
    from posthouse.clock import Clock
    from posthouse.contracts.registry import Instance
    from posthouse.contracts.store import Books, Store
    from posthouse.runtime.host import Host
    from posthouse.runtime.settings import Settings

_T = TypeVar("_T")

FOLDER: Final = "stores"
_OPERATOR: Final = "operator"


@dataclass(slots=True)
class Stores:
    """The stores of a system, and what the registry knows of their services.

    Attributes:
        host: the system.
        by_service: all that could be opened.
        unreadable: why others could not, by service.
    """

    host: Host
    by_service: Mapping[str, Store]
    unreadable: Mapping[str, PosthouseError] = field(default_factory=dict[str, PosthouseError])

    @property
    def clock(self) -> Clock:
        """What time it is."""
        return self.host.seams.clock

    def of(self, service: str) -> Store:
        """Return the store of a service.

        Raises:
            UnknownServiceError: it has none here.
            PosthouseError: it cannot be read.
        """
        if (error := self.unreadable.get(service)) is not None:
            raise error
        store = self.by_service.get(service)
        if store is None:
            from posthouse.runtime.layers import nearest

            known = ", ".join(self.by_service) or "none"
            raise UnknownServiceError(
                f"{service!r} has no store here{nearest(service, self.by_service)}",
                hint=f"Stores here: {known}. A service makes its own when it first asks, or serves, what is journaled.",
            )
        return store

    def with_id(self, id: str) -> Store | None:
        """Return the store with this id."""
        return next((store for store in self.by_service.values() if store.identity.id == id), None)

    def instance(self, peer: str) -> Instance | None:
        """Return the live instance that rows name by this id."""
        return next((each for each in self.host.directory.all_instances if each.peer == peer), None)

    async def change(self, service: str, step: Callable[[Books], _T], *, name: str, really: bool = True) -> _T:
        """Run a step in the store of a service, by hand, and have it on the disk.

        Args:
            service: whose store.
            step: what to do.
            name: of the step.
            really: if not, it is run to see what it comes to, and nothing of it is kept.

        Raises:
            StorageError: its file lies elsewhere than before, which only its service may make a new life of.
            PosthouseError: it cannot be opened, or what the step raised.
        """
        if self.of(service).is_elsewhere:
            raise StorageError(
                f"the store of {service} lies elsewhere than when {service} last had it open, so nothing is changed",
                hint=f"Start {service} once: it begins a new life of the store, and asks again what is open.",
            )
        store = _store(self.host.settings, service, clock=self.clock)
        await store.open()
        try:
            if really:
                return await store.commit(step, name=name, flush=True)
            return await _rehearsed(store, step, name=name)
        finally:
            await store.close()


def visit_stores(options: Options, work: Callable[[Stores], Coroutine[Any, Any, _T]]) -> _T:
    """Open a system with its stores, do some work there, and close all.

    Raises:
        StorageError: there is no data directory where it should be.
        UsageError: the transport lives inside another process, or the stores are of another kind.
        PosthouseError: what opening it or the work raised.
    """
    settings = options.settings()
    check_there(settings)

    async def visited() -> _T:
        async with opened(settings) as host, looked_at(host) as stores:
            for service, error in stores.unreadable.items():
                output.say(f"the store of {service} cannot be read, and is left out: {error} ({error.code})")
            return await work(stores)

    return asyncio.run(visited())


@asynccontextmanager
async def looked_at(host: Host) -> AsyncGenerator[Stores]:
    """Look into all stores of a system for as long as the block lasts."""
    readable: dict[str, Store] = {}
    unreadable: dict[str, PosthouseError] = {}
    try:
        for service in services_with_stores(host.settings):
            try:
                store = _store(host.settings, service, clock=host.seams.clock)
                await store.look()
            except PosthouseError as error:
                unreadable[service] = error
            else:
                readable[service] = store
        yield Stores(host, readable, unreadable)
    finally:
        for store in readable.values():
            await store.close()


def services_with_stores(settings: Settings) -> list[str]:
    """Return the services that have a store in the data directory.

    Raises:
        UsageError: the stores do not lie in files.
    """
    scheme, _, place = settings.stores.partition(":")
    if scheme != "sqlite":
        raise UsageError(f"stores at {scheme}: cannot be looked into from the command line")
    return sorted(file.stem for file in (Path(place) / FOLDER).glob("*.db"))


class _RehearsedError(PosthouseError):
    """A step was run to see what it comes to, and nothing of it is kept."""


async def _rehearsed(store: Store, step: Callable[[Books], _T], *, name: str) -> _T:
    came_to: list[_T] = []

    def rehearse(books: Books) -> None:
        came_to.append(step(books))
        raise _RehearsedError

    with contextlib.suppress(_RehearsedError):
        await store.commit(rehearse, name=name)
    return came_to[-1]


def _store(settings: Settings, service: str, *, clock: Clock) -> Store:
    return open_store(settings.stores, service=service, instance=_OPERATOR, clock=clock)
