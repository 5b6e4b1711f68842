"""The registry contract on a broker in memory; what it does stands in directory.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.backends.memory.directory import HEARTBEAT
from posthouse.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthouse.backends.memory.broker import Broker
    from posthouse.backends.memory.directory import Directory
    from posthouse.clock import Clock
    from posthouse.contracts.registry import Contract, Instance, SubscriptionRecord


class MemoryRegistry:
    """Knows the services of those who share a broker.

    Args:
        broker: what they share.
        clock: what time it is, if this user is the first to open the broker.
    """

    def __init__(self, broker: Broker, *, clock: Clock) -> None:
        self.heartbeat = HEARTBEAT
        self._broker = broker
        self._clock = clock
        self._is_open = False
        self._bells: list[Callable[[], None]] = []
        self._resets: list[Callable[[], None]] = []
        self._entered: dict[str, None] = {}

    async def open(self) -> None:
        """Join the broker.

        Raises:
            UsageError: the broker is used in another event loop.
        """
        if self._is_open:
            return
        self._broker.join(self, self._clock, resets=self._resets)
        self._is_open = True
        for changed in self._bells:
            self._broker.directory.watch(self, changed)

    async def close(self) -> None:
        """Take the instances out that were entered here, and leave the broker."""
        if not self._is_open:
            return
        self._is_open = False
        self._broker.directory.unwatch(self)
        self._broker.directory.leave(list(self._entered))
        self._entered.clear()
        self._broker.quit(self)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` in the next turn of the loop after anything but a heartbeat has changed."""
        self._bells.append(changed)
        if self._is_open:
            self._broker.directory.watch(self, changed)

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the broker was wiped."""
        self._resets.append(callback)

    async def announce(self, contract: Contract) -> None:
        """Replace the contract of a service, and keep its subscriptions."""
        self._directory().announce(contract)

    async def forget(self, service: str) -> bool:
        """Remove a contract; return whether there was one. Its subscriptions and instances stay."""
        return self._directory().forget(service)

    async def contracts(self) -> list[Contract]:
        """Return all contracts, by name."""
        contracts = self._directory().contracts
        return [contracts[service] for service in sorted(contracts)]

    async def subscriptions(self) -> list[SubscriptionRecord]:
        """Return all subscriptions, by name."""
        subscriptions = self._directory().subscriptions
        return [subscriptions[name] for name in sorted(subscriptions)]

    async def unsubscribe(self, name: str) -> bool:
        """Remove a subscription; return whether there was one."""
        return self._directory().unsubscribe(name)

    async def register(self, instances: Sequence[Instance]) -> None:
        """Enter these instances, or renew their leases with what changed."""
        self._directory().register(instances)
        self._entered.update(dict.fromkeys(instance.id for instance in instances))

    async def leave(self, ids: Sequence[str]) -> None:
        """Take these instances out; no error for one that is not there."""
        self._directory().leave(ids)
        for id in ids:
            self._entered.pop(id, None)

    async def instances(self) -> list[Instance]:
        """Return the instances whose lease is good, oldest first."""
        return self._directory().instances()

    def _directory(self) -> Directory:
        if not self._is_open:
            raise UnavailableError("the registry is not open")
        return self._broker.directory
