"""A request that kills whoever runs it is put aside, its neighbours go on, and it is run again when it is mended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from posthouse.protocol.inbox import DEATHS
from posthouse.runtime.watchdog import STUCK
from tests.system.journaled import JournaledYard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

MILLS = ("mill 1", "mill 2")
DEADLY = {"exit": 3, "segfault": -11, "loop": STUCK}
TOO_LARGE = ("memory", "gigabyte")
"""These end the run, and not the process: they are parked after all their attempts."""


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yard.script = Path(__file__).with_name("programs") / "journaled_poison.py"
        yield yard


def revive(yard: JournaledYard, ends: list[int]) -> None:
    """Start another mill for each that has ended by itself, as `posthouse up` does."""
    for name in yard.ended():
        ends.append(yard.running.pop(name).returncode)
        yard.begin(name)


def test_a_deadly_request_is_parked_after_three_deaths_and_its_neighbours_go_on(yard: JournaledYard) -> None:
    kinds = [*DEADLY, *TOO_LARGE]
    ends: list[int] = []
    for name in MILLS:
        yard.begin(name)
    yard.begin("cust", STORM_KINDS=" ".join(kinds))

    def all_parked() -> bool:
        revive(yard, ends)
        return len(yard.parked("mill")) == len(kinds)

    # Mills end with an error here, and may do so at any moment: that is no failure of the test.
    assert yard.comes_true(all_parked, within=60), "it never came true that all deadly requests are parked"
    revive(yard, ends)  # whoever ended last
    asked_then = yard.asked
    yard.wait_for(lambda: yard.asked > asked_then + 20, "neighbours are asked and answered")
    print(f"ends {ends}, {asked_then} neighbours done meanwhile")
    assert set(ends) == set(DEADLY.values())
    assert len(ends) <= DEATHS * len(DEADLY)
    assert asked_then > 0
    letters = yard.posthouse("dead", "ls", "--each")
    assert letters.count("handler.deadly") == len(DEADLY), letters

    (yard.records / "mended").touch()
    report = yard.end()

    assert yard.replayed == len(kinds)
    assert not report.findings, report
    assert report.counts.done == report.counts.operations
