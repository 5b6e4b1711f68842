"""The clock that is set by hand."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.clock import SystemClock
from posthouse.runtime.timers import timers_of
from posthouse.testing import ManualClock
from posthouse.testing.clock import NOON


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


# --- timers -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_timer_rings_when_the_clock_has_come_to_it_and_once_only():
    clock, rung = ManualClock(), list[str]()

    clock.call_later(5.0, rung.append, "later")
    clock.call_at(clock.time() + 2.0, rung.append, "soon")
    clock.call_later(3.0, rung.append, "never").cancel()
    seen: list[list[str]] = []
    for step in (1.9, 0.1, 2.9, 10.0):
        clock.advance(step)
        await asyncio.sleep(0)
        seen.append(list(rung))

    assert seen == [[], ["soon"], ["soon"], ["soon", "later"]]


@pytest.mark.anyio
async def test_timers_that_are_due_together_ring_in_the_order_of_their_times():
    clock, rung = ManualClock(), list[int]()

    for number in (3, 1, 2):
        clock.call_later(number, rung.append, number)
    clock.advance(60)
    await asyncio.sleep(0)

    assert rung == [1, 2, 3]


@pytest.mark.anyio
async def test_a_timer_that_is_set_again_by_its_own_ring_waits_for_the_next_step_of_the_clock():
    clock, rung = ManualClock(), list[float]()

    def ring() -> None:
        rung.append(clock.now())
        clock.call_later(1.0, ring)

    clock.call_later(1.0, ring)
    for _ in range(2):
        clock.advance(60)
        await asyncio.sleep(0)

    assert [at - NOON for at in rung] == [60.0, 120.0]


@pytest.mark.anyio
async def test_what_is_due_already_rings_in_the_next_turn():
    clock, rung = ManualClock(), list[str]()

    clock.call_later(0.0, rung.append, "now")
    before = list(rung)
    await asyncio.sleep(0)

    assert (before, rung) == ([], ["now"])


@pytest.mark.anyio
async def test_the_timers_of_a_clock_are_its_own_and_those_of_any_other_are_the_loops():
    clock = ManualClock()

    assert timers_of(clock) is clock
    assert timers_of(SystemClock()) is asyncio.get_running_loop()
