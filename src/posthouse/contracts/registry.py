"""What knows the services: three things with three lives.

- The **contract** of a service: durable until it is replaced, or forgotten by command. Routes and
  modes come from it, so they outlive a restart of the service.
- The **subscription**: durable until it is removed. One whose declaration vanished is shown and
  drained, it does not grow in silence.
- The **instance**: leased by heartbeats. It is gone when it leaves, when its process is seen to be
  dead, or when its lease runs out.

All three are gone when the engine's data is wiped while it is used; see `on_reset`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from posthouse.clock import Instant, Seconds
from posthouse.message.message import Mode


class OperationRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One operation of a contract.

    Attributes:
        name: "prices.quote"; also the address of its queue.
        mode: what a delivery promises.
        request: the JSON schema of the request's data.
        reply: the JSON schema of the reply's data; {"type": "null"} when there is none.
        http: its route, "POST /orders/{id}"; empty for none.
        status: of a good HTTP answer; 0 for 200, or 204 without data.
        whole_request: its request is the whole HTTP request (HttpRequest).
        key: the field that is the ordering key; empty for none.
        rejects: (code, HTTP status) of each Reject that the contract lists.
        exhausted: what the end of all attempts means to a caller; empty for the default.
    """

    name: str
    mode: Mode
    request: dict[str, Any] = {}
    reply: dict[str, Any] = {}
    http: str = ""
    status: int = 0
    whole_request: bool = False
    key: str = ""
    rejects: tuple[tuple[str, int], ...] = ()
    exhausted: str = ""


class EventRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event of a contract; its name is its topic."""

    name: str
    mode: Mode
    data: dict[str, Any] = {}
    key: str = ""
    retain: Seconds = 604800.0


class SubscriptionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A service's lasting claim on a topic.

    Attributes:
        name: its lasting name, "audit.note"; also the address of its queue.
        topic: the event.
        mode: what a delivery promises.
        declared: whether the newest contract of its service still has it.
    """

    name: str
    topic: str
    mode: Mode
    declared: bool = True


class Contract(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a service offers, tells and hears."""

    service: str
    version: str
    operations: tuple[OperationRecord, ...] = ()
    events: tuple[EventRecord, ...] = ()
    subscriptions: tuple[SubscriptionRecord, ...] = ()
    announced: Instant = 0.0


class Instance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One running instance of a service.

    Attributes:
        id: unique for ever.
        service: whose instance it is.
        peer: where its process is reached directly; several services of a process share it.
        pid: its process, for people.
        host: its machine, for people.
        started: when it was.
        serving: it takes work; one that only asks (a client, the gateway) does not.
        draining: it takes no new work any more.
        load: handlers at work now.
        store: the id of its store; empty for one that has none.
        store_epoch: the life of its store.
        seen: its last heartbeat.
    """

    id: str
    service: str
    peer: str
    pid: int = 0
    host: str = ""
    started: Instant = 0.0
    serving: bool = True
    draining: bool = False
    load: int = 0
    store: str = ""
    store_epoch: int = 0
    seen: Instant = 0.0


class Registry(Protocol):
    """Knows contracts, subscriptions and instances. Every method may raise UnavailableError."""

    heartbeat: Seconds
    """How often an instance says that it lives; its lease is three times that."""

    async def open(self) -> None:
        """Connect, or create what is not there."""
        ...

    async def close(self) -> None:
        """Take this process's instances out, and let go of everything."""
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` soon after anything but a heartbeat has changed, whoever changed it."""
        ...

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time when all that was known is gone, and can be told again.

        It is called in every process that has the registry open, soon (within about a second), on the loop; it must
        not block or raise. Those who watch are told after it that something has changed.
        """
        ...

    async def announce(self, contract: Contract) -> None:
        """Replace the contract of a service, and keep its subscriptions.

        A subscription that an earlier contract had and this one has not stays, as not declared.
        Announcing the same again changes nothing and rings nobody.
        """
        ...

    async def forget(self, service: str) -> bool:
        """Remove a contract; return whether there was one. Its subscriptions and instances stay."""
        ...

    async def contracts(self) -> list[Contract]:
        """Return all contracts, by name."""
        ...

    async def subscriptions(self) -> list[SubscriptionRecord]:
        """Return all subscriptions, by name."""
        ...

    async def unsubscribe(self, name: str) -> bool:
        """Remove a subscription; return whether there was one."""
        ...

    async def register(self, instances: Sequence[Instance]) -> None:
        """Enter these instances, or renew their leases with what changed (load, draining)."""
        ...

    async def leave(self, ids: Sequence[str]) -> None:
        """Take these instances out; no error for one that is not there."""
        ...

    async def instances(self) -> list[Instance]:
        """Return the instances whose lease is good, oldest first."""
        ...
