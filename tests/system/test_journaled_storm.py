"""Whoever is killed, and whenever: a journaled request has one effect, and everybody is told what became of it."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from tests.system.journaled import JournaledYard, storm

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

SEED = int(os.environ.get("STORM_SEED", "20271"))
NAMES = ["prices 1", "prices 2", "shop 1", "cust", "guest"]


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yield yard


@pytest.mark.parametrize(("requests", "kills"), [(2_000, 40), pytest.param(10_000, 200, marks=[pytest.mark.slow])])
def test_nothing_is_lost_doubled_or_mixed_up_in_a_storm_of_kills(
    yard: JournaledYard, requests: int, kills: int
) -> None:
    runs = itertools.count(1)

    storm(
        yard,
        lambda name: yard.program(name, name.partition(" ")[0], next(runs)) and None,
        names=NAMES,
        kills=kills,
        requests=requests,
        seed=SEED,
    )
    yard.enough()
    replayed = yard.replay_parked()
    took = yard.wait_until_at_rest()
    for name in NAMES:
        assert yard.stop(name, within=20) in {0, -15}
    yard.read_stores()

    report = yard.report()
    print(f"seed {SEED}: {report.counts}, {replayed} replayed, at rest {took:.1f} s after the last request")
    assert not report.findings, report
    assert report.counts.done > requests / 2, report
    assert report.counts.not_done > requests / 20, report
    assert report.counts.faults["kill"] == kills
