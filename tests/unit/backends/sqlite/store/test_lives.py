"""What a store does with what it holds when a new life of it begins: who has it open, what runs, and what waits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from posthouse.backends.sqlite.store import SqliteStore
from posthouse.contracts.store import Books
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import SELF, Numbers
from posthouse.protocol.stream import FEEDS
from posthouse.testing import ManualClock
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import SHOP, request, running
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio

RECEIVED, RUNNING, SUSPENDED = RequestState.RECEIVED, RequestState.RUNNING, RequestState.SUSPENDED
PARKED, DONE = RequestState.PARKED, RequestState.DONE
QUOTE = "prices.quote"
NEVER = float("inf")
LANES = (SELF, 1, FEEDS)


def fill(books: Books) -> None:
    """Write, in each kind of lane, a request of each state."""
    books.beat("one", NOON + 15)
    lane = books.open_lane_in(SHOP, "shop")
    lane.over.add_all([0, 4])
    books.save_lane_in(lane)
    for of in LANES:
        books.add_requests(
            [
                request(1, lane=of),
                running(2, lane=of, attempt=3, deaths=1, failures=2),
                request(3, lane=of, state=SUSPENDED, due=NOON + 60, attempt=1),
                request(5, lane=of, state=PARKED),
                request(6, lane=of, state=DONE, outcome=b"so"),
            ]
        )


@pytest.fixture
async def copy(directory: Path, clock: ManualClock, open_file: OpenStore, tmp_path: Path) -> SqliteStore:
    """Give a store that was copied, a minute later, and begins a new life."""
    original = await open_file()
    await original.commit(fill, name="fill", flush=True)
    await original.close()
    shutil.copytree(directory, tmp_path / "copy")
    clock.advance(60)
    return await open_file(at=tmp_path / "copy")


async def held(store: SqliteStore, lane: int) -> dict[int, Request]:
    """Return what lies in a lane, by number."""
    found = await store.read(lambda books: books.requests_listed(lane=lane))
    return {each.place - request(0, lane=lane).place: each for each in found}


async def ask_again(store: SqliteStore, *numbers: int) -> None:
    """Have the shop ask again for requests."""
    rows = [(store.identity.epoch, 1, "shop-2", request(number).place) for number in numbers]
    await store.commit(lambda books: books.ask_again(rows, NOON + 70), name="ask again")


async def test_nobody_has_a_new_life_open_and_nobody_runs_anything_in_it(copy: SqliteStore):
    rows = [(await held(copy, lane))[2] for lane in LANES]

    assert await copy.read(lambda books: books.members()) == []
    assert await copy.read(lambda books: books.dead(NOON)) == []
    assert [(row.state, row.instance) for row in rows] == [(RECEIVED, "")] * 3


async def test_what_ran_when_a_life_ended_counts_neither_as_failed_nor_as_a_death(copy: SqliteStore):
    rows = [(await held(copy, lane))[2] for lane in LANES]

    assert [(row.attempt, row.deaths, row.failures) for row in rows] == [(3, 1, 2)] * 3


async def test_what_others_asked_and_is_undecided_waits_until_they_ask_again(copy: SqliteStore):
    rows = await held(copy, 1)

    assert {number: (row.state, row.due) for number, row in rows.items()} == {
        1: (RECEIVED, NEVER),
        2: (RECEIVED, NEVER),
        3: (SUSPENDED, NEVER),
        5: (PARKED, NOON),
        6: (DONE, NOON),
    }


@pytest.mark.parametrize("lane", [SELF, FEEDS])
async def test_what_a_store_asks_of_itself_and_events_may_run_at_once(lane: int, copy: SqliteStore):
    rows = await held(copy, lane)

    assert {number: (row.state, row.due) for number, row in rows.items()} == {
        1: (RECEIVED, NOON),
        2: (RECEIVED, NOON + 60),
        3: (SUSPENDED, NOON + 60),
        5: (PARKED, NOON),
        6: (DONE, NOON),
    }


async def test_what_is_asked_for_again_may_run_and_what_rested_runs_anew(copy: SqliteStore):
    await ask_again(copy, 1, 3, 5, 6)

    rows = await held(copy, 1)
    assert {number: (row.state, row.due) for number, row in rows.items()} == {
        1: (RECEIVED, NOON + 70),
        2: (RECEIVED, NEVER),
        3: (RECEIVED, NOON + 70),
        5: (PARKED, NOON),
        6: (DONE, NOON),
    }


async def test_what_is_asked_for_again_once_more_goes_on_resting(copy: SqliteStore):
    await ask_again(copy, 1, 3)

    def rest(books: Books) -> None:
        books.claim("one", [request(1).place, request(3).place])
        for number, attempt in ((1, 1), (3, 2)):
            books.put_back(
                request(number).place,
                instance="one",
                attempt=attempt,
                state=SUSPENDED,
                due=NOON + 99,
                failures=0,
                deaths=0,
            )

    await copy.commit(rest, name="rest")
    await ask_again(copy, 1, 3)

    rows = await held(copy, 1)
    assert [(rows[number].state, rows[number].due) for number in (1, 3)] == [(SUSPENDED, NOON + 99)] * 2


async def test_what_is_parked_is_revived_only_when_its_caller_has_asked_again(copy: SqliteStore):
    places = [request(5, lane=lane).place for lane in LANES]
    own, of_shop, event = places

    first = await copy.commit(lambda books: books.revive(places, NOON), name="revive")
    await ask_again(copy, 5)
    second = await copy.commit(lambda books: books.revive(places, NOON), name="revive")

    assert first == [own, event]
    assert second == [of_shop]


async def test_a_life_knows_what_was_over_when_it_began(copy: SqliteStore):
    def go_on(books: Books) -> None:
        lane = books.lane_in(1)
        assert lane is not None
        lane.over.raise_to(9)
        books.save_lane_in(lane)

    await copy.commit(go_on, name="go on")

    assert await copy.read(lambda books: books.floors_at(copy.identity.epoch)) == {
        SELF: Numbers(0),
        1: Numbers(1, [(4, 4)]),
    }
    assert await copy.read(lambda books: books.floors_at(1)) == {}
