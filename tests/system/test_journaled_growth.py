"""What the stores hold is bounded by what is under way, and not by what ever was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from posthouse.protocol.lane import WINDOW
from tests.system.journaled import JournaledYard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

LANES = 3


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yield yard


def size(yard: JournaledYard) -> int:
    """Return how many bytes the replier's file has, without what is still in its log."""
    return (yard.data / "stores" / "prices.db").stat().st_size


@pytest.mark.parametrize("calls", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_rows_lanes_and_the_file_stay_small_however_many_calls_there_were(yard: JournaledYard, calls: int) -> None:
    says = {"STORM_BATCH": "200", "STORM_REST": "0", "STORM_KEPT": "0.5"}
    yard.begin("prices 1", **says)
    for number in range(LANES):
        yard.begin(f"cust{number}", **says)
    most_rows = most_bytes = early = 0

    def are_made(count: int) -> bool:
        nonlocal most_rows, most_bytes
        most_rows = max(
            [most_rows, *(rows for (rows,) in yard.rows("prices", "SELECT count(*) FROM posthouse_requests"))]
        )
        most_bytes = max(
            [
                most_bytes,
                *(size for (size,) in yard.rows("prices", "SELECT max(length(ranges)) FROM posthouse_lanes_in")),
            ]
        )
        return yard.asked >= count

    yard.wait_for(lambda: are_made(2_000), "2,000 calls are made", within=60)
    early = size(yard)
    yard.wait_for(lambda: are_made(calls), "all calls are made", within=calls / 100)
    late = size(yard)
    yard.enough()
    yard.wait_until_at_rest()
    print(f"{yard.asked} calls: at most {most_rows} rows, {most_bytes} bytes of ranges; {early} bytes, then {late}")

    assert 0 < most_rows <= LANES * 2 * WINDOW
    assert most_bytes <= 4 * WINDOW
    assert late <= 2 * early
    yard.wait_for(
        lambda: not any(yard.rows(f"cust{number}", "SELECT 1 FROM posthouse_calls") for number in range(LANES)),
        "settled calls are dropped",
    )
