"""Credit: no place to work at stays empty, a fast handler is never short, a slow one hoards nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posthouse.flow.credit import CEILING, LOOK_AHEAD, Credit


def test_at_first_what_can_be_worked_on_at_once_is_asked_for():
    assert Credit(64, measured_at=0.0).ask(held=0, now=0.0) == 64


def test_with_one_place_one_at_a_time_is_asked_for():
    credit = Credit(1, measured_at=0.0)

    assert [credit.ask(held=0, now=0.0), credit.ask(held=1, now=0.0)] == [1, 0]


@given(st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 100))
def test_while_a_place_is_empty_more_are_asked_for(concurrency: int, held: int, done: int, elapsed: float):
    credit = Credit(concurrency, measured_at=0.0, done=done)

    asked = credit.ask(held=held, now=elapsed)

    assert 0 <= asked <= CEILING
    assert asked > 0 if held < concurrency else (not asked or asked + held <= CEILING)


def test_a_fast_handler_is_given_what_it_does_in_the_look_ahead():
    credit = Credit(8, measured_at=0.0, done=4000)

    credit.ask(held=0, now=1.0)

    assert credit.target == int(4000 * LOOK_AHEAD)


def test_a_fast_handler_is_asked_for_by_halves():
    credit = Credit(8, measured_at=0.0, done=4000)
    credit.ask(held=0, now=1.0)

    assert [credit.ask(held=held, now=1.0) for held in (400, 201, 200)] == [0, 0, 200]
    assert credit.low_water == 200


def test_no_speed_asks_for_more_than_the_ceiling():
    credit = Credit(8, measured_at=0.0, done=10_000_000)

    assert credit.ask(held=0, now=1.0) == CEILING


def test_a_slow_handler_hoards_nothing_even_if_two_end_in_one_moment():
    credit = Credit(8, measured_at=0.0, done=2)

    assert credit.ask(held=6, now=1e-6) == 2
    assert credit.target == 8


def test_one_that_was_fast_comes_down_by_halves():
    credit = Credit(8, measured_at=0.0, target=0, done=10_000)
    credit.ask(held=0, now=1.0)
    targets: list[int] = []

    for now in range(2, 12):
        credit.ask(held=0, now=float(now))
        targets.append(credit.target)

    assert targets == [500, 250, 125, 62, 31, 15, 8, 8, 8, 8]


@given(st.integers(1, 200), st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), max_size=30))
def test_more_is_asked_for_exactly_at_the_low_water(concurrency: int, steps: list[tuple[int, float]]):
    credit = Credit(concurrency, measured_at=0.0)
    now = 0.0
    held = credit.ask(held=0, now=now)

    for done, elapsed in steps:
        now += elapsed
        ended = min(done, held)
        held -= ended
        credit.done += ended
        asked = credit.ask(held=held, now=now)
        assert (asked > 0) == (held <= credit.low_water)
        held += asked
        assert not asked or held <= credit.target
