"""Wrong uses: each marked line is flagged by the checkers that it names, and no other line is by any."""

from __future__ import annotations

from uses.shared import Order, Price, Special, Unknown, drop, find, prices, quote, quoted, shop

import posthouse
from posthouse import Client, Context, Event, Kontext, Operation, Reply, Service  # noqa: F401 # error: basedpyright mypy
from posthouse.sync import SyncClient, SyncContext

works = Service("works")


# --- calling ---------------------------------------------------------------------------------------------


@works.handler
async def verbs(order: Order, ctx: Context) -> Price:
    await ctx.call(quote, Price("tea", 1.0))  # error: basedpyright mypy
    await ctx.call(quote, {"sku": "tea"})  # error: basedpyright mypy
    await ctx.call(quote)  # error: basedpyright mypy
    await ctx.call("prices.quote", order)  # error: basedpyright mypy
    await ctx.call(quoted, Price("tea", 1.0))  # error: basedpyright mypy
    await ctx.call(quote, order, timeout=[5])  # error: basedpyright mypy
    await ctx.call(quote, order, priority="urgent")  # error: basedpyright mypy
    await ctx.call(quote, order, mode="volatile")  # error: basedpyright mypy
    await ctx.send(quote, "tea")  # error: basedpyright mypy
    await ctx.publish(quoted, order)  # error: basedpyright mypy
    await ctx.publish(quote, order)  # error: basedpyright mypy
    total: int = await ctx.call(quote, order)  # error: basedpyright mypy
    price = ctx.call(quote, order)
    print(price.total, total)  # error: basedpyright mypy
    ctx.call(quote, order)  # error: basedpyright mypy
    ctx.publish(quoted, Price("tea", 1.0))  # error: basedpyright mypy
    print((await ctx.call(quote, order)).price)  # error: basedpyright mypy
    print((await ctx.call(find, order)).total)  # error: basedpyright mypy
    print((await ctx.call(drop, order)).total)  # error: basedpyright mypy
    ctx.kall(quote, order)  # error: basedpyright mypy
    quote(order)  # error: basedpyright mypy
    await verbs(order, ctx)  # error: basedpyright mypy
    return await ctx.call(drop, order)  # error: basedpyright mypy


@works.handler
def blocking_verbs(order: Order, ctx: SyncContext) -> Price:
    ctx.call(quote, Price("tea", 1.0))  # error: basedpyright mypy
    ctx.publish(quoted, order)  # error: basedpyright mypy
    print(ctx.call(quote, order).price)  # error: basedpyright mypy
    return ctx.call(find, order)  # error: basedpyright mypy


async def outside(client: Client, blocking: SyncClient) -> None:
    await client.call(quote, Price("tea", 1.0))  # error: basedpyright mypy
    await client.publish(quoted, "tea")  # error: basedpyright mypy
    client.call(quote, Order("tea"))  # error: basedpyright mypy
    price: Price = await client.send(quote, Order("tea"))  # error: basedpyright mypy
    print((await client.reply(quote, "id")).price, price)  # error: basedpyright mypy
    blocking.call(quote, Price("tea", 1.0))  # error: basedpyright mypy


# --- declaring -------------------------------------------------------------------------------------------


@works.handler  # error: basedpyright mypy
def plain_with_a_context_to_await(order: Order, ctx: Context) -> Price:
    return Price(order.sku, 1.0)


@works.handler(attempts=3)  # error: basedpyright mypy
def the_same_with_options(order: Order, ctx: Context) -> Price:
    return Price(order.sku, 1.0)


@works.handler  # error: basedpyright mypy
async def with_three_parameters(order: Order, ctx: Context, more: int) -> Price:
    return Price(order.sku, 1.0)


@works.handler  # error: basedpyright mypy
async def with_a_context_that_is_none(order: Order, ctx: int) -> Price:
    return Price(order.sku, 1.0)


@works.handler  # import refuses it; a checker sees that it is no operation
async def async_with_a_context_that_blocks(order: Order, ctx: SyncContext) -> Price:
    return Price(order.sku, 1.0)


@works.handler(attempts=3)
async def async_with_a_context_that_blocks_too(order: Order, ctx: SyncContext) -> Price:
    return Price(order.sku, 1.0)


async def asks_for_it(ctx: Context) -> None:
    await ctx.call(async_with_a_context_that_blocks, Order("tea"))  # error: basedpyright mypy
    await ctx.call(async_with_a_context_that_blocks_too, Order("tea"))  # error: basedpyright mypy


@works.handler(retries=3)  # error: basedpyright mypy
async def with_an_unknown_option(order: Order) -> Price:
    return Price(order.sku, 1.0)


@works.handler(attempts="3")  # error: basedpyright mypy
async def with_an_option_of_another_type(order: Order) -> Price:
    return Price(order.sku, 1.0)


@works.handler(mode="durable")  # error: basedpyright mypy
async def with_an_unknown_mode(order: Order) -> Price:
    return Price(order.sku, 1.0)


@works.handler(rejects=(ValueError,))  # error: basedpyright mypy
async def with_a_reject_that_is_none(order: Order) -> Price:
    return Price(order.sku, 1.0)


@works.handler(mode="journaled", key=5)  # error: basedpyright mypy
async def with_a_key_that_is_no_name(order: Order) -> Price:
    return Price(order.sku, 1.0)


@works.handler(batch=5)  # error: basedpyright mypy
async def a_batch_that_is_no_list(order: Order) -> None: ...


@works.handler(batch=5)  # error: basedpyright mypy
async def a_batch_that_returns_something(orders: list[Order]) -> int:
    return len(orders)


@works.handler(linger="5s")  # error: basedpyright mypy
async def linger_without_a_batch(order: Order) -> None: ...


