"""A receiver that is told to end (SIGTERM) while there is work loses nothing, and ends in its grace time.

It takes nothing more, finishes what it has begun, hands back the rest, and goes. What takes longer than
the grace is handed back too, and comes again: in `queued` that is a duplicate, of which there can be no
more than were at work. At the end stand the tests of the test, with planted faults.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.system.yard import Yard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

GRACE = 5.0
SHORT = 0.5
BEYOND = 2.0
"""What a process may take to end beyond its grace time, in seconds."""


@pytest.fixture
def yard() -> Iterator[Yard]:
    with Yard() as yard:
        yield yard


def stops_under_load(yard: Yard, *, stops: int, fault: str = "") -> int:
    """Stop one of two receivers again and again; return how many handlers were at work then, all in all."""
    says = {"POSTHOUSE_GRACE": f"{GRACE}s", "STORM_PAUSE": "0.02", "STORM_FAULT": fault}
    at_work = 0
    yard.sender("sender")
    for name in ("even", "odd"):
        yard.receiver(name, **says)
    for number in range(stops):
        name = ("even", "odd")[number % 2]
        yard.wait_for(lambda: yard.begun(name) > 50, f"{name} is under load")  # noqa: B023 - asked in this round only
        at_work += max(0, yard.all_begun() - yard.count("handled"))

        assert yard.stop(name, within=GRACE + BEYOND) == 0

        yard.receiver(name, **says)
    yard.kill("sender")
    yard.wait_until_quiet()
    for name in ("even", "odd"):
        yard.stop(name, within=GRACE + BEYOND)
    return at_work


def test_receivers_that_are_stopped_under_load_lose_nothing(yard: Yard) -> None:
    at_work = stops_under_load(yard, stops=10)

    print(f"10 stops, {yard.count('confirmed')} confirmed, {at_work} at work, {yard.duplicates()} duplicates")
    assert yard.lost() == set()
    assert at_work > 0
    assert yard.duplicates() <= at_work
    assert yard.dead_letters() == []


def test_what_outlasts_the_grace_is_handed_back_and_comes_again(yard: Yard) -> None:
    yard.sender("sender")
    yard.receiver("slow", POSTHOUSE_GRACE=f"{SHORT}s", STORM_PAUSE="600")
    yard.wait_for(lambda: yard.begun("slow") >= 8, "the slow receiver is at work")
    yard.kill("sender")

    assert yard.stop("slow", within=SHORT + BEYOND) == 0
    yard.receiver("quick")

    yard.wait_for(lambda: not yard.lost(), "all that was confirmed was handled")
    yard.wait_until_quiet()
    assert yard.duplicates() == 0
    assert yard.dead_letters() == []


def test_it_is_seen_when_a_receiver_that_settles_too_early_is_stopped(yard: Yard) -> None:
    stops_under_load(yard, stops=2, fault="settles-first")

    print(f"settles-first: {len(yard.lost())} of {yard.count('confirmed')} lost")
    assert yard.lost()


def test_it_is_seen_when_a_receiver_does_not_heed_the_signal(yard: Yard) -> None:
    yard.sender("sender")
    yard.receiver("deaf", POSTHOUSE_GRACE=f"{SHORT}s", STORM_FAULT="deaf")
    yard.wait_for(lambda: yard.count("handled") > 0, "it is at work")

    with pytest.raises(subprocess.TimeoutExpired):
        yard.stop("deaf", within=SHORT + BEYOND)
