"""A thousand worlds by chance: whatever dies, is lost, repeated, delayed or wiped, what is promised holds."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.sim.chance import plan_of
from tests.sim.run import lived

BLOCKS: Final = 20
SEEDS: Final = 50
"""In each block; so all of them take about a minute of one core."""

SOAK: Final = int(os.environ.get("POSTHOUSE_SIM_SEEDS", "100000"))
FIRST: Final = int(os.environ.get("POSTHOUSE_SIM_FIRST", "100000"))
"""How many seeds the soak takes, and which is its first; those below are for `make test`."""

WATCHED: Final = 3
"""In every so many-th world each change of a row is looked at."""


def wrong_in(seeds: range) -> list[str]:
    """Live through the worlds of some seeds, and say which are wrong, and how to see that again."""
    told: list[str] = []
    for seed in seeds:
        world = lived(plan_of(seed), watch=seed % WATCHED == 0)
        if world.wrong:
            told.append("\n  ".join([f"python -m tests.sim --seed {seed} --trace", *world.wrong]))
    return told


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_world_breaks_a_promise(block: int) -> None:
    wrong = wrong_in(range(block * SEEDS, (block + 1) * SEEDS))

    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_no_world_of_very_many_breaks_a_promise() -> None:
    blocks = [range(first, min(first + SEEDS, FIRST + SOAK)) for first in range(FIRST, FIRST + SOAK, SEEDS)]

    with ProcessPoolExecutor() as processes:
        wrong = [line for told in processes.map(wrong_in, blocks) for line in told]

    assert not wrong, "\n".join(wrong)


def test_a_seed_is_always_the_same_world() -> None:
    once = [lived(plan_of(seed)).digest for seed in range(5)]

    again = [lived(plan_of(seed)).digest for seed in range(5)]

    assert once == again
    assert len(set(once)) == len(once)


def test_a_seed_is_the_same_world_in_another_process() -> None:
    here = [f"{seed} {lived(plan_of(seed)).digest}" for seed in range(40, 44)]

    command = [sys.executable, "-m", "tests.sim", "--seed", "40", "--count", "4", "--digest"]
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    root = Path(__file__).parents[2]
    there = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True).stdout

    assert there.splitlines()[:4] == here


def test_the_worlds_are_as_bad_as_they_are_meant_to_be() -> None:
    plans = [plan_of(seed) for seed in range(300)]

    assert sum(len(plan.deaths) for plan in plans) > 300
    assert sum(any(death.power for death in plan.deaths) for plan in plans) > 50
    assert {event.what for plan in plans for event in plan.events} == {
        *("wipe", "cut", "sever", "power", "stop", "freeze", "jump")
    }
    died = [len(lived(plan).died) for plan in plans[:30]]
    assert sum(died) > 15
