"""The transport's file may be deleted under everybody: journaled requests lose nothing, without a restart.

The same in `queued` must be seen to lose something, or this proves nothing.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.history.checker import check
from tests.history.events import Fault, read
from tests.system.journaled import JournaledYard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

SEED = 20_272


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yield yard


def wipe(yard: JournaledYard) -> None:
    yard.recorder.note(Fault("wipe", "transport"))
    for path in sorted(yard.data.glob("transport.db*")):
        path.unlink(missing_ok=True)


def wipes_under_load(yard: JournaledYard, *, wipes: int, requests: int) -> None:
    rng = random.Random(SEED)
    for number in range(wipes):
        further = int(requests * (number + rng.random()) / wipes)
        yard.wait_for(lambda: yard.asked >= further, "requests are made", within=60)  # noqa: B023 - asked in this round only
        wipe(yard)
    yard.wait_for(lambda: yard.asked >= requests, "requests are made after the last wipe", within=60)
    assert yard.ended() == []


@pytest.mark.parametrize(("requests", "wipes"), [(1_000, 3), pytest.param(10_000, 20, marks=pytest.mark.slow)])
def test_journaled_requests_outlive_wipes_without_a_restart(yard: JournaledYard, requests: int, wipes: int) -> None:
    for name in ("prices 1", "prices 2", "shop", "cust"):
        yard.begin(name)

    wipes_under_load(yard, wipes=wipes, requests=requests)

    report = yard.end()
    print(f"seed {SEED}")
    assert not report.findings, report
    assert report.counts.faults == {"wipe": wipes}


def test_journaled_requests_that_wait_in_the_queue_outlive_its_wipe(yard: JournaledYard) -> None:
    for name in ("prices 1", "shop", "cust"):
        yard.begin(name)
    yard.wait_for(lambda: yard.asked >= 100, "requests are made")
    yard.kill("prices 1")
    yard.wait_for(lambda: any(queue.stored >= 10 for queue in yard.queues()), "requests wait in the queue")

    wipe(yard)
    yard.begin("prices 2")

    yard.wait_for(lambda: yard.asked >= 500, "requests are made after the wipe", within=60)
    report = yard.end()
    assert not report.findings, report
    assert report.counts.faults == {"wipe": 1, "kill": 1}


def test_the_same_wipes_are_seen_to_lose_queued_messages(yard: JournaledYard) -> None:
    says = {"STORM_MODE": "queued", "STORM_PAUSE": "0.5"}
    for name in ("prices 1", "prices 2", "guest"):
        yard.begin(name, **says)

    wipes_under_load(yard, wipes=3, requests=1_000)

    yard.enough()
    yard.wait_until_quiet()
    report = check(read(yard.records), "at_least_once")
    print(f"seed {SEED}: {report.counts}")
    assert report.counts.lost > 0, report
