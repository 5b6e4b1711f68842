"""J2j and J1j: journaled calls and sends: both sides have it on the disk, in a store of its own; two processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target
from benchmarks.child import Child
from benchmarks.jobs.queued import through

SOLO = 500


def _spike(figures: Callable[[dict[str, float]], Reading]) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        from benchmarks.spikes.journaled import WAYS, measure

        ways = {way: hows[0] for way, hows in WAYS.items()} | {"group": "256"}
        return figures(measure(ways, str(bench.place()), max(0.5, 2.0 * bench.scale)))

    return once


def _calls_of_spike(said: dict[str, float]) -> Reading:
    return {
        "p50": said["one_p50"] / 1e6,
        "p99": said["one_p99"] / 1e6,
        "rate64": said["at64_rate"],
        "p99_at64": said["at64_p99"] / 1e6,
        "rate512": said["at512_rate"],
        "p99_at512": said["at512_p99"] / 1e6,
        "flush": said["one_flush_us_a"] / 1e6,
    }


def _sends_of_spike(said: dict[str, float]) -> Reading:
    return {
        "rate": said["send_rate"],
        "cpu_sender": said["send_cpu_a"] / 1e6,
        "cpu_receiver": said["send_cpu_b"] / 1e6,
        "flush": said["send_flush_us_a"] / 1e6,
    }


def _ours(pin: bool) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where, count = f"sqlite:{bench.place()}/data", bench.count(30_000)
        flush = bench.flush()
        server = bench.ours("journaled", "serve", where, count, look="journaled serve")
        return {**_measured(bench, server, "journaled", where, count, pin=pin), "flush": flush}

    return once


def _measured(bench: Bench, server: Child, program: str, where: str, count: int, *, pin: bool) -> Reading:
    server.expect("READY")
    caller = bench.ours(program, "call", where, count, look="journaled call")
    caller.expect("READY")
    before = caller.cpu, server.cpu
    with bench.pinned(server, caller) if pin else nullcontext():
        caller.go()
        reading = caller.expect("RESULT", 180)
    calls = 2 * count + max(200, count // 4)
    return {
        **reading,
        "cpu_caller": (caller.cpu - before[0]) / calls,
        "cpu_replier": (server.cpu - before[1]) / calls,
    }


def _rabbit(bench: Bench) -> Reading:
    where, mark, count = bench.rabbit(), bench.mark(), bench.count(4_000)
    server = bench.peer("rabbit_calls", "serve", where, mark, count)
    server.expect("READY")
    caller = bench.peer("rabbit_calls", "call", where, mark, count)
    caller.expect("READY")
    caller.go()
    return caller.expect("RESULT", 180)


def _dbos(bench: Bench) -> Reading:
    where, mark, count = f"sqlite:///{bench.place()}/dbos.sqlite", bench.mark(), bench.count(300)
    server = bench.peer("dbos_calls", "serve", where, mark, count)
    server.expect("READY")
    caller = bench.peer("dbos_calls", "call", where, mark, count)
    caller.expect("READY")
    caller.go()
    return caller.expect("RESULT", 180)


def _sends(bench: Bench) -> Reading:
    where, count = f"sqlite:{bench.place()}/data", bench.count(60_000)
    flush = bench.flush()
    receiver = bench.ours("journaled", "receive", where, count, SOLO, look="journaled receive")
    receiver.expect("READY")
    sender = bench.ours("journaled", "send", where, count, SOLO, look="journaled send")
    return {**through(sender, receiver, count, []), "flush": flush}


SPIKE = "spike: the same in its barest shape"
OURS = "posthouse on SQLite, journaled"
RABBIT, DBOS = "FastStream RPC on RabbitMQ, nothing durable", "DBOS queue on SQLite"

CALLS = Job(
    name="j2j",
    title="journaled calls, two processes: one at a time, 64 and 512 at once",
    note="Journaled: request, effect and reply are on the disk in the two sides' own stores. DBOS: at 64 threads.",
    participants=(
        Participant(SPIKE, _spike(_calls_of_spike)),
        Participant(OURS, _ours(False)),
        Participant(f"{OURS}, all on one CPU", _ours(True), runs=2),
        Participant(RABBIT, _rabbit, ("rabbitmq-server", "peers", "faststream", "aio_pika"), runs=2),
        Participant(DBOS, _dbos, ("peers", "dbos"), runs=2),
    ),
    measures=(
        Measure("p50", "one at a time, p50 us", 1e6),
        Measure("p99", "one at a time, p99 us", 1e6),
        Measure("rate64", "calls/s, 64 at once"),
        Measure("p99_at64", "64 at once, p99 ms", 1e3),
        Measure("rate512", "calls/s, 512 at once"),
        Measure("p99_at512", "512 at once, p99 ms", 1e3),
        Measure("cpu_caller", "CPU of the caller, us a call", 1e6),
        Measure("cpu_replier", "CPU of the replier, us a call", 1e6),
        Measure("flush", "a flush of the disk, us", 1e6),
    ),
    targets=(
        Target("p50", OURS, 0.0015, most=True),
        Target("rate512", OURS, 10_000),
        Target("rate512", OURS, 20_000),
        Target("rate512", OURS, 0.6, SPIKE),
    ),
)

SENDS = Job(
    name="j1j",
    title="journaled sends, end to end: confirmed on the disk, and in the receiver's store; 256 senders",
    participants=(Participant(SPIKE, _spike(_sends_of_spike)), Participant(OURS, _sends)),
    measures=(
        Measure("rate", "messages/s, end to end"),
        Measure("send_rate", "messages/s, confirmed"),
        Measure("confirm_p50", "one sender: confirmed, p50 us", 1e6),
        Measure("confirm_p99", "one sender: confirmed, p99 us", 1e6),
        Measure("through_p50", "one sender: to the handler, p50 us", 1e6),
        Measure("cpu_sender", "CPU of the sender, us a message", 1e6),
        Measure("cpu_receiver", "CPU of the receiver, us a message", 1e6),
        Measure("again", "messages that came again"),
        Measure("flush", "a flush of the disk, us", 1e6),
    ),
    targets=(Target("rate", OURS, 25_000), Target("rate", OURS, 0.6, SPIKE)),
)
