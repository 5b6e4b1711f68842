"""J1, posthouse: `python -m benchmarks.ours.queued receive|send TRANSPORT MARK COUNT SOLO`."""

from __future__ import annotations

import sys

from benchmarks.ours.orders import Order, order
from benchmarks.talk import Sink, run, send_all
from posthouse import Service, connect

role, where, _mark, count, solo = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
sink = Sink(count, solo)
orders = Service("orders", capacity=1_000_000)


@orders.handler(mode="queued")
async def take(order: Order) -> None:
    sink.hit(order.id)


async def receive() -> None:
    async with connect(orders, serve=True, transport=where):
        await sink.tell()


async def send() -> None:
    async with connect("shop", transport=where) as client:
        await send_all(count, solo, lambda number: client.send(take, order(number)))


run(receive() if role == "receive" else send())
