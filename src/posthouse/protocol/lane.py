"""A lane: the numbered requests from one life of a caller's store to one service.

A number is taken once, in the order of commits, and is never given twice. Which numbers are over is
a floor and ranges above it, so that what a lane costs does not grow with what went through it: `Numbers`
is that structure, for the caller (final) and for the replier (forgotten) alike.

A row's *place* is its lane and its number in one integer: rows of a lane lie side by side, in order.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBER_BITS: Final = 40
"""Of a place; the lane takes the rest."""

_NUMBER_MASK: Final = (1 << NUMBER_BITS) - 1

SELF: Final = 0
"""The lane of a store to itself: deposits that it adopted, replies and acks that its own handlers run for."""

WINDOW: Final = 1000
"""The most requests of a lane that are numbered and neither answered nor known to be parked."""


def place_of(lane: int, number: int) -> int:
    """Return the place of a number in a lane."""
    return lane << NUMBER_BITS | number


def lane_of(place: int) -> int:
    """Return the lane of a place."""
    return place >> NUMBER_BITS


def number_of(place: int) -> int:
    """Return the number of a place."""
    return place & _NUMBER_MASK


class Numbers(msgspec.Struct, array_like=True):
    """Which numbers of a lane are over: all below the floor, and those in the ranges above it.

    Attributes:
        floor: the lowest number that is not over.
        ranges: first and last of each run of numbers that are over, above the floor, rising, apart.
    """

    floor: int = 0
    ranges: list[tuple[int, int]] = []

    def holds(self, number: int) -> bool:
        """Say whether a number is over."""
        if number < self.floor:
            return True
        ranges = self.ranges
        if not ranges:
            return False
        at = bisect_left(ranges, (number + 1,)) - 1
        return at >= 0 and number <= ranges[at][1]

    def add(self, number: int) -> None:
        """Count a number as over; again is no error."""
        if number == self.floor:
            self.raise_to(number + 1)
        elif not self.holds(number):
            self._insert(number, number)

    def add_all(self, numbers: Iterable[int]) -> None:
        """Count several as over."""
        first = last = -1
        for number in sorted(numbers):
            if number > last + 1:
                self._add_run(first, last)
                first = number
            last = number
        self._add_run(first, last)

    def raise_to(self, floor: int) -> None:
        """Count all below `floor` as over."""
        if floor <= self.floor:
            return
        ranges = self.ranges
        while ranges and ranges[0][0] <= floor:
            floor = max(floor, ranges.pop(0)[1] + 1)
        self.floor = floor

    def merge(self, other: Numbers) -> None:
        """Count as over what the other one does."""
        self.raise_to(other.floor)
        for first, last in other.ranges:
            self._add_run(first, last)

    def take_out(self, first: int, last: int) -> None:
        """Count a run of numbers as not over any more."""
        runs = [(0, self.floor - 1), *self.ranges] if self.floor else self.ranges
        left: list[tuple[int, int]] = []
        for begin, end in runs:
            if begin < first:
                left.append((begin, min(end, first - 1)))
            if end > last:
                left.append((max(begin, last + 1), end))
        self.floor = left[0][1] + 1 if left and left[0][0] == 0 else 0
        self.ranges = left[1:] if self.floor else left

    @property
    def count(self) -> int:
        """How many are over."""
        return self.floor + sum(last - first + 1 for first, last in self.ranges)

    def _add_run(self, first: int, last: int) -> None:
        if last < self.floor:
            return
        if first <= self.floor:
            self.raise_to(last + 1)
        else:
            self._insert(first, last)

    def _insert(self, first: int, last: int) -> None:
        """Put a run above the floor in its place, joined with those that it touches."""
        ranges = self.ranges
        at = bisect_left(ranges, (first,))
        if at and ranges[at - 1][1] >= first - 1:
            at -= 1
            first = ranges[at][0]
        end = at
        while end < len(ranges) and ranges[end][0] <= last + 1:
            last = max(last, ranges[end][1])
            end += 1
        ranges[at:end] = [(first, last)]
