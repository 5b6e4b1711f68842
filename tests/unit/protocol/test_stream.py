"""What a subscription asks for, and what it tells as lost: compared with sets of numbers, which are slow and plain."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.lane import Numbers
from posthouse.protocol.stream import FEEDS, begins_at, is_of_feed, is_taken, lost_below, lost_from, missing

_ALL = range(40)
_numbers = st.sets(st.sampled_from(_ALL))
_ends = st.integers(0, 45)


def numbers(over: Iterable[int]) -> Numbers:
    counted = Numbers()
    counted.add_all(over)
    return counted


def flat(runs: list[tuple[int, int]]) -> list[int]:
    """Return the numbers of runs; each must be a run, and they must rise without touching."""
    assert all(first <= last for first, last in runs)
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(runs))
    return [number for first, last in runs for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("over", "there", "head", "wanted"),
    [
        ([], [], 0, []),
        ([], [], 3, [(0, 2)]),
        ([0, 1], [], 2, []),
        ([0, 3], [1], 6, [(2, 2), (4, 5)]),
        ([], [5], 5, [(0, 4)]),
        ([], [0, 2], 3, [(1, 1)]),
    ],
)
def test_a_feed_asks_for_what_is_neither_over_nor_there(
    over: list[int], there: list[int], head: int, wanted: list[tuple[int, int]]
):
    assert missing(numbers(over), there, head=head, window=100, limit=100) == wanted


def test_a_feed_asks_for_no_more_than_it_may_and_no_farther_than_it_reaches():
    assert missing(Numbers(), [2], head=9, window=5, limit=100) == [(0, 1), (3, 4)]
    assert missing(Numbers(), [2], head=9, window=100, limit=4) == [(0, 1), (3, 4)]


@given(_numbers, _numbers, _ends, st.integers(1, 50), st.integers(1, 50))
def test_what_is_asked_for_is_the_lowest_of_all_that_is_missing(
    over: set[int], there: set[int], head: int, window: int, limit: int
):
    had = numbers(over)

    wanted = missing(had, sorted(there - over), head=head, window=window, limit=limit)

    reach = range(min(head, had.floor + window))
    assert flat(wanted) == [number for number in reach if number not in over | there][:limit]


@given(_numbers, _numbers, _ends)
def test_lost_is_all_below_the_first_that_is_kept_and_was_not_had(over: set[int], there: set[int], first: int):
    lost = lost_below(numbers(over), sorted(there - over), first=first)

    assert flat(lost) == [number for number in range(first) if number not in over | there]


@given(_numbers, _numbers, _ends, _ends)
def test_lost_is_all_that_a_restored_publisher_does_not_know_any_more_and_was_not_had(
    over: set[int], there: set[int], next: int, head: int
):
    lost = lost_from(numbers(over), sorted(there - over), next=next, head=head)

    assert flat(lost) == [number for number in range(next, head) if number not in over | there]


@given(_numbers, _ends, st.integers(1, 50))
def test_an_event_is_taken_once_and_not_from_too_far_ahead(over: set[int], number: int, window: int):
    had = numbers(over)

    assert is_taken(number, over=had, window=window) == (number not in over and number < had.floor + window)


def test_lanes_of_feeds_are_told_from_those_of_requests():
    assert not is_of_feed(0)
    assert not is_of_feed(FEEDS - 1)
    assert is_of_feed(FEEDS)


def test_a_subscription_wants_what_was_told_up_to_a_minute_before_it_was_made():
    assert begins_at(100.0) == 40.0
