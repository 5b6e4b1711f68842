"""The clock that is set by hand."""

from __future__ import annotations

import pytest

from posthouse.testing import ManualClock


def test_time_stands_still_until_it_is_advanced():
    clock = ManualClock(100.0)

    instants = [clock.now(), clock.now()]
    clock.advance("1m30s")

    assert [*instants, clock.now()] == [100.0, 100.0, 190.0]


def test_time_may_be_set_back():
    clock = ManualClock(100.0)

    clock.set(40.0)

    assert clock.now() == 40.0


def test_time_is_not_advanced_backwards():
    with pytest.raises(ValueError, match="0 or more"):
        ManualClock().advance(-1.0)


def test_whoever_asked_is_told_of_each_move_after_it_was_made_until_he_asks_no_more():
    clock = ManualClock(0.0)
    seen: list[tuple[str, float]] = []
    stop = clock.wake(lambda: seen.append(("first", clock.now())))
    clock.wake(lambda: seen.append(("second", clock.now())))

    clock.advance(1.0)
    stop()
    stop()
    clock.set(5.0)

    assert seen == [("first", 1.0), ("second", 1.0), ("second", 5.0)]
