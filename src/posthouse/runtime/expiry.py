"""Ends waits whose time is over, with one timer for all: most are over long before, and then cost nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from posthouse.clock import Seconds
    from posthouse.runtime.timers import Timer, Timers

_Key = TypeVar("_Key", bound="Hashable")

NEVER: Final = float("inf")


class Expiry(Generic[_Key]):
    """Waits, by key, each with its end.

    Args:
        end: what ends a wait; called with its key.
        timers: by which time passes.
    """

    __slots__ = ("_end", "_ends", "_next", "_timer", "_timers")

    def __init__(self, end: Callable[[_Key], None], timers: Timers) -> None:
        self._end = end
        self._timers = timers
        self._ends: dict[_Key, float] = {}
        self._timer: Timer | None = None
        self._next = NEVER

    def begin(self, key: _Key, length: Seconds) -> None:
        """Begin a wait."""
        ends = self._timers.time() + length
        self._ends[key] = ends
        if ends < self._next:
            self._wake_at(ends)

    def over(self, key: _Key) -> None:
        """The wait is over by itself; one that never began is no error."""
        self._ends.pop(key, None)

    def close(self) -> None:
        """End nothing any more."""
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = self._timers.call_at(when, self._ring)

    def _ring(self) -> None:
        now = self._timers.time()
        self._timer, self._next = None, NEVER
        for key in [key for key, ends in self._ends.items() if ends <= now]:
            if self._ends.pop(key, None) is not None:
                self._end(key)
        soonest = min(self._ends.values(), default=NEVER)
        if soonest < self._next:
            self._wake_at(soonest)
