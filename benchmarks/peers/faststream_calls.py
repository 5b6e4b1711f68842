"""J2, FastStream on NATS: request and reply, 64 workers."""

from __future__ import annotations

import sys

import orjson
from faststream.nats import NatsBroker

from benchmarks.peers.models import Order, Taken
from benchmarks.talk import ask_all, order, run, say, told

role, where, mark, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
broker = NatsBroker(where, logger=None)


async def take(body: Order) -> Taken:
    return Taken(id=body.id, ok=True)


async def serve() -> None:
    broker.subscriber(mark, queue="w", max_workers=64)(take)
    await broker.start()
    say("READY")
    await told()
    await broker.stop()


async def call() -> None:
    await broker.start()

    async def ask(number: int) -> int:
        reply = await broker.request(order(number), mark, timeout=30)
        return orjson.loads(reply.body)["id"]

    await ask_all(count, ask)
    await broker.stop()


run(serve() if role == "serve" else call())
