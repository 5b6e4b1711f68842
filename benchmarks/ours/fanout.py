"""J4, posthouse: `python -m benchmarks.ours.fanout hear|tell MODE TRANSPORT COUNT NAME`.

A process that hears runs one service with SUBSCRIPTIONS subscriptions.
"""

from __future__ import annotations

import sys
from typing import Literal, cast

from benchmarks.ours.orders import Order, order
from benchmarks.talk import SENDERS, Countdown, at_once, now, run, say, told
from posthouse import Service, connect

role, where, count, name = sys.argv[1], sys.argv[3], int(sys.argv[4]), sys.argv[5]
mode = cast('Literal["journaled", "queued"]', sys.argv[2])
SUBSCRIPTIONS = 5
orders = Service("orders")
placed = orders.event("placed", Order, mode=mode)
hears = Service(name, capacity=1_000_000)
sink = Countdown(SUBSCRIPTIONS * count)


def subscribe(number: int) -> None:
    """Declare one subscription."""

    @hears.on(placed, name=f"hear{number}")
    async def hear(_order: Order) -> None:
        sink.hit()


async def hear() -> None:
    for number in range(SUBSCRIPTIONS):
        subscribe(number)
    async with connect(hears, serve=True, transport=where):
        await sink.tell()


async def tell() -> None:
    async with connect(orders, serve=True, transport=where) as client:
        say("READY")
        await told()
        start = now()
        await at_once(SENDERS, range(count), lambda number: client.publish(placed, order(number)))
        say("SENT", began=start, ended=now())
        await told()


run(hear() if role == "hear" else tell())
