"""J6, arq on Redis: `python -m benchmarks.peers.arq_queue receive|send URL MARK COUNT SOLO`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from arq import Worker, create_pool
from arq.connections import RedisSettings

from benchmarks.talk import Sink, order, run, send_all

role, where, mark, count, solo = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
server = RedisSettings.from_dsn(where)
sink = Sink(count, solo)


async def take(_context: dict[str, Any], body: dict[str, Any]) -> None:
    sink.hit(body["id"])


async def receive() -> None:
    worker = Worker([take], redis_settings=server, queue_name=mark, handle_signals=False, poll_delay=0.01)
    work = asyncio.create_task(worker.async_run())
    await sink.tell()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await worker.close()


async def send() -> None:
    pool = await create_pool(server, default_queue_name=mark)

    async def one(number: int) -> None:
        await pool.enqueue_job("take", order(number))

    await send_all(count, solo, one)
    await pool.aclose()


run(receive() if role == "receive" else send())
