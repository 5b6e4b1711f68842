"""Stores that are put back: nothing is silent, no effect is there twice, and everything comes to rest."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest

from posthouse.runtime.steps.closing import ORPHANED
from tests.history.events import Told
from tests.sim.chance import plan_with_restores
from tests.sim.plans import Ask, Event, Plan
from tests.sim.run import lived
from tests.sim.services import Job
from tests.sim.world import World

BLOCKS: Final = 8
SEEDS: Final = 50


def plan(*asks: Ask, events: list[Event], **more: int) -> Plan:
    """Return a plan of three services in which some stores are put back."""
    places = {"shop": 1, "prices": 1, "stock": 1, **more}
    return Plan(11, places, asks=list(asks), events=events, heals_at=8.0, patience=200.0)


def call(at: float, op: str, **job: Any) -> Ask:
    """Return a call of prices."""
    what: dict[str, Any] = {"to": "prices.do", **job}
    return Ask(at, "shop", "call", Job(op, **what))


def outcomes(world: World) -> Counter[str]:
    """Count what the callers' books say at the end."""
    return Counter(each.outcome for each in world.records if isinstance(each, Told) and each.by == "auditor")


def codes(world: World) -> Counter[str]:
    """Count the dead letters by service and code."""
    return Counter(f"{service} {letter.code}" for service, letter in world.letters)


def backup(whom: str, at: float = 1.0) -> Event:
    """Return that a store is copied."""
    return Event(at, "backup", whom)


def restore(whom: str, at: float = 2.0, *, which: int = 1000) -> Event:
    """Return that a store is put back."""
    return Event(at, "restore", whom, 0.3, which=which)


def test_what_a_restored_replier_has_lost_is_asked_of_it_again() -> None:
    asks = [call(0.5, "before"), *(call(1.1 + n / 10, f"lost{n}") for n in range(5)), call(3.5, "after")]

    world = lived(plan(*asks, events=[backup("prices"), restore("prices")]))

    assert world.wrong == []
    assert outcomes(world) == {"done": 7}
    assert world.counts.effects == 7


def test_what_a_restored_caller_has_lost_is_told_by_its_replier() -> None:
    slow = call(0.8, "open", slow=0.5)
    asks = [
        call(0.5, "before"),
        slow,
        *(call(1.1 + n / 10, f"lost{n}", slow=2.0) for n in range(3)),
        call(4.0, "after"),
    ]

    world = lived(plan(*asks, events=[backup("shop"), restore("shop", 1.6)]))

    assert world.wrong == []
    assert set(codes(world)) <= {f"prices {ORPHANED}"}
    assert len(world.orphans) <= codes(world)[f"prices {ORPHANED}"]


def test_of_what_was_open_in_the_backup_of_a_caller_it_learns_the_outcome() -> None:
    world = lived(plan(call(0.8, "open", slow=0.5), events=[backup("shop"), restore("shop", 1.1)]))

    assert world.wrong == []
    assert outcomes(world) == {"done": 1}


def test_what_was_acked_in_the_lost_history_of_a_caller_is_unknown() -> None:
    world = lived(plan(call(0.8, "open", slow=0.5), events=[backup("shop"), restore("shop", 3.0)]))

    assert world.wrong == []
    assert outcomes(world) == {"unknown": 1}


def test_both_sides_may_be_put_back() -> None:
    asks = [call(0.5, "before"), *(call(1.1 + n / 10, f"lost{n}") for n in range(5)), call(3.5, "after")]
    events = [backup("prices"), backup("shop", 1.25), restore("prices"), restore("shop", 2.1)]

    world = lived(plan(*asks, events=events))

    assert world.wrong == []


@pytest.mark.parametrize("whom", ["shop", "prices", "stock"])
@pytest.mark.parametrize("at", [1.05, 1.3, 1.6, 3.0])
def test_a_store_may_be_put_back_while_handlers_wait_for_others(whom: str, at: float) -> None:
    inner = [Job("outer.1", to="stock.do"), Job("outer.2", to="stock.do", slow=0.6)]
    asks = [call(0.9, "outer", asks=inner, slow=0.05), call(1.2, "other", asks=[Job("other.1", to="stock.do")])]

    world = lived(plan(*asks, events=[backup(whom), restore(whom, at)]))

    assert world.wrong == []


@pytest.mark.parametrize("whom", [["shop"], ["prices"], ["shop", "prices"]])
def test_what_has_a_key_keeps_its_order(whom: list[str]) -> None:
    sends = [
        Ask(0.7 + n / 10, "shop", "send", Job(f"op{n:02}", to="prices.keyed", key="tea", slow=0.15)) for n in range(12)
    ]
    events = [event for each in whom for event in (backup(each, 1.2), restore(each, 2.0))]

    world = lived(plan(*sends, events=events))

    assert world.wrong == []


@pytest.mark.parametrize("at", [1.1, 3.5])
def test_what_waited_when_its_caller_was_put_back_is_numbered_only_if_nothing_was_lost(at: float) -> None:
    sends = [
        Ask(0.8 + n / 100, "shop", "send", Job(f"op{n}", to="prices.keyed", key="tea", slow=0.4)) for n in range(4)
    ]

    world = lived(plan(*sends, events=[backup("shop"), restore("shop", at)]))

    assert world.wrong == []
    told = outcomes(world)
    assert told["unknown"] > 0 if at > 2 else told["done"] == 4


@pytest.mark.parametrize("whom", ["shop", "prices"])
@pytest.mark.parametrize("at", [1.15, 1.5, 3.0])
def test_who_hears_replies_hears_each_once(whom: str, at: float) -> None:
    heard = plan(
        *(Ask(0.9 + n / 10, "shop", "send", Job(f"op{n}", to="prices.do", slow=0.05)) for n in range(5)), events=[]
    )
    heard.hears = True
    heard.events = [backup(whom, 1.05), restore(whom, at)]

    world = lived(heard)

    assert world.wrong == []


@pytest.mark.parametrize("whom", ["shop", "prices", "stock"])
@pytest.mark.parametrize("again", [False, True])
def test_a_store_may_be_put_back_twice(whom: str, again: bool) -> None:
    asks = [call(0.9 + n / 5, f"op{n}", asks=[Job(f"op{n}.1", to="stock.do", slow=0.1)]) for n in range(14)]
    events = [backup(whom), restore(whom, 1.8), restore(whom, 2.9)]
    if again:
        events.append(backup(whom, 2.4))

    world = lived(plan(*asks, events=events))

    assert world.wrong == []


def wrong_in(seeds: range) -> list[str]:
    """Live through the worlds of some seeds, and say which are wrong, and how to see that again."""
    told: list[str] = []
    for seed in seeds:
        world = lived(plan_with_restores(seed), watch=seed % 2 == 0)
        if world.wrong:
            told.append("\n  ".join([f"python -m tests.sim --restores --seed {seed} --trace", *world.wrong]))
    return told


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_restore_is_silent(block: int) -> None:
    wrong = wrong_in(range(block * SEEDS, (block + 1) * SEEDS))

    assert not wrong, "\n".join(wrong)


def test_the_worlds_have_restores_of_all_that_has_a_store() -> None:
    events = [event for seed in range(SEEDS) for event in plan_with_restores(seed).events if event.what == "restore"]

    assert {event.whom for event in events} == {"shop", "prices", "stock"}
    assert len(events) > SEEDS
