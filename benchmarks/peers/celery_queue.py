"""J1, Celery on Redis, solo pool: `python -m benchmarks.peers.celery_queue receive|send URL MARK COUNT 0`."""

from __future__ import annotations

import sys
import threading
from typing import Any

from celery import Celery, signals

from benchmarks.talk import now, order, say

role, where, mark, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
app = Celery("bench", broker=where)
app.conf.update(
    task_default_queue=mark,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=500,
    broker_connection_retry_on_startup=True,
)
seen = set[int]()
total = 0


def handle(body: dict[str, Any]) -> None:
    global total  # noqa: PLW0603 (the solo pool runs tasks in one thread)
    total += 1
    seen.add(body["id"])
    if len(seen) == count:
        say("DONE", last=now(), total=total, solo=[])


take: Any = app.task(name="take")(handle)


def ready(**_: Any) -> None:
    say("READY")


def end_with_the_bench() -> None:
    sys.stdin.read()
    app.control.shutdown()


def receive() -> None:
    signals.worker_ready.connect(ready, weak=False)
    threading.Thread(target=end_with_the_bench, daemon=True).start()
    app.worker_main(["worker", "--pool=solo", "--loglevel=ERROR", "--without-gossip", "--without-mingle"])


def send() -> None:
    take.apply_async(({"id": 0},), queue=f"{mark}-warm-up")  # connects
    say("READY")
    sys.stdin.readline()
    say("SOLO", began=[], took=[])
    sys.stdin.readline()
    start = now()
    for number in range(count):
        take.delay(order(number))
    say("SENT", began=start, ended=now())
    sys.stdin.read()


receive() if role == "receive" else send()
