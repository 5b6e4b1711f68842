"""Handlers that take longer than any lease: they run once; and who has lost its lease can commit nothing."""

from __future__ import annotations

import pytest

from tests.sim.plans import Ask, Event, Plan
from tests.sim.run import lived
from tests.sim.services import Job


def test_a_handler_of_45_minutes_runs_once() -> None:
    job = Job("long", to="prices.do", slow=2700.0)
    plan = Plan(22, {"shop": 1, "prices": 2}, heals_at=1.0, patience=4000.0)
    plan.asks = [Ask(0.1, "shop", "call", job, timeout=7200.0), Ask(0.2, "shop", "send", Job("other", to="prices.do"))]

    world = lived(plan)

    assert world.wrong == []
    assert world.counts.runs == 2
    assert world.counts.done == 2


@pytest.mark.parametrize(("slow", "hold"), [(5.0, 0.0), (0.9, 0.3)])
def test_who_slept_through_its_lease_commits_nothing(slow: float, hold: float) -> None:
    job = Job("taken-over", to="prices.do", slow=slow, hold=hold)
    plan = Plan(22, {"shop": 1, "prices": 2}, heals_at=60.0)
    plan.asks = [Ask(0.1, "shop", "call", job, timeout=100.0)]
    plan.events = [Event(1.1, "freeze", "prices", 40.0)]  # the first of both, which has it

    world = lived(plan, keep_trace=True)

    assert world.wrong == []
    assert world.counts.runs == 2
    assert world.counts.effects == 1
    assert any("LeaseLostError" in line or "StoreHeldError" in line for line in world.lines)


def test_who_slept_through_its_lease_answers_nothing() -> None:
    job = Job("plain", to="prices.do", effect="none", slow=5.0)
    plan = Plan(22, {"shop": 1, "prices": 2}, heals_at=60.0)
    plan.asks = [Ask(0.1, "shop", "call", job, timeout=100.0)]
    plan.events = [Event(1.1, "freeze", "prices", 40.0)]

    world = lived(plan, keep_trace=True)

    replies = [line for line in world.lines if " reply plain" in line]
    assert world.wrong == []
    assert len(replies) == 1
