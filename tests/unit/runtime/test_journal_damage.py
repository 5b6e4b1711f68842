"""A request whose row is not as it was written is set aside, and its neighbours go on."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, FailedError, PendingError, Service
from posthouse.contracts.store import Books, Deceased
from posthouse.errors import StoreDamagedError
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import SELF, Numbers, place_of
from posthouse.runtime.steps import intervening
from posthouse.runtime.steps.here import Here
from posthouse.runtime.steps.intervening import Did
from posthouse.runtime.steps.receiving import Arrived, Receiving
from posthouse.runtime.steps.wire import Outcome, ack, outcome_bytes
from posthouse.testing.loop import LoopClock
from tests.house import House, until

pytestmark = pytest.mark.anyio

CALLER = Identity("caller", 1)


class Order(Struct):
    sku: str


def slow(at_once: int = 1) -> tuple[Service, Any, asyncio.Event, list[str]]:
    """A service whose handlers wait for a gate; and what it did."""
    prices, gate, did = Service("prices", concurrency=at_once), asyncio.Event(), list[str]()

    @prices.handler
    async def quote(order: Order, ctx: Context) -> str:
        await gate.wait()
        did.append(order.sku)
        return order.sku

    return prices, quote, gate, did


async def damage(house: House, id: str, column: str = "frame") -> int:
    """Change the row of a request behind the store's back; return its place."""
    row = await house.read("prices", lambda books: books.request(id))
    assert row is not None

    def change(books: Any) -> None:
        books._sql.execute(f"UPDATE posthouse_requests SET {column} = x'00' WHERE place = ?", (row.place,))

    await house._stores["prices"].commit(change, name="damage")
    return row.place


async def come(house: House, count: int) -> None:
    """Wait until so many requests have come."""
    await until(lambda: house.requests("prices.quote"), lambda rows: len(rows) == count)


async def parked(house: House, place: int) -> None:
    """Wait until a damaged request is set aside."""

    def state(books: Books) -> RequestState | None:
        row = books.remains(place)
        return None if row is None else row.state

    await until(lambda: house.read("prices", state), lambda state: state is RequestState.PARKED)


async def drop(house: House, handle: str) -> Did:
    """Give a dead letter up."""
    here = Here("prices", peer="operator", now=LoopClock().now, directory=house.hosts[0].directory)
    store = house._stores["prices"]
    return await store.commit(lambda books: intervening.drop(books, int(handle), here, []), name="operator", flush=True)


# --- claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["frame", "digest", "outcome"])
async def test_a_damaged_request_is_parked_by_name_and_those_behind_it_run(
    house: House, column: str, caplog: pytest.LogCaptureFixture
):
    prices, quote, gate, did = slow()
    await house.serve(prices)
    shop = await house.client()
    ids = [await shop.send(quote, Order(sku)) for sku in ("tea", "salt", "rice")]
    await come(house, 3)
    place = await damage(house, ids[1], column)

    with caplog.at_level(logging.ERROR, "posthouse.journal"):
        gate.set()
        await parked(house, place)
        assert await shop.reply(quote, ids[2]) == "rice"

    assert did == ["tea", "rice"]
    [letter] = await house.dead()
    assert (letter.message, letter.state, letter.code) == (ids[1], "parked", "store.damaged")
    [said] = [record.getMessage() for record in caplog.records]
    assert f"the request {ids[1]} (row {place}) is damaged" in said


async def test_a_caller_of_a_damaged_request_waits_until_it_is_given_up_and_is_told_that(house: House):
    prices, quote, gate, did = slow()
    await house.serve(prices)
    shop = await house.client()
    ids = [await shop.send(quote, Order(sku)) for sku in ("tea", "salt")]
    await come(house, 2)
    place = await damage(house, ids[1])
    gate.set()
    await parked(house, place)
    [letter] = await house.dead()

    with pytest.raises(PendingError):
        await shop.reply(quote, ids[1], timeout=60)
    done = await drop(house, letter.handle)

    with pytest.raises(FailedError, match="was given up by an operator"):
        await shop.reply(quote, ids[1])
    assert done is Did.DONE
    assert did == ["tea"]
    assert await house.read("prices", lambda books: books.damage()) == []


async def test_a_damaged_request_is_not_replayed(house: House):
    prices, quote, gate, did = slow()
    await house.serve(prices)
    shop = await house.client()
    ids = [await shop.send(quote, Order(sku)) for sku in ("tea", "salt")]
    await come(house, 2)
    place = await damage(house, ids[1])
    gate.set()
    await parked(house, place)
    [letter] = await house.dead()

    with pytest.raises(StoreDamagedError, match=ids[1]):
        await house._stores["prices"].commit(
            lambda books: intervening.replay(books, int(letter.handle), now=LoopClock().now()), name="operator"
        )

    assert did == ["tea"]
    assert len(await house.dead()) == 1


# --- taking over --------------------------------------------------------------------------------------


async def test_what_a_dead_instance_ran_is_taken_over_though_a_row_of_it_is_damaged(house: House):
    prices, quote, _gate, _did = slow(at_once=2)
    first = await house.serve(prices)
    shop = await house.client()
    ids = [await shop.send(quote, Order(sku)) for sku in ("tea", "salt")]
    await come(house, 2)
    place = await damage(house, ids[0], "digest")

    await first.die()
    second, _quote, gate, did = slow()
    gate.set()
    await house.serve(second)
    await parked(house, place)

    assert await shop.reply(quote, ids[1]) == "salt"
    assert did == ["salt"]
    [letter] = await house.dead()
    assert (letter.message, letter.code) == (ids[0], "store.damaged")


# --- acks ---------------------------------------------------------------------------------------------


async def test_a_damaged_request_that_is_acked_leaves_a_letter_and_the_others_are_heard_of(house: House):
    host = await house.open()
    host.journals.allow("prices")
    journal = await host.journals.need("prices")
    assert journal is not None
    journal.here.ack_handlers = {"prices.quote": "prices.on_ack.prices.quote"}
    frame = encode(Message(Kind.REQUEST, "id", "prices.quote", "shop", 0.0, b"", Mode.JOURNALED))

    def take(books: Any) -> tuple[list[str], list[Deceased], int]:
        lane = books.open_lane_in(CALLER, "shop")
        for number in range(3):
            place, outcome = place_of(lane.lane, number), outcome_bytes(Outcome(b""))
            row = Request(place, f"n{number}", "prices.quote", RequestState.DONE, b"", frame, outcome=outcome)
            books.add_requests((row,))
        lane.next = 3
        books.save_lane_in(lane)
        books._sql.execute("UPDATE posthouse_requests SET outcome = x'00' WHERE id = 'n1'")
        stamps = Lane(CALLER.id, 1, books.identity.id, books.identity.epoch, -1, 3, b"", 1)
        told = ack(Numbers(3, []), stamps, service="prices", source="shop", now=0.0, reply_to="")
        Receiving(books, journal.here, lambda operation: 0).take([Arrived(told, b"")])
        runs = [row.id for row in reversed(books.requests_listed(lane=SELF))]
        return runs, books.dead_letters(), books.lane_in(lane.lane).over.floor

    runs, [letter], floor = await journal.store.commit(take, name="take")

    assert runs == ["n0", "n2"]
    assert floor == 3
    assert (letter.id, letter.operation, letter.state) == ("n1", "prices.on_ack.prices.quote", "failed")
    assert (letter.code, letter.frame) == ("store.damaged", b"")
