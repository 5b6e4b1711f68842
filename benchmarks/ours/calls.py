"""J2, posthouse: `python -m benchmarks.ours.calls serve|call TRANSPORT COUNT`."""

from __future__ import annotations

import sys

from benchmarks.ours.orders import Order, Taken, order
from benchmarks.talk import ask_all, run, say, told
from posthouse import Service, connect

role, where, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
orders = Service("orders")


@orders.handler(mode="volatile")
async def take(order: Order) -> Taken:
    return Taken(order.id, ok=True)


async def serve() -> None:
    async with connect(orders, serve=True, transport=where):
        say("READY")
        await told()


async def call() -> None:
    async with connect("shop", transport=where) as client:

        async def ask(number: int) -> int:
            return (await client.call(take, order(number))).id

        await ask_all(count, ask)


run(serve() if role == "serve" else call())
