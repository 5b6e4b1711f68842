"""A store's disk is full: what cannot be stored is refused, what was accepted is not lost, and it goes on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from posthouse.errors import DiskFullError
from tests.history.events import Told, read
from tests.system.journaled import JournaledYard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.slow]

PAGES = "90"


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yield yard


def refused(yard: JournaledYard) -> list[Told]:
    return [each for each in read(yard.records) if isinstance(each, Told) and each.outcome == "not stored"]


def test_a_caller_without_room_is_refused_and_goes_on_when_there_is_room(yard: JournaledYard) -> None:
    yard.begin("prices 1")
    yard.begin("cust", STORM_PAGES=PAGES, STORM_PLAIN="1")
    yard.wait_for(lambda: len(refused(yard)) >= 50, "requests are refused", within=60)
    assert {each.code for each in refused(yard)} <= {DiskFullError.code}

    (yard.records / "space").touch()

    asked = yard.asked
    yard.wait_for(lambda: yard.asked >= asked + 100, "requests are made again")
    report = yard.end()
    assert not report.findings, report
    assert report.counts.not_stored >= 50


def test_a_replier_without_room_loses_nothing_and_goes_on_when_there_is_room(yard: JournaledYard) -> None:
    yard.begin("prices 1", STORM_PAGES=PAGES)
    yard.begin("shop")
    yard.begin("cust")
    yard.wait_for(lambda: any("there is no room left" in line for line in yard.log()), "the disk is full", within=60)
    yard.kill("prices 1")
    yard.begin("prices 1", STORM_PAGES=PAGES)

    asked = yard.asked
    (yard.records / "space").touch()

    yard.wait_for(lambda: yard.asked >= asked + 100, "requests are answered again", within=60)
    report = yard.end()
    assert not report.findings, report
