"""Clocks that jump, or are wrong: nothing expires early or late by more than that, nothing hangs, all promises hold."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest

from tests.history.events import Began, Invoked, Told
from tests.sim.plans import Ask, Event, Plan
from tests.sim.run import lived
from tests.sim.services import Job
from tests.sim.world import World

HOUR: Final = 3600.0
YEAR: Final = 365.25 * 24 * HOUR
SKEW: Final = 600.0


def with_deadlines(seed: int) -> Plan:
    """Return a plan of calls and sends, of which many have a deadline, fail, wait for each other, or ask others."""
    rng = Random(seed)
    plan = Plan(seed, {"shop": 1, "prices": 2, "stock": 1}, heals_at=12.0, patience=300.0)
    for number in range(30):
        job = Job(f"op{number}", to=rng.choice(("prices.do", "prices.do", "prices.keyed")))
        job.key = "tea" if job.to == "prices.keyed" else ""
        job.fails = rng.choice((0, 0, 1, 2))
        job.slow = rng.choice((0.0, 0.2, 1.0))
        if rng.random() < 0.3:
            job.asks = [Job(f"op{number}.0", to="stock.do", slow=0.3)]
        ask = Ask(rng.uniform(0.0, 8.0), "shop", rng.choice(("call", "send")), job, timeout=60.0)
        ask.deadline = rng.choice((0.0, 0.0, 1.0, 3.0))
        plan.asks.append(ask)
    return plan


def untimely(world: World, *, skew: float) -> list[str]:
    """Return what expired before its deadline, and what was begun after it, by more than the clocks are apart."""
    asked = {record.op: record.at for record in world.records if isinstance(record, Invoked)}
    ends = {ask.job.op: asked[ask.job.op] + ask.deadline for ask in world.plan.asks if ask.deadline}
    wrong: list[str] = []
    for record in world.records:
        if isinstance(record, Began) and record.op in ends and record.at > ends[record.op] + skew + 1.0:
            wrong.append(f"{record.op} was begun at {record.at:.1f}, and expired at {ends[record.op]:.1f}")
        if isinstance(record, Told) and record.code == "deadline.expired" and record.op.partition(".")[0] in ends:
            end = ends[record.op.partition(".")[0]]
            if record.at < end - skew - 1.0:
                wrong.append(f"{record.op} was expired at {record.at:.1f}, and its deadline is {end:.1f}")
    return wrong


@pytest.mark.parametrize("whose", ["shop", "prices", "stock"])
@pytest.mark.parametrize("by", [HOUR, -HOUR, YEAR, -YEAR, -1.0], ids=["+1h", "-1h", "+1y", "-1y", "-1s"])
def test_a_clock_that_jumps_breaks_no_promise_and_hangs_nothing(whose: str, by: float) -> None:
    plan = with_deadlines(9)
    plan.events = [Event(4.0, "jump", whose, by)]

    world = lived(plan)

    assert world.wrong == []
    assert untimely(world, skew=abs(by)) == []


@pytest.mark.xfail(strict=True, reason="what waits to be run again waits until the clock is there again")
def test_what_waits_to_be_run_again_is_not_held_up_by_a_clock_that_was_set_back() -> None:
    plan = Plan(12, {"shop": 1, "prices": 1}, heals_at=2.0, patience=300.0)
    plan.asks = [Ask(1.0, "shop", "call", Job("again", to="prices.do", fails=3))]
    plan.events = [Event(1.1, "jump", "prices", -HOUR)]

    world = lived(plan)

    assert world.wrong == []


@pytest.mark.parametrize("skew", [{"shop": SKEW}, {"prices": SKEW}, {"shop": -SKEW, "stock": SKEW}])
def test_clocks_that_are_apart_expire_nothing_by_more_than_that(skew: dict[str, float]) -> None:
    plan = with_deadlines(10)
    plan.skew = skew
    apart = max(skew.values(), default=0.0) - min(0.0, *skew.values())

    world = lived(plan)

    assert world.wrong == []
    assert untimely(world, skew=apart) == []


def test_clocks_that_agree_expire_nothing_early_or_late() -> None:
    plan = with_deadlines(11)

    world = lived(plan)

    assert world.wrong == []
    assert untimely(world, skew=0.0) == []
    assert any(isinstance(record, Told) and record.code == "deadline.expired" for record in world.records)
