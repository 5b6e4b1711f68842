"""Something to be done at an instant of the clock.

The loop's timer says when to look, the clock says whether it is time: a clock that is set by hand
moves without the loop's. Such a clock offers `wake`, and tells us when it was moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from posthouse.clock import Clock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from posthouse.clock import Instant, Seconds


@runtime_checkable
class MovableClock(Clock, Protocol):
    """A clock that someone sets, and that says so."""

    def wake(self, moved: Callable[[], None]) -> Callable[[], None]:
        """Call `moved` each time the clock was set; return what ends that."""
        ...


class Alarms:
    """All alarms of one broker: they share its loop and its clock."""

    __slots__ = ("_armed", "_forget", "clock", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop = loop
        self.clock = clock
        self._armed: dict[Alarm, None] = {}  # a dict, not a set: it keeps the order, so that every run is the same
        self._forget = clock.wake(self._moved) if isinstance(clock, MovableClock) else None

    def close(self) -> None:
        """Silence all of them."""
        if self._forget is not None:
            self._forget()
        for alarm in list(self._armed):
            alarm.cancel()

    def arm(self, alarm: Alarm) -> None:
        """Remember one that waits."""
        self._armed[alarm] = None

    def disarm(self, alarm: Alarm) -> None:
        """Forget one that does not wait any more."""
        self._armed.pop(alarm, None)

    def _moved(self) -> None:
        for alarm in list(self._armed):
            alarm.look()


class Alarm:
    """Calls `ring` once, when the instant that it is set to has come.

    Args:
        alarms: whose loop and clock it goes by.
        ring: what to call.
        patient: the loop's time counts as well as the clock's. So it is where somebody waits: he
            does so in the loop's time, even if the clock stands still.
    """

    __slots__ = ("_alarms", "_handle", "_patient", "_ring", "at")

    def __init__(self, alarms: Alarms, ring: Callable[[], None], *, patient: bool = False) -> None:
        self.at: Instant | None = None
        self._alarms = alarms
        self._ring = ring
        self._patient = patient
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: Instant) -> None:
        """Ring at this instant, or at the one set before if that is sooner."""
        if self.at is not None and self.at <= at:
            return
        self.at = at
        self._alarms.arm(self)
        self._start(at - self._alarms.clock.now())

    def cancel(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.at = None
        self._alarms.disarm(self)

    def look(self) -> None:
        """Ring if it is time."""
        if self.at is None:
            return
        left = self.at - self._alarms.clock.now()
        if left > 0:
            self._start(left)
            return
        self.cancel()
        self._ring()

    def _start(self, left: Seconds) -> None:
        if self._handle is not None:
            self._handle.cancel()
        # A millisecond at least: the loop's timers are coarser than the clock, and would spin.
        self._handle = self._alarms.loop.call_later(max(left, 0.001), self._due)

    def _due(self) -> None:
        self._handle = None
        if self._patient:
            self.cancel()
            self._ring()
        else:
            self.look()
