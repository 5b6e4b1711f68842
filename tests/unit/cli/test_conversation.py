"""One request from both sides, as the stores of services that run have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from posthouse import Context, FailedError, PendingError, Reply, Service
from posthouse.cli import listing
from posthouse.cli.backlog import _asks, _has
from posthouse.cli.conversation import Conversation, asked_at, conversations
from posthouse.cli.lanes import _rows
from posthouse.cli.letters import Wanted, drop, letters, replay
from posthouse.cli.messages import resolve
from posthouse.cli.stores import Stores
from posthouse.cli.why import why
from posthouse.errors import UsageError
from posthouse.protocol.outbox import CallState
from posthouse.runtime.steps.intervening import Did
from posthouse.testing.loop import SimulatedLoop
from tests.house import LONG, House, until

pytestmark = pytest.mark.anyio


class Order(Struct):
    sku: str


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Let no time pass."""
    return "asyncio", {"loop_factory": SimulatedLoop}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Give a house."""
    async with House() as house, asyncio.timeout(LONG):
        yield house


async def stores_of(house: House) -> Stores:
    """What a command sees: the stores of all services."""
    for service in house.stored_services:
        await house.read(service, lambda books: None)
    by_service = {service: house._stores[service] for service in sorted(house.stored_services)}
    return Stores(house.hosts[0], by_service)


async def the_one(house: House, id: str) -> Conversation:
    [found] = await conversations(await stores_of(house), id)
    return found


async def reason(house: House, id: str) -> str:
    found = await the_one(house, id)
    return why(found, house.hosts[0].seams.clock.now()).why


def the_services(*, stock_serves: bool = True) -> tuple[list[Service], dict[str, Any]]:
    """A shop that asks prices, which ask the stock; and what was kept of them."""
    shop, prices, stock = Service("shop"), Service("prices"), Service("stock")

    @stock.handler
    async def take(order: Order) -> bool:
        if order.sku == "never":
            await asyncio.sleep(LONG)
        return True

    @prices.handler(attempts=1, exhausted="park")
    async def quote(order: Order, ctx: Context) -> str:
        await ctx.call(take, order, timeout=1)
        if order.sku == "broken":
            raise ValueError("no price")
        return f"{order.sku} costs 5"

    @shop.handler
    async def buy(order: Order, ctx: Context) -> str:
        return await ctx.call(quote, order, timeout=1)

    return [shop, prices, stock] if stock_serves else [shop, prices], {"take": take, "quote": quote, "buy": buy}


async def test_a_request_that_is_done_shows_both_sides_the_calls_inside_and_the_ack(house: House):
    services, ops = the_services()
    await house.serve(*services)
    client = await house.client("customer")
    id = await client.send(ops["buy"], Order("tea"))
    await client.reply(ops["buy"], id)
    await until(lambda: house.requests("shop.buy"), lambda rows: rows == [])

    found = await the_one(house, id)
    [quote] = await house.calls("prices.quote", of="shop")
    inner = await the_one(house, quote.id)

    assert (found.caller, found.operation, found.data) == ("customer", "shop.buy", msgspec.Raw(b'{"sku":"tea"}'))
    assert found.call is not None
    assert found.request is not None
    assert (found.call.state, found.request.forgotten) == ("done", True)
    assert found.outcome is not None
    assert found.outcome.data == msgspec.Raw(b'"tea costs 5"')
    assert await reason(house, id) == "done by shop; customer has it, and has acked it"
    assert (inner.caller, inner.work) == ("shop", id)


async def test_while_a_handler_rests_its_calls_stand_below_it_down_to_the_one_that_runs(house: House):
    services, ops = the_services()
    await house.serve(*services)
    client = await house.client("customer")
    id = await client.send(ops["buy"], Order("never"))
    await until(lambda: house.requests("prices.quote"), lambda rows: bool(rows) and rows[0].state.name == "SUSPENDED")

    found = await the_one(house, id)

    assert found.request is not None
    assert found.request.state == "suspended"
    [quote] = found.inside
    [take] = quote.inside
    assert [(each.operation, each.call and each.call.state) for each in (quote, take)] == [
        ("prices.quote", "open"),
        ("stock.take", "open"),
    ]
    assert take.request is not None
    assert take.request.instance is not None
    assert take.request.instance.there
    assert "stock runs it, attempt 1" in await reason(house, id)


async def test_a_deposit_is_one_conversation_of_the_replier_alone(house: House):
    services, ops = the_services()
    await house.serve(*services)
    house.callers_have_stores = False
    guest = await house.client("guest")
    id = await guest.send(ops["buy"], Order("tea"))
    await until(lambda: house.requests("shop.buy"), lambda rows: bool(rows) and rows[0].state.decided)

    found = await the_one(house, id)

    assert found.call is None
    assert found.request is not None
    assert found.request.state == "done"
    assert await reason(house, id) == "done by shop"


async def test_a_parked_request_is_shown_with_its_letter_and_replayed_by_the_letters_name(house: House):
    services, ops = the_services()
    await house.serve(*services)
    client = await house.client("customer")
    id = await client.send(ops["quote"], Order("broken"))
    await house.bury(1)
    stores = await stores_of(house)

    text = await reason(house, id)
    [letter] = [letter async for letter in letters(stores, Wanted(operation="prices.quote"))]
    others = [letter async for letter in letters(stores, Wanted(cause="nothing like it"))]
    did = await _changing(house, replay(_writable(stores), [letter.id, "prices:99"], as_new=False, really=False))

    assert text.startswith("parked at prices after 1 attempt (handler.failed)")
    assert (letter.id, letter.message_id, letter.source, others) == ("prices:1", id, "customer", [])
    assert did == {"prices:1": (Did.DONE, ""), "prices:99": (Did.UNKNOWN, "")}


async def test_what_is_given_up_is_told_to_its_caller_at_once(house: House):
    services, ops = the_services()
    await house.serve(*services)
    client = await house.client("customer")
    id = await client.send(ops["quote"], Order("broken"))
    await house.bury(1)
    began = house.hosts[0].seams.clock.now()

    await drop(_writable(await stores_of(house)), ["prices:1"], really=True)
    with pytest.raises(FailedError):
        await client.reply(ops["quote"], id)

    assert house.hosts[0].seams.clock.now() - began < 1.0


async def test_a_send_is_shown_with_the_handler_that_hears_of_its_reply(house: House):
    prices, shop = Service("prices"), Service("shop")
    gate = asyncio.Event()

    @prices.handler
    async def quote(order: Order) -> str:
        return order.sku

    @shop.on_reply(quote)
    async def heard(reply: Reply[Order, str]) -> None:
        await gate.wait()

    @shop.handler
    async def buy(order: Order, ctx: Context) -> None:
        await ctx.send(quote, order)

    await house.serve(shop, prices)
    client = await house.client("customer")
    await client.call(buy, Order("tea"))
    calls = await until(
        lambda: house.calls("prices.quote", of="shop"), lambda rows: rows[0].state is CallState.ANSWERED
    )

    found = await the_one(house, calls[0].id)
    text = await reason(house, calls[0].id)
    gate.set()

    assert list(found.runs) == ["shop.on_reply.prices.quote"]
    assert "it is final when shop has heard of it (shop.on_reply.prices.quote is" in text


async def test_an_id_is_found_by_its_beginning_if_no_other_begins_so(house: House):
    services, ops = the_services()
    await house.serve(*services)
    client = await house.client("customer")
    for id in ("order-11", "order-12", "order-2", "order"):
        await client.send(ops["take"], Order("tea"), id=id)
    stores = await stores_of(house)

    assert await resolve(stores, "order-2") == "order-2"
    assert await resolve(stores, "order-12") == "order-12"
    assert await resolve(stores, "order") == "order"
    with pytest.raises(UsageError, match="order-11, order-12"):
        await resolve(stores, "order-1")
    with pytest.raises(UsageError, match="no store here knows"):
        await resolve(stores, "other")


async def test_requests_are_listed_once_by_who_has_the_word(house: House):
    services, ops = the_services()
    await house.serve(*services)
    client = await house.client("customer")
    house.callers_have_stores = False
    guest = await house.client("guest")
    await client.call(ops["buy"], Order("tea"))
    with pytest.raises(PendingError):
        await guest.call(ops["buy"], Order("never"), timeout=30)
    await client.send(ops["quote"], Order("broken"))
    await until(lambda: house.calls("prices.quote", of="customer"), lambda calls: calls[0].parked)
    stores = await stores_of(house)

    async def listed(service: str = "", state: str = "") -> list[tuple[str, str, str]]:
        rows = await listing.listed(stores, service=service, state=state, limit=50)
        return sorted((row.caller, row.operation, row.state) for row in rows)

    assert await listed() == [
        ("customer", "prices.quote", "parked"),
        ("customer", "shop.buy", "done"),
        ("guest", "shop.buy", "suspended"),
        ("prices", "stock.take", "answered"),
        ("prices", "stock.take", "done"),
        ("prices", "stock.take", "open"),
        ("shop", "prices.quote", "done"),
        ("shop", "prices.quote", "open"),
    ]
    assert await listed(service="customer") == [
        ("customer", "prices.quote", "parked"),
        ("customer", "shop.buy", "done"),
    ]
    assert await listed(state="suspended") == [
        ("guest", "shop.buy", "suspended"),
        ("shop", "prices.quote", "suspended"),
    ]
    assert await listed(service="stock", state="open") == [("prices", "stock.take", "open")]
    assert await listed(state="running") == [("prices", "stock.take", "running")]
    everything = await listing.listed(stores, service="", state="", limit=50)
    newest = await listing.listed(stores, service="", state="", limit=1)
    assert [row.asked for row in newest] == [max(row.asked for row in everything)]


async def test_outbox_inbox_and_lanes_count_what_is_under_way(house: House):
    services, ops = the_services()
    await house.serve(*services)
    client = await house.client("customer")
    for _ in range(3):
        await client.send(ops["quote"], Order("never"))
    await until(lambda: house.requests("prices.quote"), lambda rows: {row.state.name for row in rows} == {"SUSPENDED"})
    await client.call(ops["quote"], Order("tea"))
    await until(lambda: house.requests("prices.quote"), lambda rows: len(rows) == 3)
    stores = await stores_of(house)

    [asks] = await _asks(stores, stores.of("customer"))
    [quotes] = await _has(stores, stores.of("prices"))
    [takes] = await _has(stores, stores.of("stock"))
    [lane] = await _rows(stores, stores.of("customer"))

    assert (asks.service, asks.calls, asks.states, asks.instances) == ("prices", 3, {"open": 3}, 1)
    assert (quotes.state, quotes.requests, quotes.due) == ("suspended", 3, 0.0)
    assert quotes.oldest == asks.oldest
    assert (takes.state, takes.requests) == ("running", 3)
    assert (lane.next, lane.floor, lane.ranges, lane.pending, lane.bound_to_this) == (4, 0, [(3, 3)], 3, True)
    assert lane.there is not None
    assert (lane.there.next, lane.there.ranges) == (4, [(3, 3)])


def test_an_id_of_ours_tells_when_it_was_made():
    assert asked_at("0199b2cc3800" + "0" * 20) == pytest.approx(1_759_641_352.192, abs=0.001)
    assert [asked_at(id) for id in ("order-1", "f" * 32, "0" * 32, "x" * 32, "-" + "1" * 31)] == [0.0] * 5


# --- memory has no second opening: a command's change is one of the store that is open -------------------


def _writable(stores: Stores) -> Stores:
    class Writable(Stores):
        async def change(self, service: str, step: Any, *, name: str, really: bool = True) -> Any:
            store = self.of(service)
            if really:
                return await store.commit(step, name=name, flush=True)
            from posthouse.cli.stores import _rehearsed

            return await _rehearsed(store, step, name=name)

    return Writable(stores.host, stores.by_service)


async def _changing(house: House, change: Any) -> Any:
    before = await house.dead()
    result = await change
    assert await house.dead() == before, "what was only rehearsed has changed something"
    return result
