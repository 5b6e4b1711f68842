"""What the runtime does not make itself: time, chance, ids and tasks.

They are handed in, so that the real code can be simulated: the same seed gives the same trace.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from posthouse.clock import Clock, SystemClock

_RANDOM_BYTES: Final = 10
_POOL_BYTES: Final = 4090


@dataclass(frozen=True, slots=True)
class Seams:
    """The world, as the runtime sees it.

    Attributes:
        clock: tells the time.
        rng: jitter and balancing; never a secret.
        new_id: 128 bits in hex that nobody can guess, and that rise with time.
        spawn: starts a task with a name; whoever spawns awaits it.
    """

    clock: Clock
    rng: random.Random
    new_id: Callable[[], str]
    spawn: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]]


def system_seams() -> Seams:
    """Return the real world."""
    return Seams(SystemClock(), random.Random(), random_ids(), spawn)


def spawn(coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Start a task in the running loop."""
    return asyncio.get_running_loop().create_task(coroutine, name=name)


def random_ids(now: Callable[[], float] = time.time) -> Callable[[], str]:
    """Return a source of ids: 48 bits of the time in milliseconds, then 80 of the system's randomness.

    Ids that were made together stand together in an index, and rising ones at its end. The randomness is read
    for many ids at a time; a fork empties the pool, so that no two processes hand out the same ids.

    Source: the layout of UUID version 7, RFC 9562 section 5.7, without its fixed bits.
    """
    pool: list[str] = []
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=pool.clear)

    def new_id() -> str:
        if not pool:
            drawn = os.urandom(_POOL_BYTES).hex()
            width = 2 * _RANDOM_BYTES
            pool.extend(drawn[i : i + width] for i in range(0, len(drawn) - width + 1, width))
        return f"{int(now() * 1000):012x}{pool.pop()}"

    return new_id


def seeded_seams(seed: int, *, clock: Clock) -> Seams:
    """Return a world that is the same for the same seed; for simulation and tests."""
    rng = random.Random(seed)
    ids = random.Random(seed + 1)
    return Seams(clock, rng, lambda: f"{int(clock.now() * 1000):012x}{ids.getrandbits(80):020x}", spawn)
