"""The life of a journaled call: what both stores hold at each stage, and what whoever asked can learn of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from posthouse import CallCanceledError, Context, ExpiredError, PendingError, Reject, Service
from posthouse.errors import CallUnknownError, IdReusedError
from posthouse.message.codec import encode
from posthouse.message.message import Kind
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.outbox import CallState
from posthouse.testing.faults import Faults
from posthouse.testing.watched import Record
from tests.house import House, lossy, until

pytestmark = pytest.mark.anyio


class Order(Struct):
    sku: str


class Prices:
    """A service whose handler works until it may end, and writes down what it was run for."""

    def __init__(self, *, concurrency: int = 8) -> None:
        self.service = Service("prices", concurrency=concurrency)
        self.may_end = asyncio.Event()
        self.runs: list[str] = []

        @self.service.handler
        async def quote(order: Order) -> str:
            self.runs.append(order.sku)
            await self.may_end.wait()
            return order.sku.upper()

        self.quote = quote


@pytest.fixture
def prices() -> Prices:
    return Prices()


async def calls(house: House) -> list[CallState]:
    return [row.state for row in await house.calls("prices.quote", of="shop")]


async def requests(house: House) -> list[RequestState]:
    return [row.state for row in await house.requests("prices.quote")]


async def are(house: House, *states: CallState) -> None:
    """Wait until the calls are in these states."""
    await until(lambda: calls(house), lambda found: found == [*states])


async def received(house: House, *states: RequestState) -> None:
    """Wait until the requests are in these states."""
    await until(lambda: requests(house), lambda found: found == [*states])


# --- stages -------------------------------------------------------------------------------------------


async def test_a_call_is_in_the_books_of_both_at_every_stage_and_at_the_end_only_its_caller_keeps_it(
    house: House, prices: Prices
):
    faults = Faults()
    host = await house.open(wrap=lossy(faults))
    await host.announce(prices.service)
    client = await house.client()

    id = await client.send(prices.quote, Order("tea"))
    [call] = await house.calls("prices.quote", of="shop")
    assert (call.id, call.state, call.place & 0xFFFF, call.outcome) == (id, CallState.OPEN, 0, b"")
    assert "prices" not in house.stored_services

    await host.serve(prices.service)
    await received(house, RequestState.RUNNING)
    [row] = await house.requests("prices.quote")
    assert (row.id, row.attempt, row.outcome) == (id, 1, b"")
    assert await calls(house) == [CallState.OPEN]

    faults.order(prices.quote, "lose reply", times=1)
    prices.may_end.set()
    await received(house, RequestState.DONE)
    assert await calls(house) == [CallState.OPEN]

    await are(house, CallState.DONE)
    await received(house)
    [lane] = [lane for lane in await house.read("prices", lambda books: books.lanes_in()) if lane.service == "shop"]
    assert (lane.next, lane.over.floor, lane.over.ranges) == (1, 1, [])
    assert await client.reply(prices.quote, id) == "TEA"
    assert prices.runs == ["tea"]


async def test_a_reply_is_kept_until_its_caller_has_acked_it(house: House, prices: Prices):
    faults = Faults()
    prices.may_end.set()
    await house.serve(prices.service)
    host = await house.open(wrap=lossy(faults))
    client = house.client_of(host)
    faults.order(prices.quote, "lose ack", times=2)

    assert await client.call(prices.quote, Order("tea")) == "TEA"
    await asyncio.sleep(4)
    assert await requests(house) == [RequestState.DONE]

    await received(house)
    assert prices.runs == ["tea"]


async def test_a_floor_rides_on_the_next_request(house: House, prices: Prices):
    prices.may_end.set()
    await house.serve(prices.service)
    client = await house.client()
    for sku in ("tea", "milk"):
        await client.call(prices.quote, Order(sku))  # the second one before an ack would be sent alone

    [row] = await house.requests("prices.quote")
    assert row.place & 0xFFFF == 1


async def test_what_is_not_done_is_final_and_acked_too(house: House):
    pay = Service("prices")

    @pay.handler
    async def quote(order: Order) -> None:
        raise Reject("no", code="prices.no")

    await house.serve(pay)
    client = await house.client()
    with pytest.raises(Reject):
        await client.call(quote, Order("tea"))

    await are(house, CallState.NOT_DONE)
    await received(house)


# --- duplicates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["duplicate request", "duplicate reply", "lose reply", "lose request"])
async def test_a_request_that_comes_again_is_answered_and_not_run(house: House, prices: Prices, what: Any):
    faults = Faults()
    prices.may_end.set()
    await house.serve(prices.service, wrap=lossy(faults))
    client = house.client_of(await house.open(wrap=lossy(faults)))
    faults.order(prices.quote, what, times=2)

    answers = [await client.call(prices.quote, Order(sku)) for sku in ("tea", "milk")]

    assert answers == ["TEA", "MILK"]
    assert prices.runs == ["tea", "milk"]
    await received(house)


async def test_a_request_that_comes_again_while_it_runs_is_put_off_and_not_sent_each_second(
    house: House, prices: Prices
):
    await house.serve(prices.service)
    client = await house.client()
    asking = asyncio.create_task(client.call(prices.quote, Order("tea"), timeout="5m"))
    await asyncio.sleep(20)
    [journal] = house.hosts[1].journals._open.values()
    [sent] = journal.outbox.sent.values()
    tries = sent.tries
    prices.may_end.set()

    assert await asking == "TEA"
    assert tries == 2
    assert prices.runs == ["tea"]


async def test_a_request_that_comes_again_when_all_of_it_is_forgotten_is_not_run(house: House, prices: Prices):
    record = Record()
    prices.may_end.set()
    server = await house.serve(prices.service)
    host = await house.open(wrap=lossy(Faults(), record))
    assert await house.client_of(host).call(prices.quote, Order("tea")) == "TEA"
    await received(house)
    [request] = record.of(Kind.REQUEST, "prices.quote")

    host.transport.direct.send(server.peer, encode(request))
    await asyncio.sleep(5)

    assert prices.runs == ["tea"]
    assert await requests(house) == []
    assert await calls(house) == [CallState.DONE]


# --- waiting again ------------------------------------------------------------------------------------


async def test_who_does_not_wait_any_more_can_ask_for_the_reply_as_often_as_wanted(house: House, prices: Prices):
    await house.serve(prices.service)
    client = await house.client()
    with pytest.raises(PendingError) as pending:
        await client.call(prices.quote, Order("tea"), timeout="1s")
    id = pending.value.id
    with pytest.raises(PendingError) as again:
        await client.reply(prices.quote, id, timeout="1s")
    waiting = asyncio.create_task(client.reply(prices.quote, id))
    await asyncio.sleep(1)
    prices.may_end.set()

    assert again.value.id == id
    assert [await waiting, await client.reply(prices.quote, id), await client.reply(prices.quote, id)] == ["TEA"] * 3
    assert prices.runs == ["tea"]


async def test_the_reply_is_kept_over_a_restart_of_its_caller(house: House, prices: Prices):
    prices.may_end.set()
    host = await house.open()
    await host.announce(prices.service)
    first = await house.open()
    id = await house.client_of(first).send(prices.quote, Order("tea"))
    await first.die()
    await host.serve(prices.service)
    client = await house.client()

    assert await client.reply(prices.quote, id) == "TEA"
    await received(house)
    assert prices.runs == ["tea"]


async def test_a_reply_that_nobody_asked_for_is_unknown(house: House, prices: Prices):
    await house.serve(prices.service)
    client = await house.client()

    with pytest.raises(CallUnknownError, match="has sent no request"):
        await client.reply(prices.quote, "no such id")


# --- ids ----------------------------------------------------------------------------------------------


async def test_the_same_id_is_the_same_request_however_often_it_is_asked(house: House, prices: Prices):
    await house.serve(prices.service)
    client = await house.client()
    asked = [asyncio.create_task(client.call(prices.quote, Order("tea"), id="once")) for _ in range(3)]
    await asyncio.sleep(1)
    assert await client.send(prices.quote, Order("tea"), id="once") == "once"
    prices.may_end.set()

    assert await asyncio.gather(*asked) == ["TEA"] * 3
    assert await client.call(prices.quote, Order("tea"), id="once") == "TEA"
    assert await client.reply(prices.quote, "once") == "TEA"
    assert prices.runs == ["tea"]


async def test_an_id_that_stands_for_another_request_is_refused(house: House, prices: Prices):
    prices.may_end.set()
    await house.serve(prices.service)
    client = await house.client()
    await client.call(prices.quote, Order("tea"), id="once")

    with pytest.raises(IdReusedError, match="once"):
        await client.call(prices.quote, Order("milk"), id="once")
    assert prices.runs == ["tea"]


# --- canceling ----------------------------------------------------------------------------------------


async def test_what_its_replier_has_not_begun_is_canceled_and_never_run(house: House):
    prices = Prices(concurrency=1)
    await house.serve(prices.service)
    client = await house.client()
    first = await client.send(prices.quote, Order("tea"))
    second = await client.send(prices.quote, Order("milk"))
    await received(house, RequestState.RUNNING, RequestState.RECEIVED)

    await client.cancel(second)

    with pytest.raises(CallCanceledError):
        await client.reply(prices.quote, second)
    prices.may_end.set()
    assert await client.reply(prices.quote, first) == "TEA"
    await received(house)
    assert await calls(house) == [CallState.DONE, CallState.NOT_DONE]
    assert prices.runs == ["tea"]


async def test_what_its_replier_has_not_heard_of_is_canceled_as_soon_as_it_comes(house: House, prices: Prices):
    host = await house.open()
    await host.announce(prices.service)
    client = await house.client()
    id = await client.send(prices.quote, Order("tea"))
    waiting = asyncio.create_task(client.reply(prices.quote, id, timeout="5m"))
    await client.cancel(id)
    assert await calls(house) == [CallState.CANCEL_WANTED]

    await host.serve(prices.service)

    with pytest.raises(CallCanceledError):
        await waiting
    await received(house)
    assert prices.runs == []


async def test_what_runs_already_ends_as_it_ends(house: House, prices: Prices):
    await house.serve(prices.service)
    client = await house.client()
    id = await client.send(prices.quote, Order("tea"))
    await received(house, RequestState.RUNNING)

    await client.cancel(id)
    await asyncio.sleep(5)
    prices.may_end.set()

    assert await client.reply(prices.quote, id, timeout="5m") == "TEA"
    assert await calls(house) == [CallState.DONE]


async def test_what_is_decided_stays_as_it_is(house: House, prices: Prices):
    prices.may_end.set()
    await house.serve(prices.service)
    client = await house.client()
    await client.call(prices.quote, Order("tea"), id="done")

    await client.cancel("done")

    assert await client.reply(prices.quote, "done") == "TEA"
    with pytest.raises(CallUnknownError):
        await client.cancel("no such id")


# --- deadlines ----------------------------------------------------------------------------------------


async def test_only_the_replier_decides_that_a_deadline_has_passed(house: House, prices: Prices):
    host = await house.open()
    await host.announce(prices.service)
    client = await house.client()
    asking = asyncio.create_task(client.call(prices.quote, Order("tea"), deadline="5s", timeout="5m"))
    await asyncio.sleep(60)
    assert await calls(house) == [CallState.OPEN]
    assert not asking.done()

    await host.serve(prices.service)

    with pytest.raises(ExpiredError):
        await asking
    assert await calls(house) == [CallState.NOT_DONE]
    assert prices.runs == []


async def test_a_handler_that_rests_when_its_deadline_passes_is_not_run_again(house: House, prices: Prices):
    shop, runs = Service("till"), list[str]()

    @shop.handler
    async def buy(order: Order, ctx: Context) -> str:
        runs.append(order.sku)
        return await ctx.call(prices.quote, order, timeout="1s")

    await house.serve(prices.service, shop)
    client = await house.client()

    with pytest.raises(ExpiredError):
        await client.call(buy, Order("tea"), deadline="10s", timeout="5m")
    prices.may_end.set()
    await house.settled("till.buy")
    assert runs == ["tea"]
