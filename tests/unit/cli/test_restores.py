"""What `posthouse restores` finds in a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from posthouse.cli.restores import HARMLESS, KINDS, row_of
from posthouse.contracts.store import Books, Deceased
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import SELF, place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.runtime.steps.closing import ORPHANED
from posthouse.runtime.steps.feeding import EVENT_LOST
from posthouse.runtime.steps.resending import NOT_REDRIVEN
from posthouse.testing.loop import SimulatedLoop
from tests.house import House
from tests.unit.runtime.test_journal_steps import journal_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Let no time pass."""
    return "asyncio", {"loop_factory": SimulatedLoop}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Give a house."""
    async with House() as house:
        yield house


STATES = (CallState.OPEN, CallState.REDRIVING, CallState.DONE, CallState.UNKNOWN, CallState.CONFLICT)


def fill(books: Books) -> None:
    """Write one of each kind, and others that are none."""
    lane = books.open_lane_out("prices")
    for number, state in enumerate(STATES):
        place = place_of(lane.lane, number)
        books.add_calls((Call(place, state.name, "prices", "prices.quote", state, Wants.NOBODY, b"", b""),))
    for lane_in, asked in ((1, 0), (1, books.identity.epoch), (SELF, 0)):
        place = place_of(lane_in, asked)
        row = Request(place, f"{lane_in} {asked}", "shop.buy", RequestState.RECEIVED, b"", b"", asked=asked)
        books.add_requests((row,))
    for code in (ORPHANED, NOT_REDRIVEN, EVENT_LOST, "handler.failed"):
        letter = Deceased(
            place=0,
            id=code,
            operation="shop.buy",
            frame=b"",
            state="failed",
            code=code,
            reason="why",
            detail="",
            attempts=0,
            cause=code,
            at=0.0,
        )
        books.add_dead(letter)


async def test_each_kind_is_found_once_and_nothing_else(house: House):
    journal = await journal_of(house, "shop")
    await journal.store.commit(fill, name="fill")

    row = await journal.store.read(lambda books: row_of("shop", books))

    assert [(each.kind, each.about, each.ids) for each in row.found] == [
        ("asked again", "prices", ["REDRIVING"]),
        ("conflict", "prices", ["CONFLICT"]),
        ("unknown", "prices", ["UNKNOWN"]),
        ("waits for its caller", "shop.buy", ["1 0"]),
        ("orphan", "shop.buy", [ORPHANED]),
        ("not asked again", "shop.buy", [NOT_REDRIVEN]),
        ("events lost", "shop.buy", [EVENT_LOST]),
    ]
    assert [life.reason for life in row.lives] == ["created"]
    assert {each.kind for each in row.found} == KINDS.keys()


def test_what_ends_by_itself_is_a_kind():
    assert KINDS.keys() > HARMLESS
