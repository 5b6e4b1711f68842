"""A clock that is set by hand.

Whoever waits for an instant cannot see that such a clock was moved, so the clock says so: it offers
`wake(moved)`, and calls `moved` each time. A backend that knows a clock only as `posthouse.clock.Clock`
asks whether it has `wake`; one that looks at the time whenever it is asked for something needs no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.clock import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.clock import Duration, Instant

NOON: Final[Instant] = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""


class ManualClock:
    """Tells the time that it was set to.

    Args:
        start: the first instant.
    """

    def __init__(self, start: Instant = NOON) -> None:
        self._now = start
        self._told: dict[object, Callable[[], None]] = {}

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

    def wake(self, moved: Callable[[], None]) -> Callable[[], None]:
        """Call `moved` each time the clock was set; return what ends that."""
        mark = object()
        self._told[mark] = moved

        def tell_no_more() -> None:
            self._told.pop(mark, None)

        return tell_no_more
