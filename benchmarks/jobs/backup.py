"""A backup of a large store while calls go on: how long it takes, and what those who call feel of it."""

from __future__ import annotations

import time

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target
from benchmarks.child import Child

MIB = 1024
RATE = 5_000
_BEFORE = 5.0
"""Seconds: so long it is measured before the backup, once calls have run for as long."""


def _once(bench: Bench) -> Reading:
    place, mib, rate = bench.place() / "data", max(16, int(MIB * bench.scale)), max(200, int(RATE * bench.scale))
    server = bench.ours("backup", "serve", f"sqlite:{place}", mib)
    server.expect("READY", 300)
    caller = bench.ours("backup", "call", f"sqlite:{place}", rate)
    caller.expect("READY")
    _after(_BEFORE, caller)  # warms up
    before = _after(_BEFORE, caller)
    begun = time.monotonic()
    bench.python("-m", "posthouse.cli", "backup", str(bench.place() / "copy"), "--data", str(place), limit=600)
    took = time.monotonic() - begun
    wal = (place / "stores" / "orders.db-wal").stat().st_size
    caller.go()
    meanwhile = caller.expect("TOOK")
    return {
        "took": took,
        "rate": mib / took,
        "wal": wal,
        "calls_before": before["calls"] / _BEFORE,
        "calls": meanwhile["calls"] / took,
        "p99_before": before["p99"],
        "p99": meanwhile["p99"],
    }


def _after(seconds: float, caller: Child) -> dict[str, float]:
    time.sleep(seconds)
    caller.go()
    return caller.expect("TOOK")


OURS = "posthouse backup, stores in SQLite"

JOB = Job(
    name="backup",
    title=f"a backup of {MIB} MiB while {RATE:,} journaled calls a second are made",
    note="With --scale both are less. The backup is another process on the same disk, and rests as long as it copies.",
    participants=(Participant(OURS, _once, runs=3),),
    measures=(
        Measure("took", "s the backup takes"),
        Measure("rate", "MiB/s"),
        Measure("wal", "WAL of the replier after it, MiB", 2**-20),
        Measure("calls_before", "calls/s before"),
        Measure("calls", "calls/s meanwhile"),
        Measure("p99_before", "p99 of a call before, ms", 1e3),
        Measure("p99", "p99 of a call meanwhile, ms", 1e3),
    ),
    targets=(Target("p99", OURS, 3.0, OURS, most=True, peer_measure="p99_before"),),
)
