"""Right uses: no checker has anything to say, and the types are those that one would write by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict, assert_type

from uses.shared import Order, Price, Special, Unknown, drop, find, prices, quote, quoted, shop

from posthouse import (
    Client,
    Context,
    Event,
    Gap,
    HttpRequest,
    Mode,
    NotDoneError,
    Operation,
    PendingError,
    Principal,
    Priority,
    Reject,
    Reply,
    Retry,
    Service,
    Transaction,
    connect,
    run,
)
from posthouse.sync import SyncClient, SyncContext
from posthouse.sync import connect as connect_sync


@dataclass
class Plain:
    sku: str


class Typed(TypedDict):
    sku: str


# --- contracts ---------------------------------------------------------------------------------------

assert_type(quote, Operation[Order, Price])
assert_type(drop, Operation[Order, None])
assert_type(find, Operation[Order, Price | None])
assert_type(quoted, Event[Price])
assert_type(Operation("a.b", list[Order], dict[str, int], mode="volatile"), Operation[list[Order], dict[str, int]])
assert_type(Operation("a.b", Plain, Typed), Operation[Plain, Typed])
assert_type(Event("a.b", Order | None, retain="30d"), Event[Order | None])
assert_type(Event("a.b", int, retain=timedelta(days=1)), Event[int])

# --- handlers ----------------------------------------------------------------------------------------


@asynccontextmanager
async def resources() -> AsyncGenerator[None, None]:
    yield


works = Service("works", capacity=10, overflow="wait", concurrency=8, lifespan=resources)


@works.handler
async def a_coroutine(order: Order) -> Price:
    return Price(order.sku, 1.0)


@works.handler
async def a_coroutine_with_context(order: Order, ctx: Context) -> Price:
    return Special(order.sku, 1.0)


@works.handler
def a_function(order: Order) -> Price:
    return Price(order.sku, 1.0)


@works.handler
def a_function_with_context(order: Order, ctx: SyncContext) -> Price:
    assert_type(ctx.call(quote, order), Price)
    assert_type(ctx.send(drop, order, delay=timedelta(minutes=1)), str)
    ctx.publish(quoted, Price(order.sku, 1.0))
    return Price(order.sku, 1.0)


@works.handler
async def that_may_refuse(order: Order) -> Price | Reject:
    return Unknown("no", sku=order.sku)


@works.handler
async def that_returns_nothing(order: Order, ctx: Context) -> None:
    raise Retry("busy", after="5s")


@works.handler
async def that_may_find_nothing(order: Order) -> Price | None:
    return None


@works.handler(http="POST /orders/{sku}", status=201, rate="100/s", timeout="5s", attempts=8, backoff="1s..5m")
async def with_options(order: Order, ctx: Context) -> Price | Reject:
    return Price(order.sku, 1.0)


@works.handler(name="other", mode="volatile", rejects=(Unknown,), exhausted="fail", concurrency=1)
def a_function_with_options(order: Order) -> Price:
    return Price(order.sku, 1.0)


@works.handler(batch=100, linger="1s")
async def a_batch(orders: list[Order], ctx: Context) -> None: ...


@works.handler(batch=100)
def a_batch_in_a_thread(orders: list[Order], ctx: SyncContext) -> None: ...


@works.handler(http="POST /hooks", status=202)
async def a_whole_http_request(request: HttpRequest, ctx: Context) -> None:
    assert_type(request.body, bytes)


@works.handler
async def a_typed_dict(data: Typed) -> Plain:
    return Plain(data["sku"])


assert_type(a_coroutine, Operation[Order, Price])
assert_type(a_coroutine_with_context, Operation[Order, Price])
assert_type(a_function, Operation[Order, Price])
assert_type(a_function_with_context, Operation[Order, Price])
assert_type(that_may_refuse, Operation[Order, Price])
assert_type(that_returns_nothing, Operation[Order, None])
assert_type(that_may_find_nothing, Operation[Order, Price | None])
assert_type(with_options, Operation[Order, Price])
assert_type(a_function_with_options, Operation[Order, Price])
assert_type(a_batch, Operation[Order, None])
assert_type(a_batch_in_a_thread, Operation[Order, None])
assert_type(a_whole_http_request, Operation[HttpRequest, None])
assert_type(a_typed_dict, Operation[Typed, Plain])

# --- shared contracts --------------------------------------------------------------------------------


@prices.handler(quote, attempts=3)
async def answer(order: Order, ctx: Context) -> Price:
    return Price(order.sku, 1.0)


@prices.handler(drop)
def forget(order: Order) -> None: ...


@prices.handler(find)
async def look(order: Order) -> Special | Reject | None:
    return None


assert_type(answer, Operation[Order, Price])
assert_type(forget, Operation[Order, None])
assert_type(look, Operation[Order, Price | None])

# --- events and subscriptions ------------------------------------------------------------------------

assert_type(prices.event(quoted), Event[Price])
told = prices.event("told", Order, mode="volatile", retain="1d")
assert_type(told, Event[Order])


@shop.on(quoted)
async def note(price: Price) -> None: ...


@shop.on(quoted, attempts=5, backoff="1s..1m")
async def note_with_context(price: Price, ctx: Context) -> None:
    await ctx.publish(told, Order(price.sku))


@shop.on(quoted)
def note_in_a_thread(price: Price, ctx: SyncContext) -> None: ...


@shop.on(quoted, batch=500, linger="200ms", name="counted")
async def count(events: list[Price], ctx: Context) -> None: ...


assert_type(note_in_a_thread, Callable[[Price, SyncContext], None])
note_is: Callable[[Price], Coroutine[Any, Any, None]] = note


# --- replies and acks --------------------------------------------------------------------------------

kept = Operation("prices.kept", Order, Price, mode="journaled", key="sku")
assert_type(kept, Operation[Order, Price])
assert_type(kept.key_of(Order("tea")), str)


@works.handler(mode="journaled", key="sku")
async def in_order(order: Order) -> Price:
    return Price(order.sku, 1.0)


assert_type(in_order, Operation[Order, Price])


@shop.on_reply(kept)
async def priced(reply: Reply[Order, Price]) -> None:
    assert_type(reply.get(), Price)
    assert_type(reply.request, Order)
    assert_type(reply.id, str)


@shop.on_reply(in_order, timeout="5s", attempts=8, backoff="1s..5m", exhausted="park", concurrency=1)
async def priced_with_context(reply: Reply[Order, Price], ctx: Context) -> None:
    try:
        await ctx.publish(told, Order(reply.get().sku))
    except NotDoneError as no:
        assert_type(no.code, str)


@prices.on_ack(kept)
def applied_in_a_thread(reply: Reply[Order, Price], ctx: SyncContext) -> None:
    ctx.publish(quoted, reply.get())


@prices.on_ack(kept, timeout=5)
def applied(reply: Reply[Order, Price]) -> None: ...


@shop.on_reply(Operation("prices.gone", Order, None, mode="journaled"))
async def gone(reply: Reply[Order, None], ctx: Context) -> None:
    reply.get()


assert_type(applied_in_a_thread, Callable[[Reply[Order, Price], SyncContext], None])
priced_is: Callable[[Reply[Order, Price]], Coroutine[Any, Any, None]] = priced
assert_type(Reply("1", Order("tea"), Price("tea", 1.0)), Reply[Order, Price])
assert_type(Service("rows", schema=["CREATE TABLE rows (id TEXT PRIMARY KEY)"]).schema, tuple[str, ...])
Service("rows", schema=("CREATE TABLE rows (id TEXT PRIMARY KEY)",))


def later() -> None:
    """Parts of the face that come with a later version, and are typed already."""

    @shop.on_gap(quoted)
    async def lost(gap: Gap) -> None:
        assert_type(gap.last, int)

    @shop.schedule("0 3 * * *", tz="Europe/Berlin")
    async def nightly(due: datetime, ctx: Context) -> None: ...


# --- the verbs ---------------------------------------------------------------------------------------


@shop.handler
async def buy(order: Order, ctx: Context) -> Price:
    assert_type(await ctx.call(quote, order), Price)
    assert_type(await ctx.call(drop, order, timeout="5s", deadline=timedelta(minutes=1)), None)
    assert_type(await ctx.call(find, order), Price | None)
    assert_type(await ctx.call(answer, order), Price)
    assert_type(await ctx.send(quote, order, deadline=ctx.sent, priority="low"), str)
    await ctx.publish(quoted, Special(order.sku, 1.0))
    await ctx.cancel("id")
    assert_type(ctx.principal, Principal | None)
    assert_type(ctx.deadline, datetime | None)
    try:
        return await ctx.call(quote, order)
    except Unknown as no:
        assert_type(no.details, dict[str, Any])
        raise
    except PendingError as pending:
        assert_type(pending.id, str)
        raise
    except NotDoneError as no:
        return Price(no.code, 0.0)


async def outside(config: Path) -> Price:
    async with connect(shop, serve=True, transport="memory:", config=config) as client:
        assert_type(client, Client)
        id = await client.send(quote, Order("tea"), id="once")
        assert_type(await client.reply(quote, id, timeout=0), Price)
        await client.publish(quoted, Price("tea", 1.0), id="twice")
        return await client.call(quote, Order("tea"), timeout=None)


def outside_and_blocking() -> Price:
    with connect_sync("web", config={"env": "test"}) as client:
        assert_type(client, SyncClient)
        return client.call(quote, Order("tea"), timeout=2)


async def transactions(ctx: Context) -> None:
    assert_type(await ctx.transaction(), Transaction)
    assert_type(await ctx.transaction(Plain), Plain)
    async with ctx.reading(Plain) as plain:
        assert_type(plain, Plain)


async def bare(order: Order) -> Price:
    price: Price = await quote.function(order)
    return price


def generic(op: Operation[Any, Any], mode: Mode, priority: Priority) -> Awaitable[None] | None:
    return None


generic(quote, quote.mode, "high")

if __name__ == "__main__":
    run(shop, prices, transport="memory:")
