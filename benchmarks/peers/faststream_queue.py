"""J1, FastStream on a JetStream stream: a typed subscriber that is pushed to, publishers by 500."""

from __future__ import annotations

import asyncio
import sys

from faststream.nats import JStream, NatsBroker

from benchmarks.peers.models import Order
from benchmarks.talk import Sink, order, run, send_all

role, where, mark, count, solo = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
broker = NatsBroker(where, logger=None)
stream = JStream(mark, subjects=[mark])
sink = Sink(count, solo)


async def take(body: Order) -> None:
    sink.hit(body.id)


async def receive() -> None:
    broker.subscriber(mark, stream=stream, durable="w", pending_msgs_limit=-1, pending_bytes_limit=-1)(take)
    await broker.start()
    await sink.tell()
    await broker.stop()


async def send() -> None:
    await broker.start()

    async def one(number: int) -> None:
        await broker.publish(order(number), mark, stream=mark)

    async def many(numbers: range) -> None:
        for first in range(numbers.start, numbers.stop, 500):
            group = range(first, min(numbers.stop, first + 500))
            await asyncio.gather(*(broker.publish(order(number), mark, stream=mark) for number in group))

    await send_all(count, solo, one, many)
    await broker.stop()


run(receive() if role == "receive" else send())
