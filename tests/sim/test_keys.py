"""Ordering keys where they meet other promises: handlers that ask, and requests that are canceled unsent."""

from __future__ import annotations

import pytest

from tests.sim.plans import Ask, Plan
from tests.sim.run import lived
from tests.sim.services import Job


def keyed(op: str, key: str) -> Job:
    """Return a job of a key."""
    return Job(op, to="stock.keyed", key=key, slow=0.1)


def asking(*inner: Job, op: str = "asks", together: bool = False) -> Job:
    """Return a job that asks others."""
    return Job(op, to="prices.do", asks=list(inner), together=together, timeout=1.0)


@pytest.mark.parametrize("together", [False, True])
def test_a_handler_may_ask_twice_with_one_key(together: bool) -> None:
    plan = Plan(5, {"shop": 1, "prices": 1, "stock": 1}, heals_at=2.0, patience=60.0)
    job = asking(keyed("one", "tea"), keyed("two", "tea"), together=together)
    plan.asks = [Ask(0.5, "shop", "call", job)]

    world = lived(plan)

    assert world.wrong == []


def test_two_handlers_may_ask_with_two_keys_in_either_order() -> None:
    plan = Plan(5, {"shop": 1, "prices": 1, "stock": 1}, heals_at=2.0, patience=60.0)
    plan.asks = [
        Ask(0.5, "shop", "call", asking(keyed("a.1", "tea"), keyed("a.2", "milk"), op="a")),
        Ask(0.5, "shop", "call", asking(keyed("b.1", "milk"), keyed("b.2", "tea"), op="b")),
    ]

    world = lived(plan)

    assert world.wrong == []


def test_who_hears_of_a_reply_hears_that_it_was_canceled_unsent() -> None:
    plan = Plan(5, {"shop": 1, "prices": 1}, hears=True, heals_at=3.0, patience=60.0)
    plan.asks = [
        Ask(0.5, "shop", "send", Job("first", to="prices.keyed", key="tea", slow=1.0)),
        Ask(0.6, "shop", "send", Job("second", to="prices.keyed", key="tea"), cancel_at=0.7),
    ]

    world = lived(plan)

    assert world.wrong == []


def test_requests_of_one_key_take_effect_in_the_order_asked() -> None:
    plan = Plan(5, {"shop": 1, "prices": 2}, heals_at=3.0)
    plan.asks = [
        Ask(0.5 + number / 1000, "shop", "send", Job(f"op{number:02}", to="prices.keyed", key="tea", fails=number % 3))
        for number in range(12)
    ]

    world = lived(plan)

    assert world.wrong == []
    assert world.counts.effects == 12
