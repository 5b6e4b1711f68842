"""What a broker knows of services: contracts, subscriptions, instances, and who watches.

Watchers are rung in the next turn of the loop, once for all changes of this one. A heartbeat rings
nobody; an instance whose lease runs out does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.backends.memory.alarm import Alarm
from posthouse.message.names import service_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from posthouse.backends.memory.alarm import Alarms
    from posthouse.clock import Instant, Seconds
    from posthouse.contracts.registry import Contract, Instance, SubscriptionRecord

HEARTBEAT: Final[Seconds] = 5.0
LEASE: Final[Seconds] = 3 * HEARTBEAT


class Directory:
    """The registry's state.

    Args:
        alarms: the loop and the clock that it goes by.
    """

    def __init__(self, alarms: Alarms) -> None:
        self.contracts: dict[str, Contract] = {}
        self.subscriptions: dict[str, SubscriptionRecord] = {}
        self._alarms = alarms
        self._instances: dict[str, Instance] = {}
        self._watchers: dict[object, list[Callable[[], None]]] = {}
        self._ringing = False
        self._alarm = Alarm(alarms, self._look)

    # --- watching ------------------------------------------------------------------------------------

    def watch(self, watcher: object, changed: Callable[[], None]) -> None:
        """Ring this after each change."""
        self._watchers.setdefault(watcher, []).append(changed)

    def unwatch(self, watcher: object) -> None:
        """Ring none of a watcher's any more."""
        self._watchers.pop(watcher, None)

    def _changed(self) -> None:
        if not self._ringing:
            self._ringing = True
            self._alarms.loop.call_soon(self._ring)

    def _ring(self) -> None:
        self._ringing = False
        for bells in list(self._watchers.values()):
            for ring in bells:
                ring()

    def wipe(self) -> None:
        """Forget all but the watchers, who are rung."""
        self.contracts.clear()
        self.subscriptions = {}
        self._instances.clear()
        self._changed()

    # --- contracts and subscriptions -----------------------------------------------------------------

    def announce(self, contract: Contract) -> None:
        """Replace a service's contract, and keep its subscriptions."""
        known = self.contracts.get(contract.service)
        subscriptions = self._with(contract)
        same = known is not None and msgspec.structs.replace(contract, announced=known.announced) == known
        if same and subscriptions == self.subscriptions:
            return
        if not same:
            now = self._alarms.clock.now()
            self.contracts[contract.service] = msgspec.structs.replace(contract, announced=now)
        self.subscriptions = subscriptions
        self._changed()

    def _with(self, contract: Contract) -> dict[str, SubscriptionRecord]:
        """Return all subscriptions, those of a service as its new contract has them."""
        subscriptions = {
            name: msgspec.structs.replace(record, declared=False) if service_of(name) == contract.service else record
            for name, record in self.subscriptions.items()
        }
        for record in contract.subscriptions:
            subscriptions[record.name] = msgspec.structs.replace(record, declared=True)
        return subscriptions

    def forget(self, service: str) -> bool:
        """Remove a contract; return whether there was one."""
        if self.contracts.pop(service, None) is None:
            return False
        self._changed()
        return True

    def unsubscribe(self, name: str) -> bool:
        """Remove a subscription; return whether there was one."""
        if self.subscriptions.pop(name, None) is None:
            return False
        self._changed()
        return True

    # --- instances -----------------------------------------------------------------------------------

    def register(self, instances: Iterable[Instance]) -> None:
        """Enter instances, or renew their leases."""
        now = self._alarms.clock.now()
        self._expire(now)
        for instance in instances:
            known = self._instances.get(instance.id)
            seen = msgspec.structs.replace(instance, seen=now)
            self._instances[instance.id] = seen
            if known is None or msgspec.structs.replace(known, seen=now, load=instance.load) != seen:
                self._changed()
        self._await_expiry()

    def leave(self, ids: Sequence[str]) -> None:
        """Take instances out."""
        if [id for id in ids if self._instances.pop(id, None) is not None]:
            self._changed()

    def instances(self) -> list[Instance]:
        """Return the instances whose lease is good, oldest first."""
        self._expire(self._alarms.clock.now())
        return sorted(self._instances.values(), key=lambda instance: (instance.started, instance.id))

    def _expire(self, now: Instant) -> None:
        self.leave([instance.id for instance in self._instances.values() if instance.seen + LEASE <= now])

    def _await_expiry(self) -> None:
        if self._instances:
            self._alarm.set(min(instance.seen for instance in self._instances.values()) + LEASE)

    def _look(self) -> None:
        self._expire(self._alarms.clock.now())
        self._await_expiry()
