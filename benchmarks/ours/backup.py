"""Calls at a steady rate, posthouse: `python -m benchmarks.ours.backup serve|call TRANSPORT MIB|RATE`."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.ours.orders import Order, Taken, order
from benchmarks.talk import now, quantile, run, say, told
from posthouse import Service, connect

role, where, much = sys.argv[1], sys.argv[2], int(sys.argv[3])
FILL = f"""
INSERT INTO filler
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT randomblob(1048576) FROM n LIMIT {much}
"""
filled = ["CREATE TABLE filler (bytes BLOB)", FILL] if role == "serve" else []
orders = Service("orders", schema=filled)
shop = Service("shop")


@orders.handler(mode="journaled")
async def take(order: Order) -> Taken:
    return Taken(order.id, ok=True)


async def serve() -> None:
    async with connect(orders, serve=True, transport=where):
        say("READY")
        await told()


async def call() -> None:
    """Call so often a second; each line of the bench asks for what the calls since the last one took."""
    took: list[float] = []
    begun = made = 0

    async def ask(number: int) -> None:
        start = now()
        await client.call(take, order(number % 90_000))
        took.append(now() - start)

    async def go_on() -> None:
        nonlocal begun
        start, asked = now(), set[asyncio.Task[None]]()
        while True:
            due = int((now() - start) * much)
            while begun < due:
                asked.add(task := asyncio.create_task(ask(begun)))
                task.add_done_callback(asked.discard)
                begun += 1
            await asyncio.sleep(0.001)

    async with connect(shop, transport=where) as client:
        going = asyncio.create_task(go_on())
        say("READY")
        while await told():
            made, since = len(took), took.copy()
            took.clear()
            say("TOOK", calls=made, p50=quantile(since, 0.5), p99=quantile(since, 0.99))
        going.cancel()


run(serve() if role == "serve" else call())
