"""Events in worlds by chance, and with a death at every step that tells or hears: each takes effect exactly once."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import pytest

from tests.sim.news import News
from tests.sim.news_chance import news_plan_of
from tests.sim.plans import Ask, Death, Plan, Tell
from tests.sim.run import lived
from tests.sim.services import Job
from tests.sim.test_labels import labels

BLOCKS: Final = 6
SEEDS: Final = 50

SOAK: Final = int(os.environ.get("POSTHOUSE_SIM_SEEDS", "30000"))
FIRST: Final = 10_000
"""How many seeds the soak takes, and which is its first."""

STEPS: Final = {
    "prices": """
        subscribe, tell, answer pull, drop events, heads, hear, tail end
        sends event, hears pull, sends heads, sends pull, hears heads, hears event
    """,
    "shop": """
        subscribe, tell, answer pull, heads, hear, tail end, put back
        sends event, hears event, sends pull, hears heads, hears pull, sends heads
    """,
    "stock": "subscribe, heads, hear, tail end, sends pull, hears heads, hears event",
}
"""What a service does for events, as the points are named."""


def scene(*deaths: Death) -> Plan:
    """Return a plan in which every step of events is taken, on both sides; it lasts until old events are dropped."""
    tells = [
        Tell(1.0 + number / 4, ("prices", "shop")[number % 2], News(f"n{number}", fails=number % 3 // 2))
        for number in range(10)
    ]
    asks = [Ask(1.5, "shop", "call", Job("op", to="prices.do", tells=["op.0", "op.1"]))]
    places = {"shop": 1, "prices": 2, "stock": 1}
    is_long = any("drop events" in death.label for death in deaths)
    return Plan(11, places, asks=asks, tells=tells, deaths=list(deaths), heals_at=130.0 if is_long else 10.0)


def wrong_in(seeds: range) -> list[str]:
    """Live through the worlds of some seeds, and say which are wrong, and how to see that again."""
    told: list[str] = []
    for seed in seeds:
        world = lived(news_plan_of(seed), watch=seed % 3 == 0)
        if world.wrong:
            told.append("\n  ".join([f"python -m tests.sim --news --seed {seed} --trace", *world.wrong]))
    return told


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_world_loses_an_event_or_has_one_twice(block: int) -> None:
    wrong = wrong_in(range(block * SEEDS, (block + 1) * SEEDS))

    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_no_world_of_very_many_loses_an_event_or_has_one_twice() -> None:
    blocks = [range(first, min(first + SEEDS, FIRST + SOAK)) for first in range(FIRST, FIRST + SOAK, SEEDS)]

    with ProcessPoolExecutor() as processes:
        wrong = [line for told in processes.map(wrong_in, blocks) for line in told]

    assert not wrong, "\n".join(wrong)


def test_the_worlds_tell_and_hear_much_and_much_dies() -> None:
    worlds = [lived(news_plan_of(seed), watch=False) for seed in range(20)]

    assert sum(world.heard for world in worlds) > 500
    assert sum(len(world.died) for world in worlds) > 10


@pytest.mark.parametrize("label", labels(STEPS))
def test_a_death_at_any_step_of_events_loses_none_and_doubles_none(label: str) -> None:
    number = labels(STEPS).index(label)
    plan = scene(Death(label, power=number // 2 % 2 == 1, is_seen=number % 5 != 0))

    world = lived(plan)

    assert world.died == [label]
    assert world.wrong == []
    assert world.heard > 40


@pytest.mark.parametrize("label", labels({"prices": "tell, tail end, sends event", "stock": "hear, tail end"}))
def test_a_power_cut_where_an_event_is_told_or_heard_loses_none_and_doubles_none(label: str) -> None:
    worlds = [lived(scene(Death(label, nth, power=True))) for nth in (1, 2, 4)]

    assert [world.wrong for world in worlds] == [[], [], []]
    assert [world.died for world in worlds] == [[label]] * 3
