"""Streams of events: what a subscription has had, what it misses, what is lost, and where it begins.

A stream is the numbered events of one topic, from one life of a publisher's store. The publisher keeps
them for a time, and confirms nothing: each subscription keeps which numbers are over, and asks for the
others. So no number is missed in silence: it is had, it is asked for, or it is told as lost.
This file stores and sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.protocol.lane import NUMBER_BITS, Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from posthouse.clock import Instant, Seconds

FEEDS: Final = 1 << (62 - NUMBER_BITS)
"""Feeds have lane numbers from here on; lanes of requests lie below. A place of a feed still fits into 63 bits."""

SKEW: Final[Seconds] = 60.0
"""How much a publisher's clock may be behind that of a new subscription, so that it misses nothing."""


def is_of_feed(lane: int) -> bool:
    """Say whether a lane number is that of a feed."""
    return lane >= FEEDS


def is_taken(number: int, *, over: Numbers, window: int) -> bool:
    """Say whether an event that is not there yet is to be stored: what lies too far ahead is asked for later."""
    return number < over.floor + window and not over.holds(number)


def missing(over: Numbers, there: Iterable[int], *, head: int, window: int, limit: int) -> list[tuple[int, int]]:
    """Return what a feed must ask for: first and last of each run of numbers, at most `limit` numbers in all.

    Args:
        over: what it has had.
        there: numbers that are stored and not over, rising.
        head: all below are known to exist.
        window: how far above its floor a feed reaches.
        limit: the most numbers.
    """
    wanted: list[tuple[int, int]] = []
    end = min(head, over.floor + window)
    left = limit
    for first, last in _gaps(_runs(over, there), over.floor, end):
        if left <= 0:
            break
        most = min(last, first + left - 1)
        wanted.append((first, most))
        left -= most - first + 1
    return wanted


def lost_below(over: Numbers, there: Iterable[int], *, first: int) -> list[tuple[int, int]]:
    """Return the runs of numbers that the publisher does not keep any more, and that were not had.

    Args:
        over: what the feed has had.
        there: numbers that are stored and not over, rising.
        first: the lowest that the publisher keeps.
    """
    return list(_gaps(_runs(over, there), over.floor, first))


def lost_from(over: Numbers, there: Iterable[int], *, next: int, head: int) -> list[tuple[int, int]]:
    """Return the runs from `next` to `head` that were known to exist once, and that a restored publisher never told.

    Args:
        over: what the feed has had.
        there: numbers that are stored and not over, rising.
        next: where the publisher's stream ends now.
        head: where it was known to end.
    """
    return [(max(first, next), last) for first, last in _gaps(_runs(over, there), over.floor, head) if last >= next]


def _runs(over: Numbers, there: Iterable[int]) -> Sequence[tuple[int, int]]:
    """Return the runs above the floor that are over or there, rising."""
    both = Numbers(over.floor, list(over.ranges))
    both.add_all(there)
    if both.floor > over.floor:
        return [(over.floor, both.floor - 1), *both.ranges]
    return both.ranges


def _gaps(runs: Sequence[tuple[int, int]], start: int, end: int) -> Iterable[tuple[int, int]]:
    """Return what lies between runs, from `start` to before `end`."""
    at = start
    for first, last in runs:
        if first >= end:
            break
        if first > at:
            yield at, first - 1
        at = max(at, last + 1)
    if at < end:
        yield at, end - 1


def begins_at(created: Instant) -> Instant:
    """Return the age by the publisher's clock from which on a subscription that was made then wants events."""
    return created - SKEW
