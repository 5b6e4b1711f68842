"""J1: a durable work queue, end to end; sender and receiver are two processes."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target
from benchmarks.child import Child
from benchmarks.talk import quantile

SOLO = 500


def _ours(bench: Bench) -> Reading:
    where = f"sqlite:{bench.place()}/data"
    count, mark = bench.count(60_000), bench.mark()
    flush = bench.flush()

    def start(role: str) -> Child:
        return bench.ours("queued", role, where, mark, count, SOLO, look=f"queued {role}")

    return {**_measured(start, count, []), "flush": flush}


def _peer(program: str, usual: int, server: str, solo: int = SOLO) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where = bench.nats() if server == "nats" else bench.redis()
        count, mark = bench.count(usual), bench.mark()
        return _measured(lambda role: bench.peer(program, role, where, mark, count, solo), count, bench.servers)

    return once


def _measured(start: Callable[[str], Child], count: int, servers: list[Child]) -> Reading:
    receiver = start("receive")
    receiver.expect("READY")
    return through(start("send"), receiver, count, servers)


def through(sender: Child, receiver: Child, count: int, servers: list[Child]) -> Reading:
    """Let a sender send, and return how that went; the receiver is ready."""
    sender.expect("READY")
    sender.go()
    solo = sender.expect("SOLO")
    everybody = (sender, receiver, *servers)
    before = [each.cpu for each in everybody]
    sender.go()
    sent = sender.expect("SENT", 120)
    done = receiver.expect("DONE", 120)
    used = [(each.cpu - was) / count for each, was in zip(everybody, before, strict=True)]
    reading: Reading = {
        "rate": count / (done["last"] - sent["began"]),
        "send_rate": count / (sent["ended"] - sent["began"]),
        "again": done["total"] - count,
        "cpu_sender": used[0],
        "cpu_receiver": used[1],
    }
    if servers:
        reading["cpu_server"] = sum(used[2:])
    if solo["took"]:
        through = [at - began for at, began in zip(done["solo"], solo["began"], strict=True) if at]
        reading["confirm_p50"] = quantile(solo["took"], 0.5)
        reading["confirm_p99"] = quantile(solo["took"], 0.99)
        reading["through_p50"] = quantile(through, 0.5)
        reading["through_p99"] = quantile(through, 0.99)
    return reading


OURS, NATS, FAST = "posthouse on SQLite, flushed", "nats-py JetStream, tuned by hand", "FastStream on NATS, pydantic"

JOB = Job(
    name="j1",
    title="queued messages, end to end: confirmed to the sender, decoded, handled, settled",
    note="Confirmed means: posthouse: on the disk. JetStream: in the server's file, flushed later. "
    "Redis: in its memory, flushed each second.",
    participants=(
        Participant(NATS, _peer("nats_queue", 60_000, "nats"), ("nats-server", "peers", "nats")),
        Participant(FAST, _peer("faststream_queue", 20_000, "nats"), ("nats-server", "peers", "faststream")),
        Participant(
            "Celery on Redis, solo pool", _peer("celery_queue", 2_000, "redis", 0), ("redis-server", "peers", "celery")
        ),
        Participant(OURS, _ours),
    ),
    measures=(
        Measure("rate", "messages/s, end to end"),
        Measure("send_rate", "messages/s, confirmed"),
        Measure("confirm_p50", "one sender: confirmed, p50 us", 1e6),
        Measure("confirm_p99", "one sender: confirmed, p99 us", 1e6),
        Measure("through_p50", "one sender: to the handler, p50 us", 1e6),
        Measure("through_p99", "one sender: to the handler, p99 us", 1e6),
        Measure("cpu_sender", "CPU of the sender, us a message", 1e6),
        Measure("cpu_receiver", "CPU of the receiver, us a message", 1e6),
        Measure("cpu_server", "CPU of the server, us a message", 1e6),
        Measure("again", "messages that came again"),
        Measure("flush", "a flush of the disk before the run, us", 1e6),
    ),
    targets=(
        Target("rate", OURS, 1.7, NATS),
        Target("rate", OURS, 3.0, NATS),
        Target("rate", OURS, 4.0, FAST),
        Target("rate", OURS, 8.0, FAST),
    ),
)
