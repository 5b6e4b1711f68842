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

ROW = 640
"""Bytes of the replier's file for each request it may hold, with its place in the indexes: 485 were measured."""


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yield yard


def size(yard: JournaledYard) -> int:
    """Return how many bytes the replier's file has, when all that is in its log is written into it."""
    [(size,)] = yard.rows("prices", "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    return int(size)


@pytest.mark.parametrize("calls", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_rows_lanes_and_the_file_stay_small_however_many_calls_there_were(yard: JournaledYard, calls: int) -> None:
    says = {"STORM_BATCH": "200", "STORM_REST": "0", "STORM_KEPT": "0.5"}
    yard.begin("prices 1", **says)
    for number in range(LANES):
        yard.begin(f"cust{number}", **says)
    most_rows = most_bytes = 0

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

    yard.wait_for(lambda: are_made(calls // 2), "half of the calls are made", within=calls / 100)
    half = size(yard)
    yard.wait_for(lambda: are_made(calls), "all calls are made", within=calls / 100)
    late = size(yard)
    yard.enough()
    yard.wait_until_at_rest()
    print(f"{yard.asked} calls: at most {most_rows} rows, {most_bytes} bytes of ranges; {half} bytes, then {late}")

    assert 0 < most_rows <= LANES * 2 * WINDOW
    assert most_bytes <= 4 * WINDOW
    assert late <= LANES * 2 * WINDOW * ROW
    yard.wait_for(
        lambda: not any(yard.rows(f"cust{number}", "SELECT 1 FROM posthouse_calls") for number in range(LANES)),
        "settled calls are dropped",
    )
