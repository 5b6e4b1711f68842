"""Growth, posthouse: `python -m benchmarks.ours.growth serve|call TRANSPORT DEPTHS`."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.ours.orders import Order, Taken, order
from benchmarks.talk import at_once, resident, run, say, told
from posthouse import Service, connect

role, where, depths = sys.argv[1], sys.argv[2], [int(depth) for depth in sys.argv[3].split(",")]
orders = Service("orders")
shop = Service("shop")


@orders.handler(mode="journaled")
async def take(order: Order) -> Taken:
    return Taken(order.id, ok=True)


async def serve() -> None:
    async with connect(orders, serve=True, transport=where):
        say("READY")
        while await told():
            say("MEMORY", resident=resident())


async def call() -> None:
    async with connect(shop, transport=where) as client:

        async def ask(number: int) -> None:
            await client.call(take, order(number % 90_000))

        say("READY")
        made = 0
        for depth in depths:
            await told()
            await at_once(512, range(made, depth), ask)
            made = depth
            await asyncio.sleep(6.0)  # the last floors are told when no request has carried them, every five seconds
            say("MADE", resident=resident())
        await told()


run(serve() if role == "serve" else call())
