"""Where timers come from: the loop; or a clock that is set by hand, whose time passes when a test says so.

Whatever a journal does after a while (resends, acks, retries, expiries) goes by these. What measures how fast this
process is (credit, handlers' time-outs) goes by the loop, whose time nobody sets.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.clock import Clock, Seconds


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """Do not call it."""
        ...


@runtime_checkable
class Timers(Protocol):
    """Calls back after a while; as much of a loop as that takes."""

    def time(self) -> Seconds:
        """Return how much time has passed, since nobody knows when."""
        ...

    def call_at(self, when: Seconds, callback: Callable[..., object], *args: object) -> Timer:
        """Call back at a time."""
        ...

    def call_later(self, delay: Seconds, callback: Callable[..., object], *args: object) -> Timer:
        """Call back after a while."""
        ...


def timers_of(clock: Clock) -> Timers:
    """Return the timers that go with a clock: its own, if it has any, else those of the running loop."""
    return clock if isinstance(clock, Timers) else asyncio.get_running_loop()
