"""J1, nats-py on a JetStream work queue, by hand: pulls 500 at a time, publishes without waiting for each."""

from __future__ import annotations

import asyncio
import sys

import nats
import orjson
from nats.errors import TimeoutError as NothingThere
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from benchmarks.talk import Sink, order, run, send_all

role, where, mark, count, solo = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
subject = f"orders.{mark}"


async def receive() -> None:
    connection = await nats.connect(where)
    stream = connection.jetstream()
    await stream.add_stream(
        StreamConfig(name=mark, subjects=[subject], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE)
    )
    settings = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=10_000)
    queue = await stream.pull_subscribe(subject, durable="w", config=settings)
    sink = Sink(count, solo)

    async def work() -> None:
        while not sink.done.is_set():
            try:
                messages = await queue.fetch(500, timeout=1)
            except (TimeoutError, NothingThere):
                continue
            for message in messages:
                sink.hit(orjson.loads(message.data)["id"])
                await message.ack()
        await connection.flush()

    await asyncio.gather(work(), sink.tell())
    await connection.close()


async def send() -> None:
    connection = await nats.connect(where)
    stream = connection.jetstream(publish_async_max_pending=1000)

    async def one(number: int) -> None:
        await stream.publish(subject, orjson.dumps(order(number)))

    async def many(numbers: range) -> None:
        for number in numbers:
            await stream.publish_async(subject, orjson.dumps(order(number)))
        await stream.publish_async_completed()

    await send_all(count, solo, one, many)
    await connection.close()


run(receive() if role == "receive" else send())
