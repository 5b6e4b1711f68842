"""What this process knows of the registry, kept fresh.

Every send looks here, so it is plain dictionaries; they are made anew when the registry says that
something changed. A registry that is away leaves the last good view standing. So does one that was wiped, for a
while: those who are there say it all again, and a call meanwhile must not hear that nobody knows its service.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from posthouse.errors import UnavailableError, UnknownServiceError
from posthouse.message.names import service_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.registry import (
        Contract,
        EventRecord,
        Instance,
        OperationRecord,
        Registry,
        SubscriptionRecord,
    )
    from posthouse.runtime.seams import Seams

T = TypeVar("T")

_log: Final = logging.getLogger("posthouse.directory")

PATIENCE: Final[Seconds] = 2.0
"""How long a name that nobody announced yet is waited for; services that start together find each other."""


HOLD_OVER: Final[Seconds] = 5.0
"""How long what a registry knew stands, after that was wiped, unless it is told anew."""


class Directory:
    """The contracts, and who is there.

    Attributes:
        generation: rises with each change; who caches compares it.
        contracts: by service.
        operations: by name.
        events: by name.
        subscriptions: by topic, those that are declared.
        present: every live instance, by service; a draining one too.
        peers: where the live instances are reached.
    """

    def __init__(self, registry: Registry, *, seams: Seams) -> None:
        self._registry = registry
        self._seams = seams
        self._told: list[Callable[[], None]] = []
        self._stale = asyncio.Event()
        self._fresh = asyncio.Condition()
        self._keeper: asyncio.Task[None] | None = None
        self._held_over: tuple[Sequence[Contract], Sequence[Instance]] = ((), ())
        self._let_go_timer: asyncio.TimerHandle | None = None
        self.generation = 0
        self.contracts: Mapping[str, Contract] = {}
        self.operations: Mapping[str, OperationRecord] = {}
        self.events: Mapping[str, EventRecord] = {}
        self.subscriptions: Mapping[str, Sequence[SubscriptionRecord]] = {}
        self.present: Mapping[str, Sequence[Instance]] = {}
        self.peers: frozenset[str] = frozenset()
        self._stores: Mapping[str, Sequence[Instance]] = {}
        self._available: Mapping[str, Sequence[Instance]] = {}

    async def open(self) -> None:
        """Read the registry once, and keep up with it from then on."""
        self._registry.watch(self._stale.set)
        await self.refresh()
        self._keeper = self._seams.spawn(self._keep(), "posthouse directory")

    async def close(self) -> None:
        """Stop keeping up."""
        if self._let_go_timer is not None:
            self._let_go_timer.cancel()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change."""
        self._told.append(callback)

    def doubt(self) -> None:
        """Read the registry again soon: somebody who should be there did not answer."""
        self._stale.set()

    def hold_over(self) -> None:
        """The registry was wiped: let what it knew stand for some seconds, and what it is told go before."""
        self._held_over = ([*self.contracts.values()], self.all_instances)
        if self._let_go_timer is not None:
            self._let_go_timer.cancel()
        self._let_go_timer = asyncio.get_running_loop().call_later(HOLD_OVER, self._let_go)
        self._stale.set()

    def _let_go(self) -> None:
        self._held_over = ((), ())
        self._stale.set()

    def instances(self, service: str) -> Sequence[Instance]:
        """Return the instances that take work."""
        return self._available.get(service, ())

    @property
    def all_instances(self) -> Sequence[Instance]:
        """Return every live instance."""
        return [instance for instances in self.present.values() for instance in instances]

    def of_store(self, store: str) -> Sequence[Instance]:
        """Return the live instances that share a store."""
        return self._stores.get(store, ())

    async def operation(self, name: str, *, within: Seconds = PATIENCE) -> OperationRecord:
        """Return an operation's record, and wait for its first announcement a little.

        Raises:
            UnknownServiceError: nobody announced it within `within` seconds.
        """
        record = self.operations.get(name)
        if record is None:
            await self._until(lambda: name in self.operations, within)
            record = self.operations.get(name)
        if record is None:
            raise unknown_operation(name, self)
        return record

    async def available(self, service: str, *, within: Seconds = PATIENCE) -> Sequence[Instance]:
        """Return the instances of a service that take work; wait a little for the first one. May be empty."""
        if not self.instances(service):
            await self._until(lambda: bool(self.instances(service)), within)
        return self.instances(service)

    async def refresh(self) -> None:
        """Read the registry now."""
        told = await self._registry.contracts()
        there = await self._registry.instances()
        contracts_before, instances_before = self._held_over
        contracts = [*told, *_others(contracts_before, told, key=_service_of)]
        instances = [*there, *_others(instances_before, there, key=_id_of)]
        self.contracts = {contract.service: contract for contract in contracts}
        self.operations = {record.name: record for contract in contracts for record in contract.operations}
        self.events = {record.name: record for contract in contracts for record in contract.events}
        topics: dict[str, list[SubscriptionRecord]] = {}
        for contract in contracts:
            for record in contract.subscriptions:
                topics.setdefault(record.topic, []).append(record)
        self.subscriptions = topics
        present: dict[str, list[Instance]] = {}
        for instance in instances:
            present.setdefault(instance.service, []).append(instance)
        self.present = present
        self._available = {
            service: [instance for instance in those if instance.serving and not instance.draining]
            for service, those in present.items()
        }
        self.peers = frozenset(instance.peer for instance in instances)
        stores: dict[str, list[Instance]] = {}
        for instance in instances:
            if instance.store:
                stores.setdefault(instance.store, []).append(instance)
        self._stores = stores
        self.generation += 1
        for callback in self._told:
            callback()
        async with self._fresh:
            self._fresh.notify_all()

    async def _until(self, condition: Callable[[], bool], within: Seconds) -> None:
        try:
            async with asyncio.timeout(within), self._fresh:
                await self._fresh.wait_for(condition)
        except TimeoutError:
            pass  # the caller looks again, and says what is missing

    async def _keep(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                await self.refresh()
            except UnavailableError as error:
                _log.warning("the registry cannot be read, the last view of it stands: %s", error)
                await asyncio.sleep(1.0)
                self._stale.set()


def _others(before: Sequence[T], now: Sequence[T], *, key: Callable[[T], str]) -> list[T]:
    """Return what was there before and has not come back."""
    back = {key(each) for each in now}
    return [each for each in before if key(each) not in back]


def _service_of(contract: Contract) -> str:
    return contract.service


def _id_of(instance: Instance) -> str:
    return instance.id


def unknown_operation(name: str, directory: Directory) -> UnknownServiceError:
    """Return the error for a name that nobody announced, which says what there is instead."""
    service = service_of(name)
    if contract := directory.contracts.get(service):
        offered = ", ".join(record.name for record in contract.operations) or "no operation"
        return UnknownServiceError(f"{service!r} has no operation {name!r}; it offers {offered}")
    known = ", ".join(sorted(directory.contracts)) or "none"
    return UnknownServiceError(f"nobody has announced {name!r}; services known here: {known}")
