"""full_jitter: never above its ceiling, evenly drawn, and the same for the same seed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.flow.backoff import full_jitter

waits = st.floats(min_value=1e-6, max_value=1e6)


@given(st.integers(1, 10_000), waits, waits, st.integers())
@example(10_000, 1e-6, 1e6, 0)
def test_a_wait_is_never_above_the_cap_nor_above_its_doubled_base(attempt: int, one: float, other: float, seed: int):
    base, cap = sorted((one, other))

    wait = full_jitter(attempt, base=base, cap=cap, rng=Random(seed))

    assert 0.0 <= wait <= cap
    assert wait <= base * 2.0 ** min(attempt - 1, 64)


def test_waits_are_drawn_evenly_below_their_ceiling():
    rng = Random(1)

    waits = [full_jitter(3, base=1.0, cap=60.0, rng=rng) for _ in range(4000)]

    for low in range(4):
        assert sum(low <= wait < low + 1 for wait in waits) == pytest.approx(1000, abs=120)


def test_the_same_seed_gives_the_same_wait():
    assert full_jitter(2, base=1.0, cap=9.0, rng=Random(7)) == full_jitter(2, base=1.0, cap=9.0, rng=Random(7))


@pytest.mark.parametrize(("attempt", "base", "cap"), [(0, 1.0, 2.0), (1, 0.0, 2.0), (1, -1.0, 2.0), (1, 3.0, 2.0)])
def test_what_is_out_of_bounds_is_refused(attempt: int, base: float, cap: float):
    with pytest.raises(ValueError, match="wants attempt >= 1"):
        full_jitter(attempt, base=base, cap=cap, rng=Random(1))
