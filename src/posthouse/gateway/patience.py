"""Waits of one length that share one timer.

An HTTP request waits for its body and for its reply, and nearly always gets both long before it
would be given up. A timer for each would cost more than the waits; all of one length end in the
order in which they began, so one timer, set to the oldest, serves them all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.clock import Seconds

_Key = TypeVar("_Key")


class Patience(Generic[_Key]):
    """Gives up waits after `length` seconds.

    Args:
        length: of each wait, in seconds.
        give_up: what ends a wait; is called with its key, in the loop.
    """

    __slots__ = ("_ends", "_give_up", "_given_up", "_loop", "_timer", "length")

    def __init__(self, length: Seconds, give_up: Callable[[_Key], object]) -> None:
        self.length = length
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._ends: dict[_Key, float] = {}
        self._given_up: set[_Key] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, key: _Key) -> None:
        """Begin a wait."""
        ends = self._loop.time() + self.length
        self._ends[key] = ends
        if self._timer is None:
            self._timer = self._loop.call_at(ends, self._ring)

    def over(self, key: _Key) -> None:
        """End a wait, given up or not."""
        self._ends.pop(key, None)
        if self._given_up:
            self._given_up.discard(key)

    def gave_up(self, key: _Key) -> bool:
        """Say whether a wait that is not over was given up."""
        return key in self._given_up

    @property
    def waiting(self) -> list[_Key]:
        """The keys of the waits that are open."""
        return list(self._ends)

    def close(self) -> None:
        """Stop the timer; waits that are open are not given up any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        for key, ends in list(self._ends.items()):
            if ends > now:
                self._timer = self._loop.call_at(ends, self._ring)
                return
            del self._ends[key]
            self._given_up.add(key)
            self._give_up(key)
