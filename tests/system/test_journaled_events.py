"""Whoever is killed, and whenever: each event takes effect once at each subscription, and nothing is left of it."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.journaled import JournaledYard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

SEED = int(os.environ.get("STORM_SEED", "20271"))
HEARERS = ("audit", "book", "desk")
NAMES = ("prices 1", "prices 2", "audit 1", "audit 2", "book", "desk", "cust")


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yard.script = Path(__file__).with_name("programs") / "events_storm.py"
        yield yard


def told(yard: JournaledYard) -> set[str]:
    """Return what publishers were told is stored, and what committed with the effect of its handler."""
    return set(yard.names("confirmed")) | {op for (op,) in yard.rows("prices", "SELECT op FROM told")}


def heard(yard: JournaledYard, service: str) -> Counter[str]:
    return Counter(op for (op,) in yard.rows(service, "SELECT op FROM heard"))


def count_heard(yard: JournaledYard) -> list[int]:
    return [heard(yard, service).total() for service in HEARERS]


def stored(yard: JournaledYard) -> int:
    return sum(number for (number,) in yard.rows("prices", "SELECT next FROM posthouse_streams"))


def enough(yard: JournaledYard, askers: tuple[str, ...]) -> None:
    """Let nothing new be told, and wait until all is heard."""
    (yard.records / "enough").touch()
    pids = [yard.running[name].pid for name in askers]
    yard.wait_for(lambda: all((yard.records / f"asked-{pid}").exists() for pid in pids), "all have stopped", within=60)
    yard.wait_and_replay(lambda: set(count_heard(yard)) == {stored(yard)}, "all is heard", within=60)
    yard.wait_until_at_rest()


def judge(yard: JournaledYard) -> None:
    wanted = told(yard)
    by_service = {service: heard(yard, service) for service in HEARERS}
    print(f"{len(wanted)} told, {stored(yard)} stored, {yard.kills.total()} kills, {yard.replayed} replayed")
    assert {service: wanted - had.keys() for service, had in by_service.items()} == {
        service: set[str]() for service in HEARERS
    }
    assert {service: max(had.values()) for service, had in by_service.items()} == dict.fromkeys(HEARERS, 1)
    for service in HEARERS:
        assert yard.rows(service, "SELECT count(*) FROM posthouse_requests") == [(0,)]
        feeds = yard.rows(service, "SELECT floor = head, length(ranges) FROM posthouse_feeds")
        assert feeds == [(1, 1)]  # no ranges are one byte


@pytest.mark.parametrize(("events", "kills"), [(2_000, 40), pytest.param(10_000, 200, marks=pytest.mark.slow)])
def test_each_event_is_had_once_by_each_subscription_in_a_storm_of_kills(
    yard: JournaledYard, events: int, kills: int
) -> None:
    rng = random.Random(SEED)
    for name in NAMES:
        yard.begin(name)
    while yard.kills.total() < kills or yard.asked < events:
        further = yard.asked + rng.randint(1, 2 * events // kills)
        yard.comes_true(lambda: yard.asked >= further, within=rng.uniform(0.1, 3.0))  # noqa: B023 - asked in this round only
        assert yard.ended() == [], "a process ended by itself"
        if yard.kills.total() < kills:
            victim = rng.choice(NAMES)
            yard.kill(victim)
            yard.begin(victim)
        if yard.kills.total() == kills // 2:
            for path in yard.data.glob("transport.db*"):
                path.unlink(missing_ok=True)

    enough(yard, ("prices 1", "prices 2", "cust"))

    judge(yard)


def test_a_subscriber_that_was_away_while_much_was_told_hears_all_of_it(yard: JournaledYard) -> None:
    for name in NAMES:
        yard.begin(name)
    yard.wait_for(lambda: min(count_heard(yard)) > 0, "all hear", within=60)
    for name in ("audit 1", "audit 2", "book", "desk"):
        yard.kill(name)
    asked = yard.asked
    yard.wait_for(lambda: yard.asked >= asked + 500, "much is told", within=60)
    yard.kill("prices 1")

    for name in ("prices 1", "audit 1", "audit 2", "book", "desk"):
        yard.begin(name)
    enough(yard, ("prices 1", "prices 2", "cust"))

    judge(yard)
