"""J2: request and reply, kept nowhere; caller and service are two processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target
from benchmarks.child import Child


def _ours(pin: bool) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where = f"sqlite:{bench.place()}/data"
        count = bench.count(20_000)
        return _measured(bench, lambda role: bench.ours("calls", role, where, count, look=f"calls {role}"), pin, [])

    return once


def _peer(program: str, usual: int, pin: bool = False) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where, mark, count = bench.nats(), bench.mark(), bench.count(usual)
        servers = [bench.nats_server]
        return _measured(bench, lambda role: bench.peer(program, role, where, mark, count), pin, servers)

    return once


def _measured(bench: Bench, start: Callable[[str], Child], pin: bool, servers: list[Child]) -> Reading:
    server = start("serve")
    server.expect("READY")
    caller = start("call")
    caller.expect("READY")
    with bench.pinned(server, caller, *servers) if pin else nullcontext():
        caller.go()
        return caller.expect("RESULT", 180)


OURS, NATS, FAST = "posthouse on SQLite, volatile", "nats-py request", "FastStream on NATS, request"
PINNED = ", all on one CPU"

JOB = Job(
    name="j2",
    title="volatile calls: one at a time, 64 and 512 at once",
    participants=(
        Participant(NATS, _peer("nats_calls", 12_000), ("nats-server", "peers", "nats")),
        Participant(FAST, _peer("faststream_calls", 6_000), ("nats-server", "peers", "faststream")),
        Participant(OURS, _ours(False)),
        Participant(NATS + PINNED, _peer("nats_calls", 6_000, True), ("nats-server", "peers", "nats")),
        Participant(OURS + PINNED, _ours(True)),
    ),
    measures=(
        Measure("p50", "one at a time, p50 us", 1e6),
        Measure("p99", "one at a time, p99 us", 1e6),
        Measure("rate64", "calls/s, 64 at once"),
        Measure("p99_at64", "64 at once, p99 ms", 1e3),
        Measure("rate512", "calls/s, 512 at once"),
        Measure("p99_at512", "512 at once, p99 ms", 1e3),
    ),
    targets=(
        Target("p50", OURS, 0.6, NATS, most=True),
        Target("rate64", OURS, 1.5, NATS),
        Target("rate512", OURS, 1.5, NATS),
    ),
)
