"""J5, posthouse: `python -m benchmarks.ours.backlog TRANSPORT DEPTH,DEPTH,...`."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.ours.orders import Order, order
from benchmarks.talk import SENDERS, at_once, now, resident, run, say, told
from posthouse import Client, Service, connect

where, depths = sys.argv[1], [int(depth) for depth in sys.argv[2].split(",")]
STEP = 10_000
CONFIG = {"services": {"orders": {"capacity": 2_000_000, "capacity_bytes": 8 << 30}}}

orders = Service("orders")


class Drained:
    """Counts handled orders, and tells when STEP of them are."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.handled = 0
        self.first = self.last = 0.0
        self.done = asyncio.Event()

    def hit(self) -> None:
        if not self.handled:
            self.first = now()
        self.handled += 1
        if self.handled == STEP:
            self.last = now()
            self.done.set()


drained = Drained()


@orders.handler(mode="queued")
async def take(order: Order) -> None:
    drained.hit()


async def fill(client: Client, count: int) -> float:
    start = now()
    await at_once(SENDERS, range(count), lambda number: client.send(take, order(number)))
    return (now() - start) / max(1, count)


async def main() -> None:
    async with connect(orders, serve=True, transport=where, config=CONFIG):
        pass  # the queue is there from now on
    say("READY")
    await told()
    waiting = 0
    for depth in depths:
        async with connect("shop", transport=where, config=CONFIG) as client:
            await fill(client, depth - STEP - waiting)
            filled = await fill(client, STEP)
        drained.begin()
        async with connect(orders, serve=True, transport=where, config=CONFIG):
            await drained.done.wait()
            held = resident()
        waiting = depth - drained.handled
        say("STEP", fill=filled, drain=(drained.last - drained.first) / (STEP - 1), resident=held)
    await told()


run(main())
