"""What the judge must not take for a loss."""

from __future__ import annotations

import pytest

from tests.history.events import Told
from tests.sim.plans import Ask, Plan
from tests.sim.run import lived
from tests.sim.services import Job


@pytest.mark.parametrize("effect", ["row", "id"])
def test_what_waited_for_a_number_when_its_asker_was_refused_is_not_missed(effect: str) -> None:
    plan = Plan(13, {"shop": 1, "prices": 1, "stock": 1}, heals_at=5.0)
    refused = Job("refused", to="prices.do", asks=[Job("refused.0", to="stock.keyed", key="tea")])
    refused.effect = "id" if effect == "id" else "row"
    first = Job("first", to="prices.do", asks=[Job("first.0", to="stock.keyed", key="tea", slow=3.0)])
    plan.asks = [Ask(0.5, "shop", "call", first), Ask(1.0, "shop", "call", refused, deadline=0.5)]

    world = lived(plan)

    told = {record.outcome for record in world.records if isinstance(record, Told) and record.op == "refused.0"}
    assert "pending" in told
    assert world.wrong == []
