"""Whoever is killed, and whenever: a journaled request has one effect, and everybody is told what became of it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from posthouse.protocol.inbox import RequestState
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
        yard.wait_for(lambda: yard.asked >= part * requests / 10, "requests are made", within=60)  # noqa: B023 - asked in this round only
        yard.recorder.note(Fault("cut", "run"))
        for path in (yard.data / "run").glob("*"):
            path.unlink(missing_ok=True)
    yard.wait_for(lambda: yard.asked >= requests, "requests are made", within=60)

    report = yard.end()
    assert not report.findings, report
    assert report.counts.faults == {"cut": 10}
    assert yard.kills.total() == 0


def test_who_was_stopped_beyond_its_lease_decides_nothing_any_more(yard: JournaledYard) -> None:
    says = {"STORM_LEASE": "1.5", "STORM_PAUSE": "0.5", "STORM_PLAIN": "1"}
    for name in ("prices 1", "prices 2", "cust"):
        yard.begin(name, **says)
    stopped = yard.running["prices 1"]
    fenced = 0
    while fenced < 2:
        asked = yard.asked
        yard.wait_for(lambda: yard.asked >= asked + 20, "requests are made", within=120)  # noqa: B023 - asked in this round only
        yard.wait_for(lambda: runs_something(yard, instance_of(yard, stopped.pid)), "it runs something")
        instance = instance_of(yard, stopped.pid)
        refusals = refused(yard)
        yard.recorder.note(Fault("cut", "prices 1"))
        stopped.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
        # What it ran may have ended just before. And one that stops while it writes keeps all others from writing; then
        # nobody can take anything over.
        is_fenced = runs_something(yard, instance) and yard.comes_true(
            lambda: not runs_something(yard, instance),  # noqa: B023 - asked in this round only
            within=6,
        )
        stopped.send_signal(signal.SIGCONT)
        if is_fenced:
            yard.wait_for(lambda: refused(yard) > refusals, "it is refused what it wants to decide")  # noqa: B023 - asked in this round only
            fenced += 1

    report = yard.end()
    assert not report.findings, report
    assert report.counts.reruns > 0, report


def instance_of(yard: JournaledYard, pid: int) -> str:
    found = yard.rows("prices", "SELECT instance FROM posthouse_members WHERE pid = ?", pid)
    return found[0][0] if found else ""


def runs_something(yard: JournaledYard, instance: str) -> bool:
    sql = "SELECT 1 FROM posthouse_requests WHERE state = ? AND instance = ?"
    return bool(yard.rows("prices", sql, int(RequestState.RUNNING), instance))


def refused(yard: JournaledYard) -> int:
    return sum("run by another instance by now" in line for line in yard.log())
