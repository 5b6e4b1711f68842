"""J2j, FastStream on RabbitMQ: request and reply, with nothing durable."""

from __future__ import annotations

import sys

import orjson
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from benchmarks.peers.models import Order, Taken
from benchmarks.talk import ask_all, order, run, say, told

role, where, mark, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
broker = RabbitBroker(where, logger=None, default_channel=Channel(prefetch_count=500))
queue = RabbitQueue(mark, durable=False)


async def take(body: Order) -> Taken:
    return Taken(id=body.id, ok=True)


async def serve() -> None:
    broker.subscriber(queue)(take)
    await broker.start()
    say("READY")
    await told()
    await broker.stop()


async def call() -> None:
    await broker.start()

    async def ask(number: int) -> int:
        reply = await broker.request(order(number), queue=queue, timeout=60)
        return orjson.loads(reply.body)["id"]

    await ask_all(count, ask)
    await broker.stop()


run(serve() if role == "serve" else call())
