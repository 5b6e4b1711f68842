"""J4, FastStream on NATS core, nothing durable: ten subscribers, five a process, pydantic."""

from __future__ import annotations

import asyncio
import sys

from faststream.nats import NatsBroker

from benchmarks.peers.models import Order
from benchmarks.talk import Countdown, now, order, run, say, told

role, where, mark, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
SUBSCRIPTIONS = 5
broker = NatsBroker(where, logger=None)
sink = Countdown(SUBSCRIPTIONS * count)


def subscribe() -> None:
    async def take(_body: Order) -> None:
        sink.hit()

    broker.subscriber(mark, pending_msgs_limit=-1, pending_bytes_limit=-1)(take)


async def hear() -> None:
    for _ in range(SUBSCRIPTIONS):
        subscribe()
    await broker.start()
    await sink.tell()
    await broker.stop()


async def tell() -> None:
    await broker.start()
    say("READY")
    await told()
    start = now()
    for number in range(count):
        await broker.publish(order(number), mark)
        if number % 100 == 99:
            await asyncio.sleep(0)
    say("SENT", began=start, ended=now())
    await told()
    await broker.stop()


run(hear() if role == "hear" else tell())
