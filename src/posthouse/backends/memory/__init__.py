"""The engine that needs nothing: all in the memory of one process, for tests and simulation.

Everything that is opened by one location name, within one process and one event loop, shares one
broker: `memory:` is the process's nameless one, `memory:NAME` another. A broker forgets all that it
holds when its last user closes. It is deterministic: no chance, no time of its own, call-backs in
the order in which they were caused.

It keeps nothing across the end of the process, and says so in `features.durable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.backends.memory.broker import Broker, broker_named
from posthouse.backends.memory.registry import MemoryRegistry
from posthouse.backends.memory.transport import MemoryTransport

if TYPE_CHECKING:
    from posthouse.clock import Clock

__all__ = ["Broker", "MemoryRegistry", "MemoryTransport", "backend"]


def backend(location: str, *, peer: str, clock: Clock) -> tuple[MemoryTransport, MemoryRegistry]:
    """Return a transport and a registry on the broker of this name; neither is open yet.

    Args:
        location: the broker's name; empty for the process's nameless one.
        peer: where this user is reached directly; unique on the broker.
        clock: what time it is; that of whoever opens the broker first counts for all.
    """
    broker = broker_named(location)
    return MemoryTransport(broker, peer=peer, clock=clock), MemoryRegistry(broker, clock=clock)