@works.handler
async def that_returns_another_type(order: Order) -> Price:
    return order  # error: basedpyright mypy


# --- shared contracts ------------------------------------------------------------------------------------


@prices.handler(quote)  # error: basedpyright mypy
async def takes_another_type(price: Price, ctx: Context) -> Price:
    return price


@prices.handler(quote)  # error: basedpyright mypy
async def gives_another_type(order: Order, ctx: Context) -> Order:
    return order


@prices.handler(quote)  # error: basedpyright mypy
async def may_give_nothing(order: Order) -> Price | None:
    return None


@prices.handler(quote)  # error: basedpyright mypy
async def blocks_the_loop(order: Order, ctx: SyncContext) -> Price:
    return Price(order.sku, 1.0)


@prices.handler(quote, mode="volatile")  # error: basedpyright mypy
async def says_the_mode_again(order: Order, ctx: Context) -> Price:
    return Price(order.sku, 1.0)


# --- events ----------------------------------------------------------------------------------------------


@shop.on(quoted)  # error: basedpyright mypy
async def hears_another_type(order: Order) -> None: ...


@shop.on(quoted)  # error: basedpyright mypy
async def returns_something(price: Price) -> Price:
    return price


@shop.on(quoted)  # error: basedpyright mypy
async def blocks_the_loop_too(price: Price, ctx: SyncContext) -> None: ...


@shop.on(quoted, batch=5)  # error: basedpyright mypy
async def hears_no_list(price: Price) -> None: ...


@shop.on(quoted)  # error: basedpyright mypy
async def hears_a_list(prices: list[Price]) -> None: ...


@shop.on(quote)  # error: basedpyright mypy
async def hears_an_operation(price: Price) -> None: ...


@shop.on(quoted, http="POST /orders")  # error: basedpyright mypy
async def with_a_route(price: Price) -> None: ...


# --- replies and acks ------------------------------------------------------------------------------------


@shop.on_reply(quote)  # error: basedpyright mypy
async def hears_of_another_request(reply: Reply[Price, Price]) -> None: ...


@shop.on_reply(quote)  # error: basedpyright mypy
async def hears_of_another_reply(reply: Reply[Order, Order]) -> None: ...


@shop.on_reply(quote)  # error: basedpyright mypy
async def hears_of_a_narrower_reply(reply: Reply[Order, Special]) -> None: ...


@shop.on_reply(quote)  # error: basedpyright mypy
async def hears_the_data_alone(price: Price) -> None: ...


@shop.on_reply(quote)  # error: basedpyright mypy
async def answers_a_reply(reply: Reply[Order, Price]) -> Price:
    return reply.get()


@shop.on_reply(quote)  # error: basedpyright mypy
async def blocks_the_loop_at_a_reply(reply: Reply[Order, Price], ctx: SyncContext) -> None: ...


@shop.on_reply(quote)  # error: basedpyright mypy
def cannot_await_at_a_reply(reply: Reply[Order, Price], ctx: Context) -> None: ...


@shop.on_reply(quote, batch=5)  # error: basedpyright mypy
async def hears_replies_in_lists(replies: list[Reply[Order, Price]]) -> None: ...


@shop.on_reply(quote, http="POST /orders")  # error: basedpyright mypy
async def with_a_route_for_replies(reply: Reply[Order, Price]) -> None: ...


@prices.on_ack(quote)  # error: basedpyright mypy
async def hears_the_ack_of_another_request(reply: Reply[Price, Price]) -> None: ...


@prices.on_ack(quote)  # error: basedpyright mypy
async def answers_an_ack(reply: Reply[Order, Price]) -> Price:
    return reply.get()


@prices.on_ack(quote, key="sku")  # error: basedpyright mypy
async def with_an_option_of_contracts(reply: Reply[Order, Price]) -> None: ...


@shop.on_reply(quote)
async def takes_it_for_the_data(reply: Reply[Order, Price]) -> None:
    print(reply.total)  # error: basedpyright mypy
    print(reply.get().price)  # error: basedpyright mypy
    print(reply.request.total)  # error: basedpyright mypy


shop.on_reply(quoted)  # error: basedpyright mypy
shop.on_reply("prices.quote")  # error: basedpyright mypy
prices.on_ack(quoted)  # error: basedpyright mypy

# --- contracts are invariant ---------------------------------------------------------------------------------

wider: Event[object] = quoted  # error: basedpyright mypy
narrower: Event[Special] = quoted  # error: basedpyright mypy
other: Operation[Order, object] = quote  # error: basedpyright mypy
special: Operation[Order, Special] = quote  # error: basedpyright mypy

Operation("prices.quote", Order)  # error: basedpyright mypy
Operation("prices.quote", Order("tea"), Price)  # error: basedpyright mypy
Operation(quote, Order, Price)  # error: basedpyright mypy
Operation("prices.quote", Order, Price, mode="journaled", key=5)  # error: basedpyright mypy
quote.key_of(Price("tea", 1.0))  # error: basedpyright mypy
Event("prices.quoted", Price, mode="durable")  # error: basedpyright mypy
Event("prices.quoted", Price, rejects=(Unknown,))  # error: basedpyright mypy
prices.event("quoted")  # error: basedpyright mypy
prices.event(quote)  # error: basedpyright mypy
Service("work", overflow="block")  # error: basedpyright mypy
Service("work", schema=5)  # error: basedpyright mypy
Service("work", schema=[5])  # error: basedpyright mypy
Service()  # error: basedpyright mypy
posthouse.run("shop")  # error: basedpyright mypy
posthouse.connect(5)  # error: basedpyright mypy
posthouse.anything()  # error: basedpyright mypy
