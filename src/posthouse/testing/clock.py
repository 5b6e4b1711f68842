"""A clock that is set by hand.

Whoever waits for an instant cannot see that such a clock was moved, so the clock says so: it offers
`wake(moved)`, and calls `moved` each time. A backend that knows a clock only as `posthouse.clock.Clock`
asks whether it has `wake`; one that looks at the time whenever it is asked for something needs no more.
It has timers too (see runtime/timers.py): each is due when the clock has come to it, at most once for
each time that the clock is set.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from posthouse.clock import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.clock import Duration, Instant, Seconds

NOON: Final[Instant] = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""


class ManualTimer:
    """A callback that waits for its time.

    Attributes:
        when: it is due, by the clock.
        is_over: it was called, or is not to be.
    """

    def __init__(self, when: Instant, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self.when = when
        self.is_over = False
        self._callback = callback
        self._arguments = arguments

    def cancel(self) -> None:
        """Do not call it."""
        self.is_over = True

    def ring(self) -> None:
        """Call it, if nobody has canceled it meanwhile."""
        if not self.is_over:
            self.is_over = True
            self._callback(*self._arguments)


class ManualClock:
    """Tells the time that it was set to.

    Args:
        start: the first instant.
    """

    def __init__(self, start: Instant = NOON) -> None:
        self._now = start
        self._told: dict[object, Callable[[], None]] = {}
        self._timers: list[ManualTimer] = []

    def now(self) -> Instant:
        """Return the present moment."""
        return self._now

    def advance(self, by: Duration) -> None:
        """Go forward, and tell everybody who asked for it.

        Args:
            by: seconds, "5s" or a timedelta; 0 or more.

        Raises:
            ValueError: it is not a duration.
        """
        self.set(self._now + seconds(by))

    def set(self, to: Instant) -> None:
        """Be at this instant, earlier or later, and tell everybody who asked for it."""
        self._now = to
        for moved in list(self._told.values()):
            moved()
        due = sorted((timer for timer in self._timers if timer.when <= to), key=lambda timer: timer.when)
        self._timers = [timer for timer in self._timers if timer.when > to and not timer.is_over]
        for timer in due:
            asyncio.get_running_loop().call_soon(timer.ring)

    def wake(self, moved: Callable[[], None]) -> Callable[[], None]:
        """Call `moved` each time the clock was set; return what ends that."""
        mark = object()
        self._told[mark] = moved

        def tell_no_more() -> None:
            self._told.pop(mark, None)

        return tell_no_more

    # --- timers ---------------------------------------------------------------------------------------

    def time(self) -> Seconds:
        """Return the present moment, as what timers are set by."""
        return self._now

    def call_at(self, when: Seconds, callback: Callable[..., object], *args: object) -> ManualTimer:
        """Call back in the loop, when the clock was set to this instant or a later one.

        What is due already is called in the next turn of the loop.
        """
        timer = ManualTimer(when, callback, args)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.ring)
        else:
            self._timers.append(timer)
        return timer

    def call_later(self, delay: Seconds, callback: Callable[..., object], *args: object) -> ManualTimer:
        """Call back in the loop, when the clock has moved so far."""
        return self.call_at(self._now + delay, callback, *args)
