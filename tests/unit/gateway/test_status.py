"""Requests and idempotency keys, kept in memory and bounded."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.errors import IdempotencyConflictError, IdempotencyRunningError, OutcomeUnknownError, PosthouseError
from posthouse.gateway.idempotency import Given
from posthouse.gateway.status import Kept, Keys, Room, Shelf
from posthouse.message.message import Kind, Message
from posthouse.runtime.caller import Ticket
from posthouse.testing.clock import ManualClock
from tests.unit.gateway.makers import record

pytestmark = pytest.mark.anyio

RECORD = record("POST /orders")
BUY = "POST /orders"
SELL = "POST /sales"


def ticket(id: str) -> Ticket:
    return Ticket(id, RECORD.name, asyncio.get_running_loop().create_future(), 0.0)


def reply(id: str, data: bytes = b"{}") -> Message:
    return Message(Kind.REPLY, id, RECORD.name, "shop", 0.0, data)


class Desk:
    """A shelf with its clock, and the tickets that it has dropped."""

    def __init__(self, count: int = 3, length: float = 60.0) -> None:
        self.clock = ManualClock()
        self.dropped: list[str] = []
        self.shelf = Shelf(
            count=count,
            length=length,
            clock=self.clock,
            room=Room(size=100, count=2 * count),
            forget=lambda ticket: self.dropped.append(ticket.id),
        )

    def put(self, id: str) -> Ticket:
        made = ticket(id)
        self.shelf.put(Kept(RECORD), made)
        return made

    def known(self, *ids: str) -> list[str]:
        return [kept.id for id in ids if (kept := self.shelf.get(id)) is not None]

    def outcome(self, id: str) -> Message | PosthouseError | None:
        kept = self.shelf.get(id)
        assert kept is not None
        return kept.outcome


async def test_a_request_is_open_until_its_reply_comes():
    desk = Desk()
    made = desk.put("a")

    assert desk.outcome("a") is None
    made.reply.set_result(reply("a"))
    await asyncio.sleep(0)

    assert desk.outcome("a") == reply("a")


async def test_that_no_reply_can_come_is_an_outcome_too():
    desk = Desk()
    error = OutcomeUnknownError("the instance died")

    desk.put("a").reply.set_exception(error)
    desk.put("b").reply.cancel()
    await asyncio.sleep(0)

    assert desk.outcome("a") is error
    assert isinstance(desk.outcome("b"), OutcomeUnknownError)


@pytest.mark.parametrize(("more", "kept"), [(2, True), (3, False)])
async def test_so_many_are_kept_and_the_oldest_goes(more: int, kept: bool):
    desk = Desk(count=3)

    for id in ("first", *map(str, range(more))):
        desk.put(id)

    assert (desk.known("first") == ["first"]) is kept
    assert desk.dropped == ([] if kept else ["first"])
    assert len(desk.shelf) == 3


@pytest.mark.parametrize(("waited", "kept"), [(59.0, True), (60.0, False), (61.0, False)])
async def test_they_are_kept_for_a_time(waited: float, kept: bool):
    desk = Desk(length=60.0)
    desk.put("a")

    desk.clock.advance(waited)

    assert (desk.known("a") == ["a"]) is kept
    assert desk.dropped == ([] if kept else ["a"])


async def test_an_outcome_is_kept_for_the_whole_time():
    desk = Desk(length=60.0)
    made = desk.put("a")
    desk.clock.advance(50)
    made.reply.set_result(reply("a"))
    await asyncio.sleep(0)

    desk.clock.advance(50)
    assert desk.known("a") == ["a"]
    desk.clock.advance(10)
    assert desk.known("a") == []
    assert desk.dropped == []


async def test_a_reply_for_one_that_was_dropped_brings_nothing_back():
    desk = Desk(count=1)
    made = desk.put("a")
    desk.put("b")

    made.reply.set_result(reply("a"))
    await asyncio.sleep(0)

    assert desk.known("a", "b") == ["b"]


async def test_a_key_whose_request_was_dropped_while_open_does_not_say_that_it_runs():
    desk = Desk(count=1)
    used, _ = keys()
    kept = Kept(RECORD)
    used.begin(BUY, Given("k", b"data"), kept)

    desk.shelf.put(kept, ticket("a"))
    desk.put("b")

    again = used.begin(BUY, Given("k", b"data"), Kept(RECORD))
    assert again is kept
    assert isinstance(kept.outcome, OutcomeUnknownError)


# --- the room for outcomes -----------------------------------------------------------------------------------


def held(room: Room, *sizes: int) -> list[int]:
    """Keep outcomes of these sizes, and return those that are still there at the end."""
    all_kept = [Kept(RECORD) for _ in sizes]
    for kept, size in zip(all_kept, sizes, strict=True):
        room.keep(kept, reply("a", b"x" * size))
    return [len(kept.outcome.data) for kept in all_kept if isinstance(kept.outcome, Message)]


def test_outcomes_take_so_many_bytes_and_the_oldest_make_room():
    assert held(Room(size=100, count=10), 50, 50) == [50, 50]
    assert held(Room(size=100, count=10), 50, 40, 11) == [40, 11]
    assert held(Room(size=100, count=10), 10, 101, 20) == [20]


def test_outcomes_are_so_many_and_the_oldest_make_room():
    assert held(Room(size=100, count=3), 1, 2, 3, 4) == [2, 3, 4]


def test_of_an_outcome_that_made_room_is_known_that_it_was_there():
    room = Room(size=1, count=10)
    kept = Kept(RECORD)

    room.keep(kept, reply("a"))

    assert isinstance(kept.outcome, OutcomeUnknownError)


# --- idempotency keys --------------------------------------------------------------------------------------


def keys(count: int = 3, length: float = 60.0) -> tuple[Keys, ManualClock]:
    clock = ManualClock()
    return Keys(count=count, length=length, clock=clock), clock


def done(kept: Kept) -> Kept:
    kept.outcome = reply("a")
    return kept


async def test_the_same_key_with_the_same_data_gives_what_the_first_one_got():
    used, _ = keys()
    first = Kept(RECORD)

    assert used.begin(BUY, Given("k", b"data"), first) is None
    done(first)

    assert used.begin(BUY, Given("k", b"data"), Kept(RECORD)) is first


async def test_with_other_data_it_is_a_conflict_and_while_it_runs_it_is_running():
    used, _ = keys()
    first = Kept(RECORD)
    used.begin(BUY, Given("k", b"data"), first)

    with pytest.raises(IdempotencyRunningError):
        used.begin(BUY, Given("k", b"data"), Kept(RECORD))
    with pytest.raises(IdempotencyConflictError):
        used.begin(BUY, Given("k", b"other"), Kept(RECORD))
    done(first)
    with pytest.raises(IdempotencyConflictError):
        used.begin(BUY, Given("k", b"other"), Kept(RECORD))


async def test_the_key_of_another_route_is_another_key():
    used, _ = keys()

    assert used.begin(BUY, Given("k", b"data"), Kept(RECORD)) is None
    assert used.begin(SELL, Given("k", b"other"), Kept(RECORD)) is None


async def test_a_key_whose_request_was_not_stored_is_free_again():
    used, _ = keys()
    used.begin(BUY, Given("k", b"data"), Kept(RECORD))

    used.release(BUY, Given("k", b"data"))

    assert used.begin(BUY, Given("k", b"other"), Kept(RECORD)) is None


@pytest.mark.parametrize(("waited", "kept"), [(59.0, True), (60.0, False)])
async def test_keys_are_kept_for_a_time(waited: float, kept: bool):
    used, clock = keys(length=60.0)
    used.begin(BUY, Given("k", b"data"), done(Kept(RECORD)))

    clock.advance(waited)

    assert (used.begin(BUY, Given("k", b"data"), Kept(RECORD)) is not None) is kept


async def test_so_many_keys_are_kept():
    used, _ = keys(count=3)

    for number in range(10):
        used.begin(BUY, Given(str(number), b"data"), done(Kept(RECORD)))

    assert len(used) == 3
    assert used.begin(BUY, Given("9", b"data"), Kept(RECORD)) is not None
