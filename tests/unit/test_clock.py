"""Durations, as users write them."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SystemClock, seconds


@pytest.mark.parametrize(
    ("written", "length"),
    [
        (0, 0.0),
        (5, 5.0),
        (0.25, 0.25),
        ("5s", 5.0),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        ("7d", 604_800.0),
        ("1.5h", 5400.0),
        ("1m1s1ms", 61.001),
        ("0s", 0.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_read_as_it_is_written(written: Any, length: float):
    assert seconds(written) == pytest.approx(length)


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "5", "s", "5 s", "5s ", " 5s", "-5s", "5x", "1h-30m", "5s!", "1e3s", "inf", ".5s", "5S", "9" * 400 + "d"),
        *(-1, -0.001, float("inf"), float("nan"), timedelta(seconds=-1)),
    ],
    ids=repr,
)
def test_what_is_no_duration_is_refused(wrong: Any):
    with pytest.raises(ValueError, match="duration"):
        seconds(wrong)


@given(st.dictionaries(st.sampled_from(["d", "h", "m", "s", "ms"]), st.integers(0, 999)))
def test_parts_add_up(parts: dict[str, int]):
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    text = "".join(f"{number}{unit}" for unit, number in parts.items())

    if parts:
        assert seconds(text) == pytest.approx(sum(number * units[unit] for unit, number in parts.items()))


@given(st.text())
def test_any_text_is_a_length_or_a_value_error(text: str):
    try:
        length = seconds(text)
    except ValueError:
        return
    assert 0 <= length < float("inf")


@given(st.floats(0, 1e12) | st.timedeltas(min_value=timedelta(0)))
def test_numbers_and_timedeltas_are_themselves(length: Any):
    assert seconds(length) == (length.total_seconds() if isinstance(length, timedelta) else length)


def test_the_system_clock_tells_the_machines_time():
    before = time.time()
    now = SystemClock().now()

    assert before <= now <= time.time()
