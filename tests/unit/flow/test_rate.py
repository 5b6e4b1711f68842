"""TokenBucket: no more than burst and rate allow, and what it says to hold off is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.flow.rate import TokenBucket

NOON = 1_000.0


def full_bucket(*, rate: float, burst: float) -> TokenBucket:
    return TokenBucket(rate=rate, burst=burst, tokens=burst, filled_at=NOON)


def test_a_burst_is_admitted_then_the_next_is_told_how_long_to_hold_off():
    bucket = full_bucket(rate=10.0, burst=5)

    holds = [bucket.admit(NOON) for _ in range(6)]

    assert holds == [0.0, 0.0, 0.0, 0.0, 0.0, 0.1]


def test_a_clock_that_goes_back_adds_nothing():
    bucket = full_bucket(rate=10.0, burst=1)
    bucket.admit(NOON)

    assert bucket.admit(NOON - 500.0) == pytest.approx(0.1)
    assert bucket.admit(NOON) == pytest.approx(0.1)


def test_what_costs_more_than_the_burst_waits_for_a_full_bucket_and_leaves_a_debt():
    bucket = full_bucket(rate=1.0, burst=5)

    assert bucket.admit(NOON, cost=20.0) == 0.0
    assert bucket.admit(NOON) == pytest.approx(16.0)


@given(
    st.floats(0.1, 1000.0),
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 10.0), st.integers(1, 150)), max_size=60),
)
def test_no_more_are_admitted_than_burst_and_rate_allow(rate: float, burst: int, steps: list[tuple[float, int]]):
    bucket = full_bucket(rate=rate, burst=burst)
    now, admitted, largest = NOON, 0, 0

    for gap, cost in steps:
        now += gap
        if not bucket.admit(now, cost):
            admitted += cost
            largest = max(largest, cost)
        debt = max(0, largest - burst)
        assert admitted <= (burst + debt + rate * (now - NOON)) * (1 + 1e-9) + 1e-6


@given(st.floats(0.1, 1000.0), st.integers(1, 100), st.integers(1, 150), st.integers(0, 200))
def test_who_holds_off_as_long_as_told_is_admitted(rate: float, burst: int, cost: int, before: int):
    bucket = full_bucket(rate=rate, burst=burst)
    for _ in range(before):
        bucket.admit(NOON)

    hold_off = bucket.admit(NOON, cost)

    assert bucket.admit(NOON + hold_off * (1 + 1e-9) + 1e-6, cost) == 0.0 if hold_off else True
