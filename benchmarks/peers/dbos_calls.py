"""J2j, DBOS on SQLite: durable workflows through a queue; the caller waits for each result."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS, DBOSClient

from benchmarks.talk import now, order, quantile, say

role, where, mark, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


def serve() -> None:
    config: Any = {
        "name": "peer", "system_database_url": where, "log_level": "ERROR", "run_admin_server": False,
        "application_version": "1",
    }  # fmt: skip
    DBOS(config=config)

    def take(body: dict[str, Any]) -> dict[str, Any]:
        return {"id": body["id"], "ok": True}

    workflow: Any = DBOS.workflow(name="take")
    workflow(take)
    DBOS.launch()
    DBOS.register_queue(mark, worker_concurrency=100, polling_interval_sec=0.05)
    say("READY")
    sys.stdin.readline()


def call() -> None:
    client = DBOSClient(system_database_url=where)
    say("READY")
    sys.stdin.readline()

    def ask(number: int) -> int:
        handle: Any = client.enqueue({"workflow_name": "take", "queue_name": mark, "app_version": "1"}, order(number))
        return handle.get_result(polling_interval_sec=0.02)["id"]

    took: list[float] = []
    for number in range(10):
        start = now()
        ask(number)
        took.append(now() - start)
    start = time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(ask, range(count)))
    rate = count / (time.monotonic() - start)
    say("RESULT", p50=quantile(took, 0.5), rate64=rate)
    sys.stdin.readline()


serve() if role == "serve" else call()
