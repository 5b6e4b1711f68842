"""A process that is told to end (SIGTERM) under load finishes what it has begun, and leaves nothing claimed behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from posthouse.protocol.inbox import RequestState
from tests.system.journaled import JournaledYard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

GRACE = 5.0
SHORT = 0.5
BEYOND = 2.0
"""What a process may take to end beyond its grace time, in seconds."""

CLAIMED_BY_THE_GONE = """
SELECT count(*) FROM posthouse_requests WHERE state = ? AND instance NOT IN (SELECT instance FROM posthouse_members)"""


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yield yard


def claimed_by_the_gone(yard: JournaledYard) -> int:
    running = int(RequestState.RUNNING)
    return sum(count for name in yard.stores() for (count,) in yard.rows(name, CLAIMED_BY_THE_GONE, running))


def stops_under_load(yard: JournaledYard, *, stops: int, grace: float, pause: float) -> None:
    says = {"POSTHOUSE_GRACE": f"{grace}s", "STORM_PAUSE": str(pause), "STORM_PLAIN": "1"}
    names = ["prices 1", "shop-only 1", "prices 2", "shop-only 2"]
    for name in names:
        yard.begin(name, **says)
    yard.begin("cust", **says)
    for number in range(stops):
        name = names[number % 4]
        further = yard.asked + 30
        yard.wait_for(lambda: yard.asked >= further, "requests are made", within=60)  # noqa: B023 - asked in this round only

        assert yard.stop(name, within=grace + BEYOND) == 0

        assert claimed_by_the_gone(yard) == 0
        yard.begin(name, **says)


@pytest.mark.parametrize("stops", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_what_has_begun_is_finished_and_nothing_stays_claimed(yard: JournaledYard, stops: int) -> None:
    stops_under_load(yard, stops=stops, grace=GRACE, pause=0.05)

    report = yard.end()
    assert not report.findings, report
    assert report.counts.reruns == 0, report


def test_what_outlasts_the_grace_is_put_back_and_has_one_effect(yard: JournaledYard) -> None:
    stops_under_load(yard, stops=4, grace=SHORT, pause=2.0)

    report = yard.end(within=60)
    assert not report.findings, report
    assert report.counts.reruns > 0, report
