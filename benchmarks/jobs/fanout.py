"""J4: one publisher, ten subscriptions in two processes; each hears every event."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target
from benchmarks.child import Child

NAMES = ("left", "right")


def _ours(mode: str, usual: int) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where, count = f"sqlite:{bench.place()}/data", bench.count(usual)
        flush = bench.flush()

        def start(role: str, name: str) -> Child:
            return bench.ours("fanout", role, mode, where, count, name, look=f"fanout {role}")

        return {**_measured(start, count), "flush": flush}

    return once


def _peer(program: str, usual: int) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where, count, mark = bench.nats(), bench.count(usual), bench.mark()
        return _measured(lambda role, name: bench.peer(program, role, where, mark, count, name), count)

    return once


def _measured(start: Callable[[str, str], Child], count: int) -> Reading:
    hearing = [start("hear", name) for name in NAMES]
    for each in hearing:
        each.expect("READY")
    telling = start("tell", "orders")
    telling.expect("READY")
    everybody = (telling, *hearing)
    before = [each.cpu for each in everybody]
    telling.go()
    sent = telling.expect("SENT", 180)
    last = max(each.expect("DONE", 180)["last"] for each in hearing)
    used = [(each.cpu - was) / count for each, was in zip(everybody, before, strict=True)]
    return {
        "rate": count / (last - sent["began"]),
        "tell_rate": count / (sent["ended"] - sent["began"]),
        "cpu_publisher": used[0],
        "cpu_hear": sum(used[1:]) / 10,
    }


OURS, QUEUED = "posthouse on SQLite, journaled", "posthouse on SQLite, queued"
NATS, FAST = "nats-py JetStream, 10 durable consumers", "FastStream on NATS core, nothing durable"

JOB = Job(
    name="j4",
    title="events: one publisher, ten subscriptions in two processes",
    note="Journaled: each event is flushed at the publisher, and takes effect exactly once at each subscription. "
    "JetStream: in the server's file, flushed later; each delivery acked. Ours: two services of five subscriptions.",
    participants=(
        Participant(NATS, _peer("nats_fanout", 20_000), ("nats-server", "peers", "nats")),
        Participant(FAST, _peer("faststream_fanout", 5_000), ("nats-server", "peers", "faststream")),
        Participant(OURS, _ours("journaled", 20_000)),
        Participant(QUEUED, _ours("queued", 10_000)),
    ),
    measures=(
        Measure("rate", "events/s, heard by all ten"),
        Measure("tell_rate", "events/s, confirmed to the publisher"),
        Measure("cpu_publisher", "CPU of the publisher, us an event", 1e6),
        Measure("cpu_hear", "CPU of a subscription, us an event", 1e6),
        Measure("flush", "a flush of the disk before the run, us", 1e6),
    ),
    targets=(Target("rate", OURS, 1.0, NATS), Target("rate", OURS, 1.0, FAST)),
)
