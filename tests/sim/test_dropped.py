"""Tasks that wait for an answer are canceled at any await: nobody gets the answer of somebody else, nothing is left."""

from __future__ import annotations

from random import Random

from tests.sim.network import Weather
from tests.sim.plans import Ask, Plan
from tests.sim.run import lived
from tests.sim.services import Job


def dropped_calls(calls: int) -> Plan:
    """Return a plan in which four of five calls are canceled, each after another number of turns of the loop."""
    rng = Random(21)
    plan = Plan(21, {"shop": 1, "prices": 2}, heals_at=calls / 400, weather=Weather(late=0.1, delay=0.01))
    for number in range(calls):
        drop_after = 0 if number % 5 == 0 else rng.randint(1, 40)
        job = Job(f"op{number}", to="prices.do", slow=rng.choice((0.0, 0.0, 0.005)))
        plan.asks.append(Ask(number // 40 * 0.1 + rng.random() * 0.01, "shop", "call", job, drop_after=drop_after))
    return plan


def test_a_canceled_wait_leaves_nothing_and_gives_nobody_the_wrong_answer() -> None:
    plan = dropped_calls(10_000)

    world = lived(plan, watch=False)

    assert world.wrong == []
    assert world.dropped > 4000
    assert world.counts.done > 5000
