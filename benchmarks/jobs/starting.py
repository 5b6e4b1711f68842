"""J6: from the start of a process to the first message that it handles; idle memory; cost of the import."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target
from benchmarks.child import Child

IDLE = 1.0
"""Seconds after which a process that does nothing has settled down."""


def _measured(receive: Callable[[], Child], send: Callable[[], Child]) -> Reading:
    first = receive()  # its first life makes the queue
    first.expect("READY")
    time.sleep(IDLE)
    resident = first.resident
    first.stop()
    sender = send()
    sender.expect("READY")
    for said in ("SOLO", "SENT"):
        sender.go()
        sender.expect(said)
    sender.end()
    second = receive()
    return {"start": second.expect("DONE")["last"] - second.started, "resident": resident}


def _ours(bench: Bench) -> Reading:
    where = f"sqlite:{bench.place()}/data"
    return _measured(
        lambda: bench.ours("starting", where),
        lambda: bench.ours("queued", "send", where, "", 1, 0),
    )


def _peer(program: str, server: str) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where, mark = bench.nats() if server == "nats" else bench.redis(), bench.mark()
        return _measured(
            lambda: bench.peer(program, "receive", where, mark, 1, 0),
            lambda: bench.peer(program, "send", where, mark, 1, 0),
        )

    return once


def _import(what: str, *, theirs: bool = False) -> Callable[[Bench], Reading]:
    """Time what an import adds to bare Python: both in turn, the middle of seven; the first pair only warms up."""

    def once(bench: Bench) -> Reading:
        python = str(bench.peers) if theirs else ""
        pairs = [
            (bench.python("-c", "", python=python), bench.python("-c", f"import {what}", python=python))
            for _ in range(8)
        ][1:]
        took, cpu = (median(after[i] for _, after in pairs) - median(bare[i] for bare, _ in pairs) for i in (0, 1))
        return {"import": took, "import_cpu": cpu}

    return once


OURS, IMPORT = "posthouse on SQLite, posthouse.run", "import posthouse"
_NATS = ("nats-server", "peers", "nats")

JOB = Job(
    name="j6",
    title="a process starts: to the first message handled, which waits in the queue; then idle",
    participants=(
        Participant("arq", _peer("arq_queue", "redis"), ("redis-server", "peers", "arq")),
        Participant("nats-py JetStream", _peer("nats_queue", "nats"), _NATS),
        Participant("FastStream on NATS", _peer("faststream_queue", "nats"), (*_NATS, "faststream")),
        Participant(OURS, _ours),
        Participant("import nats", _import("nats", theirs=True), ("peers", "nats")),
        Participant("import arq", _import("arq", theirs=True), ("peers", "arq")),
        Participant("import faststream.nats", _import("faststream.nats", theirs=True), ("peers", "faststream")),
        Participant("import asyncio, msgspec", _import("asyncio, msgspec")),
        Participant(IMPORT, _import("posthouse")),
        Participant("import posthouse, posthouse.runtime.start", _import("posthouse, posthouse.runtime.start")),
    ),
    measures=(
        Measure("start", "start to first message handled, s"),
        Measure("resident", "idle memory, MiB", 2**-20),
        Measure("import", "import, ms over bare Python", 1e3),
        Measure("import_cpu", "import, ms of CPU over bare Python", 1e3),
    ),
    targets=(
        Target("start", OURS, 0.25, most=True),
        Target("resident", OURS, 35 * 2**20, most=True),
        Target("import", IMPORT, 0.1, most=True),
    ),
)
