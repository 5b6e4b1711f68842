"""J2, nats-py: request and reply over the server's core."""

from __future__ import annotations

import sys
from typing import Any

import nats
import orjson

from benchmarks.talk import ask_all, order, run, say, told

role, where, mark, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


async def serve() -> None:
    connection = await nats.connect(where)

    async def take(message: Any) -> None:
        await message.respond(orjson.dumps({"id": orjson.loads(message.data)["id"], "ok": True}))

    await connection.subscribe(mark, queue="w", cb=take)
    await connection.flush()
    say("READY")
    await told()
    await connection.close()


async def call() -> None:
    connection = await nats.connect(where)

    async def ask(number: int) -> int:
        reply = await connection.request(mark, orjson.dumps(order(number)), timeout=30)
        return orjson.loads(reply.data)["id"]

    await ask_all(count, ask)
    await connection.close()


run(serve() if role == "serve" else call())
