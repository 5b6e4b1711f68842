"""A process dies at every step of the journal, before it and after it, on both sides: what is promised holds.

One run for each label, and in each the process really dies there. In every second one the power goes with it: all
instances of the service die, and what was not flushed is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.sim.plans import Ask, Death, Plan
from tests.sim.run import lived
from tests.sim.scenes import after_a_death, everything
from tests.sim.services import Job

STEPS: Final = {
    "shop": """
        beat, claim, receive, ask, apply, number, cancel, ack, tail end
        sends request, sends cancel, sends ack, hears reply, hears pending, hears floor
        deposits, settles
    """,
    "prices": """
        beat, claim, receive, answer, decide, put back, tail end, ask, apply, ack, deposits, settles
        hears request, hears ack, hears cancel, sends reply, sends pending, sends floor
        sends request, hears reply, hears pending, hears floor, sends ack
    """,
    "stock": "receive, answer, put back, tail end, leave, hears request, sends reply, hears ack, settles",
    "guest": "deposits, hears reply",
}
"""What a service does, as the points are named."""

LATER_STEPS: Final = {"shop": "adopt, sends request, hears reply, ack", "prices": "take over, claim, tail end, leave"}
"""What its other instances do when one has died already."""


def labels(steps: dict[str, str]) -> list[str]:
    """Return the label before and the one after each step."""
    return [
        f"{service} {name.strip()} {side}"
        for service, names in steps.items()
        for name in names.replace("\n", ",").split(",")
        if name.strip()
        for side in ("before", "after")
    ]


@pytest.mark.parametrize("label", labels(STEPS))
def test_a_death_at_any_step_breaks_no_promise(label: str) -> None:
    number = labels(STEPS).index(label)
    plan = everything(Death(label, power=number // 2 % 2 == 1, is_seen=number % 5 != 0))

    world = lived(plan)

    assert world.died == [label]
    assert world.wrong == []


@pytest.mark.parametrize("label", labels(LATER_STEPS))
def test_a_death_of_those_who_take_over_breaks_no_promise(label: str) -> None:
    plan = after_a_death(Death(label))

    world = lived(plan)

    assert label in world.died
    assert world.wrong == []


@pytest.mark.parametrize("label", ["prices receive after", "prices settles before", "prices settles after"])
def test_what_was_deposited_by_a_caller_without_a_store_is_not_lost_with_the_power(label: str) -> None:
    plan = Plan(3, {"prices": 1, "guest": 1}, heals_at=5.0)
    plan.asks = [Ask(1.0, "guest", "send", Job("deposit", to="prices.do", slow=1.0))]
    plan.deaths = [Death(label, power=True)]

    world = lived(plan)

    assert world.died == [label]
    assert world.wrong == []
    assert world.counts.effects == 1


@pytest.mark.slow
@pytest.mark.parametrize("scene", [everything, after_a_death])
def test_a_death_at_any_step_at_any_time_breaks_no_promise(scene: Callable[..., Plan]) -> None:
    passed = lived(scene()).passed

    wrong = {
        (label, nth, power): world.wrong
        for label, count in sorted(passed.items())
        for nth in sorted({1, 2, count // 2, count} - {0})
        for power in (False, True)
        if (world := lived(scene(Death(label, nth, power=power)))).wrong
    }

    assert wrong == {}
