"""Whoever is killed, and whenever: a journaled request has one effect, and everybody is told what became of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.history.events import Fault
from tests.system.journaled import JournaledYard, storm

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

SEED = int(os.environ.get("STORM_SEED", "20271"))


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yield yard


@pytest.mark.parametrize(("requests", "kills"), [(2_000, 40), pytest.param(10_000, 200, marks=pytest.mark.slow)])
def test_nothing_is_lost_doubled_or_mixed_up_in_a_storm_of_kills(
    yard: JournaledYard, requests: int, kills: int
) -> None:
    names = ["prices 1", "prices 2", "shop", "cust", "guest"]

    storm(yard, names=names, kills=kills, requests=requests, seed=SEED)

    report = yard.end()
    print(f"seed {SEED}")
    assert not report.findings, report
    assert report.counts.done > requests / 2, report
    assert report.counts.not_done > requests / 20, report
    assert report.counts.faults == {"kill": kills}


@pytest.mark.parametrize("requests", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_four_instances_of_one_store_lose_nothing_when_the_direct_path_is_cut(
    yard: JournaledYard, requests: int
) -> None:
    names = [*(f"prices {number}" for number in range(4)), "shop", "cust"]
    for name in names:
        yard.begin(name)

    for part in range(10):
        yard.wait_for(lambda: yard.asked >= part * requests / 10, "requests are made", within=60)  # noqa: B023
        yard.recorder.note(Fault("cut", "run"))
        for path in (yard.data / "run").glob("*"):
            path.unlink(missing_ok=True)
    yard.wait_for(lambda: yard.asked >= requests, "requests are made", within=60)

    report = yard.end()
    assert not report.findings, report
    assert report.counts.faults == {"cut": 10}
    assert yard.kills.total() == 0
