"""J5: does a message cost more when many wait? Fill to each depth, then drain some from there."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target
from benchmarks.child import Child

DEPTHS = (10_000, 100_000, 1_000_000)


def _once(start: Callable[[Bench, str], Child]) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        depths = [depth for depth in DEPTHS if depth <= bench.depth]
        child = start(bench, ",".join(map(str, depths)))
        child.expect("READY")
        child.go()
        reading: Reading = {}
        for depth in depths:
            for measure, value in child.expect("STEP", 300).items():
                reading[f"{measure}{depth}"] = value
        return reading

    return once


def _ours(bench: Bench, depths: str) -> Child:
    return bench.ours("backlog", f"sqlite:{bench.place()}/data", depths, look="backlog")


def _nats(bench: Bench, depths: str) -> Child:
    return bench.peer("nats_backlog", bench.nats(), bench.mark(), depths)


OURS, NATS = "posthouse on SQLite, flushed", "nats-py JetStream, tuned by hand"
_LOW, _TOP = DEPTHS[0], DEPTHS[-1]

JOB = Job(
    name="j5",
    title="the cost of a message while 10k, 100k and 1M wait",
    note="One process, which fills (the last 10,000 messages are timed) and then drains 10,000 (from the first to the "
    "last of them).",
    participants=(
        Participant(NATS, _once(_nats), ("nats-server", "peers", "nats"), runs=3),
        Participant(OURS, _once(_ours), runs=3),
    ),
    measures=(
        *(Measure(f"fill{depth}", f"us a message sent, {depth:,} wait", 1e6) for depth in DEPTHS),
        *(Measure(f"drain{depth}", f"us a message handled, {depth:,} wait", 1e6) for depth in DEPTHS),
        *(Measure(f"resident{depth}", f"memory of the process, {depth:,} wait, MiB", 2**-20) for depth in DEPTHS),
    ),
    targets=(
        Target(f"fill{_TOP}", OURS, 1.15, OURS, most=True, peer_measure=f"fill{_LOW}"),
        Target(f"drain{_TOP}", OURS, 1.15, OURS, most=True, peer_measure=f"drain{_LOW}"),
        Target(f"resident{_TOP}", OURS, 1.15, OURS, most=True, peer_measure=f"resident{_LOW}"),
    ),
)
