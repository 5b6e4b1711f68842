"""J4, nats-py: `nats_fanout.py hear|tell URL MARK COUNT NAME`: ten durable push consumers, five a process."""

from __future__ import annotations

import sys
from typing import Any

import nats
import orjson
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

from benchmarks.talk import Countdown, now, order, run, say, told

role, where, mark, count, name = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
SUBSCRIPTIONS = 5
subject = f"placed.{mark}"
sink = Countdown(SUBSCRIPTIONS * count)


async def take(message: Any) -> None:
    orjson.loads(message.data)
    await message.ack()
    sink.hit()


async def hear() -> None:
    connection = await nats.connect(where)
    stream = connection.jetstream()
    await stream.add_stream(StreamConfig(name=mark, subjects=[subject], storage=StorageType.FILE))
    for number in range(SUBSCRIPTIONS):
        settings = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=5_000)
        await stream.subscribe(
            subject,
            durable=f"{name}-{number}",
            cb=take,
            manual_ack=True,
            pending_msgs_limit=-1,
            pending_bytes_limit=-1,
            config=settings,
        )
    await sink.tell()
    await connection.close()


async def tell() -> None:
    connection = await nats.connect(where)
    stream = connection.jetstream(publish_async_max_pending=1000)
    say("READY")
    await told()
    start = now()
    for number in range(count):
        await stream.publish_async(subject, orjson.dumps(order(number)))
    await stream.publish_async_completed()
    say("SENT", began=start, ended=now())
    await told()
    await connection.close()


run(hear() if role == "hear" else tell())
