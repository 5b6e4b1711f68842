"""J2j and J1j, posthouse: `python -m benchmarks.ours.journaled serve|call|receive|send TRANSPORT COUNT [SOLO]`."""

from __future__ import annotations

import sys

from benchmarks.ours.orders import Order, Taken, order
from benchmarks.talk import Sink, ask_all, run, say, send_all, told
from posthouse import Service, connect

role, where, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
solo = int(sys.argv[4]) if len(sys.argv) > 4 else 0
sink = Sink(count, solo)
orders = Service("orders")
shop = Service("shop")


@orders.handler(mode="journaled")
async def take(order: Order) -> Taken:
    return Taken(order.id, ok=True)


@orders.handler(mode="journaled")
async def note(order: Order) -> None:
    sink.hit(order.id)


async def serve() -> None:
    async with connect(orders, serve=True, transport=where):
        say("READY")
        await told()


async def receive() -> None:
    async with connect(orders, serve=True, transport=where):
        await sink.tell()


async def call() -> None:
    async with connect(shop, transport=where) as client:

        async def ask(number: int) -> int:
            return (await client.call(take, order(number))).id

        await ask_all(count, ask)


async def send() -> None:
    async with connect(shop, transport=where) as client:
        await send_all(count, solo, lambda number: client.send(note, order(number)))


run({"serve": serve, "call": call, "receive": receive, "send": send}[role]())
