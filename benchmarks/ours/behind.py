"""J3, posthouse: the service behind the gateway: `python -m benchmarks.ours.behind TRANSPORT`."""

from __future__ import annotations

import sys

from benchmarks.ours.orders import Order, Taken
from benchmarks.talk import run, say, told
from posthouse import Service, connect

orders = Service("orders", capacity=1_000_000)


@orders.handler(mode="volatile", http="POST /volatile", status=200)
async def at_once(order: Order) -> Taken:
    return Taken(order.id, ok=True)


@orders.handler(mode="queued", http="POST /queued", status=200)
async def kept(order: Order) -> Taken:
    return Taken(order.id, ok=True)


@orders.handler(mode="journaled", http="POST /journaled", status=200)
async def stored(order: Order) -> Taken:
    return Taken(order.id, ok=True)


async def serve() -> None:
    async with connect(orders, serve=True, transport=sys.argv[1]):
        say("READY")
        await told()


run(serve())
