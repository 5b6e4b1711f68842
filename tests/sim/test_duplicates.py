"""Every message comes three times, in any order within a hundred, and all of them once more at the end."""

from __future__ import annotations

from tests.sim.network import Weather
from tests.sim.plans import Ask, Plan
from tests.sim.run import lived
from tests.sim.services import Job

ALL_THREE_TIMES = Weather(copies=3, window=100)


def many(requests: int) -> Plan:
    """Return a plan in which so many requests are made, a hundred at a time."""
    plan = Plan(1, {"shop": 2, "prices": 2}, weather=ALL_THREE_TIMES, replays=True, heals_at=requests / 500)
    plan.asks = [
        Ask(number // 100 * 0.2, "shop", "send" if number % 4 == 0 else "call", Job(f"op{number}", to="prices.do"))
        for number in range(requests)
    ]
    return plan


def test_nothing_of_ten_thousand_takes_effect_twice_whatever_comes_again() -> None:
    plan = many(10_000)

    world = lived(plan, watch=False)

    assert world.wrong == []
    assert world.counts.effects == 10_000


def test_every_change_is_a_step_of_the_protocol_whatever_comes_again() -> None:
    plan = many(60)

    world = lived(plan)

    assert world.wrong == []
    assert world.counts.effects == 60
