"""J5, nats-py on a JetStream work queue: `python -m benchmarks.peers.nats_backlog URL MARK DEPTH,DEPTH,...`."""

from __future__ import annotations

import sys

import nats
import orjson
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from benchmarks.talk import now, order, resident, run, say, told

where, mark, depths = sys.argv[1], sys.argv[2], [int(depth) for depth in sys.argv[3].split(",")]
STEP = 10_000


async def main() -> None:
    connection = await nats.connect(where)
    stream = connection.jetstream(publish_async_max_pending=1000)
    await stream.add_stream(
        StreamConfig(name=mark, subjects=[mark], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE)
    )
    settings = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=20_000)
    queue = await stream.pull_subscribe(mark, durable="w", config=settings)

    async def fill(count: int) -> float:
        start = now()
        for number in range(count):
            await stream.publish_async(mark, orjson.dumps(order(number)))
        await stream.publish_async_completed()
        return (now() - start) / max(1, count)

    async def drain() -> float:
        first, left = 0.0, STEP
        while left:
            for message in await queue.fetch(min(500, left), timeout=5):
                first = first or now()
                orjson.loads(message.data)
                await message.ack()
                left -= 1
        return (now() - first) / (STEP - 1)

    say("READY")
    await told()
    waiting = 0
    for depth in depths:
        await fill(depth - STEP - waiting)
        filled = await fill(STEP)
        drained = await drain()
        await connection.flush()
        waiting = depth - STEP
        say("STEP", fill=filled, drain=drained, resident=resident())
    await told()
    await stream.delete_stream(mark)
    await connection.close()


run(main())
