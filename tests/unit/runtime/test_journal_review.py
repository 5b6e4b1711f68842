"""What is easily lost between the steps of journaled delivery: answers that nobody takes, claims that are gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, Retry, Service
from posthouse.backends.sqlite.store.calls import CallBooks
from posthouse.errors import StorageError, UnavailableError
from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import number_of
from posthouse.runtime.steps import deciding
from posthouse.runtime.steps.applying import APART
from posthouse.runtime.steps.receiving import Arrived
from tests.house import House, journals_of, until

pytestmark = pytest.mark.anyio


class Order(Struct):
    sku: str
    qty: int = 1


async def open_numbers(house: House, service: str) -> int:
    """Return how many calls of a service are numbered and not final."""
    lanes = await house.read(service, lambda books: books.lanes_out())
    return sum(lane.next - lane.final.count for lane in lanes)


def stall(host: Any) -> None:
    """Let a host be silent, so that its siblings take it for dead."""
    [journal] = journals_of(host)
    assert journal._beating is not None
    journal._beating.cancel()


def _pair(identity: Any) -> tuple[str, int]:
    return identity.id, identity.epoch


# --- answers ------------------------------------------------------------------------------------------


async def test_a_call_that_its_handler_gave_up_is_final_once_the_replier_has_answered(house: House):
    shop, prices = Service("shop"), Service("prices")

    @prices.handler()
    async def quote(order: Order) -> int:
        await asyncio.sleep(5)
        return 1

    @shop.handler()
    async def buy(order: Order, ctx: Context) -> int:
        try:
            async with asyncio.timeout(1):
                return await ctx.call(quote, order)
        except TimeoutError:
            return 0

    await house.serve(prices, shop)
    client = await house.client()

    assert await client.call(buy, Order("tea")) == 0

    await until(lambda: open_numbers(house, "shop"), lambda count: count == 0)


async def test_a_reply_is_heard_by_its_handler_though_somebody_waits_for_it(house: House):
    shop, prices = Service("shop"), Service("prices")
    heard: list[int] = []

    @prices.handler()
    async def quote(order: Order) -> int:
        await asyncio.sleep(1)
        return order.qty

    @shop.on_reply(quote)
    async def told(reply: Any, ctx: Context) -> None:
        heard.append(reply.get())

    await house.serve(prices)
    client = house.client_of(await house.serve(shop))

    id = await client.send(quote, Order("tea", 7))
    assert await client.reply(quote, id) == 7

    await until(lambda: open_numbers(house, "shop"), lambda count: count == 0)
    assert heard == [7]


async def test_a_delivery_that_rests_goes_on_though_an_attempt_without_its_claim_waits_for_the_same_reply(house: House):
    prices = Service("prices")
    begun: list[int] = []
    answer = asyncio.Event()

    @prices.handler()
    async def quote(order: Order) -> int:
        await answer.wait()
        return order.qty

    def shop() -> tuple[Service, Any]:
        service = Service("shop")

        @service.handler()
        async def buy(order: Order, ctx: Context) -> int:
            begun.append(1)
            return await ctx.call(quote, order, timeout=1000 if len(begun) == 1 else 5)

        return service, buy

    await house.serve(prices)
    service, buy = shop()
    stalled = await house.serve(service)
    client = await house.client()
    asking = asyncio.ensure_future(client.call(buy, Order("tea", 7), timeout=None))
    await until(lambda: asyncio.sleep(0, begun), bool)
    stall(stalled)
    await house.serve(shop()[0])

    await until(lambda: house.requests("shop.buy"), lambda rows: rows[0].state is RequestState.SUSPENDED)
    answer.set()

    assert await asking == 7


# --- what a handler asks ------------------------------------------------------------------------------


async def test_an_attempt_that_lost_its_claim_asks_nothing_any_more(house: House):
    prices = Service("prices")
    begun: list[int] = []
    charged: list[str] = []

    @prices.handler()
    async def charge(order: Order, ctx: Context) -> int:
        charged.append(ctx.id)
        return order.qty

    def shop() -> tuple[Service, Any]:
        service = Service("shop")

        @service.handler()
        async def buy(order: Order, ctx: Context) -> int:
            begun.append(1)
            await asyncio.sleep(40 if len(begun) == 1 else 1)
            return await ctx.call(charge, order)

        return service, buy

    await house.serve(prices)
    service, buy = shop()
    stalled = await house.serve(service)
    client = await house.client()
    asking = asyncio.ensure_future(client.call(buy, Order("tea", 7), timeout=None))
    await until(lambda: asyncio.sleep(0, begun), bool)
    stall(stalled)
    await house.serve(shop()[0])

    assert await asking == 7
    await until(lambda: asyncio.sleep(0, stalled._servings["shop"].at_work), lambda count: count == 0)

    assert len(begun) == 2
    assert len(charged) == 1
    assert await open_numbers(house, "shop") == 0


async def test_the_first_deposit_of_a_store_is_given_what_it_was_told_on_an_earlier_run(house: House):
    house.callers_have_stores = False
    shop, prices = Service("shop"), Service("prices")
    quoted: list[str] = []

    @prices.handler()
    async def quote(order: Order) -> int:
        quoted.append(order.sku)
        return 1

    @shop.handler()
    async def buy(order: Order, ctx: Context) -> int:
        price = await ctx.call(quote, order)
        if ctx.attempt == 1:
            raise ValueError(order.sku)
        return price

    await house.serve(prices, shop)
    client = await house.client()

    assert await client.call(buy, Order("tea")) == 1

    assert quoted == ["tea"]


async def test_a_handler_whose_other_client_waits_in_vain_runs_again(house: House):
    shop, prices = Service("shop"), Service("prices")
    begun: list[int] = []

    @prices.handler()
    async def quote(order: Order) -> int:
        await asyncio.sleep(5)
        return order.qty

    await house.serve(prices)
    other = await house.client("other")

    @shop.handler()
    async def buy(order: Order) -> int:
        begun.append(1)
        return await other.call(quote, order, timeout=1 if len(begun) == 1 else 60)

    await house.serve(shop)
    client = await house.client()

    assert await client.call(buy, Order("tea", 7), timeout=100) == 7
    assert len(begun) == 2


async def test_a_batch_whose_call_is_pending_is_done_once_it_is_answered(house: House):
    shop, prices = Service("shop"), Service("prices")
    batches: list[list[str]] = []

    @prices.handler()
    async def quote(order: Order) -> int:
        await asyncio.sleep(5)
        return order.qty

    @shop.handler(batch=3, linger="1s")
    async def pack(orders: list[Order], ctx: Context) -> None:
        batches.append([order.sku for order in orders])
        await ctx.call(quote, Order(""), timeout=1 if len(batches) == 1 else 60)

    await house.serve(prices, shop)
    client = await house.client()
    for sku in ("tea", "rum", "oil"):
        await client.send(pack, Order(sku))

    await until(lambda: house.under_way("shop.pack"), lambda count: count == 0)

    assert batches[0] == ["tea", "rum", "oil"]
    await until(lambda: open_numbers(house, "shop"), lambda count: count == 0)


async def test_one_of_a_failed_batch_is_given_what_the_batch_was_told(house: House):
    shop, prices = Service("shop"), Service("prices")
    quoted: list[str] = []

    @prices.handler()
    async def quote(order: Order) -> int:
        quoted.append(order.sku)
        return order.qty

    @shop.handler(batch=3, linger="1s")
    async def pack(orders: list[Order], ctx: Context) -> None:
        await ctx.call(quote, Order(orders[0].sku))
        if len(orders) > 1:
            raise ValueError(orders)

    await house.serve(prices, shop)
    client = await house.client()
    for sku in ("tea", "rum", "oil"):
        await client.send(pack, Order(sku))

    await until(lambda: house.under_way("shop.pack"), lambda count: count == 0)

    assert quoted == ["tea", "rum", "oil"]
    assert await open_numbers(house, "shop") == 0


# --- several instances, and power cuts ------------------------------------------------------------------


async def test_a_call_that_waits_is_numbered_by_a_sibling_of_an_instance_that_left(house: House):
    prices = Service("prices")
    quoted: list[int] = []

    @prices.handler(key="sku")
    async def quote(order: Order) -> None:
        await asyncio.sleep(5)
        quoted.append(order.qty)

    await house.serve(prices)
    one, two = await house.open(), await house.open()
    await house.client_of(two).send(quote, Order("rum", 0))
    await house.client_of(one).send(quote, Order("tea", 1))
    await house.client_of(one).send(quote, Order("tea", 2))

    await one.close()
    await asyncio.sleep(60)

    assert sorted(quoted) == [0, 1, 2]


async def test_what_an_instance_did_not_ack_before_it_died_is_acked_by_a_sibling(house: House):
    prices = Service("prices")

    @prices.handler()
    async def quote(order: Order) -> int:
        return order.qty

    await house.serve(prices)
    one: Any = await house.open()
    two = await house.open()
    await house.client_of(two).call(quote, Order("rum"))
    await asyncio.sleep(20)
    await house.client_of(one).call(quote, Order("tea"))
    await one.die()

    await until(lambda: house.requests("prices.quote"), lambda rows: not rows)


async def test_a_call_is_taken_over_though_a_thousand_before_it_are_parked(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    prices = Service("prices")

    @prices.handler(attempts=1, exhausted="park")
    async def quote(order: Order) -> int:
        if order.sku == "bad":
            raise ValueError(order)
        return order.qty

    def page(books: Any, lane: Any, *, after: int = -1, limit: int = 3) -> Any:
        return unsettled(books, lane, after=after, limit=limit)

    unsettled = CallBooks.unsettled
    monkeypatch.setattr(CallBooks, "unsettled", page)
    serving = await house.serve(prices)
    one = await house.open()
    for _ in range(6):
        await house.client_of(one).send(quote, Order("bad"))
    await house.bury(6)
    await serving.close()
    id = await house.client_of(one).send(quote, Order("good", 7))
    await one.close()

    client = await house.client()
    asking = asyncio.ensure_future(client.reply(quote, id))
    await asyncio.sleep(1)
    await house.serve(prices)

    assert await asking == 7


async def test_what_was_taken_over_is_on_the_disk_before_it_is_sent(house: House):
    house._disk._power_cuts = True
    prices = Service("prices")
    quoted: list[str] = []

    @prices.handler()
    async def quote(order: Order, ctx: Context) -> None:
        quoted.append(ctx.id)
        if order.sku == "tea":
            two.vanish()
            house._disk.power_cut("shop")

    await house.serve(prices)
    one: Any = await house.open()
    two: Any = await house.open()
    for host in (one, two):
        await house.client_of(host).send(quote, Order("rum"))
    await asyncio.sleep(20)  # nothing else is to be flushed then
    quoted.clear()
    [store] = one.stores
    store._engine.flush = one.vanish  # committed, and not on the disk
    with pytest.raises(UnavailableError):
        await house.client_of(one).send(quote, Order("tea"))

    await until(lambda: asyncio.sleep(0, quoted), bool)

    assert quoted[0] in [call.id for call in await house.calls("prices.quote", of="shop")]


# --- drains, and what is at fault ----------------------------------------------------------------------


async def test_what_is_claimed_while_a_drain_begins_is_run_by_another_instance(house: House):
    begun: list[str] = []

    def prices(name: str) -> tuple[Service, Any]:
        service = Service("prices")

        @service.handler()
        async def quote(order: Order) -> None:
            begun.append(name)
            if len(begun) == 1:
                raise Retry(after=5)

        return service, quote

    service, quote = prices("first")
    host = await house.serve(service)
    await (await house.client()).send(quote, Order("tea"))
    await until(lambda: asyncio.sleep(0, begun), bool)
    sibling = await house._store("prices")
    sibling.hold_limit = 100.0
    slot = await sibling.tail()
    await asyncio.sleep(6)  # now it is due again, and its claim waits for the slot

    await host.drain()
    slot.give_up()
    await asyncio.sleep(0.5)
    assert begun == ["first"]

    await house.serve(prices("second")[0])
    await until(lambda: asyncio.sleep(0, begun), lambda names: len(names) > 1)
    assert begun == ["first", "second"]


async def test_a_damaged_row_fails_none_of_those_that_end_with_it(house: House, monkeypatch: pytest.MonkeyPatch):
    prices = Service("prices")
    begun: list[int] = []
    together = asyncio.Event()

    @prices.handler(concurrency=10)
    async def quote(order: Order) -> int:
        begun.append(order.qty)
        await together.wait()
        return order.qty

    def decide_all_but_one(books: Any, decision: Any, *rest: Any) -> Any:
        if number_of(decision.place) == 1:
            raise StorageError("it is damaged")
        return decide_one(books, decision, *rest)

    decide_one = deciding._decide_one
    monkeypatch.setattr(deciding, "_decide_one", decide_all_but_one)
    await house.serve(prices)
    client = await house.client()
    asking = [asyncio.ensure_future(client.call(quote, Order("tea", qty), timeout=60)) for qty in range(3)]
    await until(lambda: asyncio.sleep(0, begun), lambda some: len(some) == 3)

    together.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert (answers[0], answers[2]) == (0, 2)
    assert (begun.count(0), begun.count(2)) == (1, 1)


async def test_a_message_that_cannot_be_taken_in_holds_back_none_that_came_with_it(house: House):
    prices = Service("prices")

    @prices.handler()
    async def quote(order: Order) -> int:
        return order.qty

    host = await house.serve(prices)
    client = await house.client()
    assert await client.call(quote, Order("tea", 1)) == 1
    [journal] = journals_of(host)
    [caller] = journals_of(house.hosts[-1])
    [lane] = caller.outbox.lanes.values()
    stamps = Lane(*_pair(caller.store.identity), *_pair(lane.peer), -1, 0, b"", lane.epoch)
    bad = Message(Kind.ACK, "", "prices", "shop", 0.0, b"no numbers", Mode.JOURNALED, lane=stamps)
    asking = asyncio.ensure_future(client.call(quote, Order("tea", 2), timeout=0.3))
    arrive = journal.inbox.arrive
    journal.inbox.arrive = lambda arrived: arrive([Arrived(bad, b""), *arrived])

    assert await asking == 2


# --- reading ------------------------------------------------------------------------------------------


async def test_what_lies_between_two_answers_is_not_read(house: House):
    from posthouse.runtime.steps.applying import _standings

    asked: list[tuple[int, int]] = []

    class Books:
        def standings(self, lane: int, first: int, last: int) -> dict[int, Any]:
            asked.append((first, last))
            return {first: lane, last: lane}

    books: Any = Books()

    found = _standings(books, 1, [3, 4 + APART, 5 + APART, 1_000_000])

    assert asked == [(3, 3), (4 + APART, 5 + APART), (1_000_000, 1_000_000)]
    assert set(found) == {3, 4 + APART, 5 + APART, 1_000_000}


async def test_a_call_that_outlives_its_handler_takes_no_slot_from_those_that_come(house: House):
    shop, prices = Service("shop"), Service("prices")

    @prices.handler()
    async def quote(order: Order) -> int:
        await asyncio.sleep(5)
        return 1

    async def fails() -> None:
        await asyncio.sleep(1)
        raise ValueError("not today")

    @shop.handler(concurrency=1, attempts=1)
    async def buy(order: Order, ctx: Context) -> int:
        if order.sku == "bad":
            await asyncio.gather(ctx.call(quote, order), fails())
        return 1

    await house.serve(prices)
    await house.serve(shop)
    client = await house.client()
    await client.send(buy, Order("bad"))
    await asyncio.sleep(60)

    assert await client.call(buy, Order("good")) == 1
