"""least_of_two: the less loaded of two, each as likely to be drawn, and no load far above the others."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.flow.balance import least_of_two


def test_of_two_the_less_loaded_one_is_chosen():
    loads = {"busy": 3, "idle": 1}

    chosen = {least_of_two(["busy", "idle"], load=loads.__getitem__, rng=Random(seed)) for seed in range(50)}

    assert chosen == {"idle"}


def test_one_alone_is_chosen_whatever_its_load():
    assert least_of_two(["only"], load=lambda _: 1_000_000, rng=Random(1)) == "only"


def test_equals_are_chosen_equally_often():
    rng = Random(1)

    chosen = Counter(least_of_two("abcd", load=lambda _: 0, rng=rng) for _ in range(4000))

    assert all(count == pytest.approx(1000, abs=120) for count in chosen.values())


@given(st.lists(st.integers(0, 9), min_size=2, max_size=9), st.integers())
def test_the_most_loaded_one_alone_is_never_chosen(loads: list[int], seed: int):
    worst = max(loads)
    chosen = least_of_two(range(len(loads)), load=loads.__getitem__, rng=Random(seed))

    assert loads[chosen] < worst or loads.count(worst) > 1


def test_loads_stay_close_together():
    rng = Random(1)
    loads: Counter[int] = Counter()

    for _ in range(8000):
        loads[least_of_two(range(8), load=loads.__getitem__, rng=rng)] += 1

    assert max(loads.values()) - min(loads.values()) <= 8  # drawn by chance alone it would be above 100
