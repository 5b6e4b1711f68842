"""Growth: what both stores of a journaled call hold after so many calls: the replier's must not grow with them."""

from __future__ import annotations

from pathlib import Path

import apsw

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target

DEPTHS = (10_000, 100_000, 1_000_000)
STORES = {"shop": "posthouse_calls", "orders": "posthouse_requests"}


def _once(bench: Bench) -> Reading:
    place = bench.place() / "data"
    depths = [depth for depth in DEPTHS if depth <= bench.depth]
    said = ",".join(map(str, depths))
    replier = bench.ours("growth", "serve", f"sqlite:{place}", said)
    replier.expect("READY")
    caller = bench.ours("growth", "call", f"sqlite:{place}", said)
    caller.expect("READY")
    reading: Reading = {}
    for depth in depths:
        caller.go()
        reading[f"memory_shop{depth}"] = caller.expect("MADE", 600)["resident"]
        replier.go()
        reading[f"memory_orders{depth}"] = replier.expect("MEMORY")["resident"]
        for service, table in STORES.items():
            file = place / "stores" / f"{service}.db"
            reading[f"bytes_{service}{depth}"] = _size(file)
            reading[f"rows_{service}{depth}"] = _rows(file, table)
    return reading


def _size(file: Path) -> float:
    return sum(each.stat().st_size for each in (file, file.with_name(f"{file.name}-wal")) if each.exists())


def _rows(file: Path, table: str) -> float:
    connection = apsw.Connection(str(file), apsw.SQLITE_OPEN_READONLY)
    try:
        [[rows]] = connection.execute(f"SELECT count(*) FROM {table}")
    finally:
        connection.close()
    return float(rows)


OURS = "posthouse on SQLite, journaled"
_MIDDLE, _TOP = DEPTHS[1], DEPTHS[-1]

JOB = Job(
    name="growth",
    title="what is kept after 10k, 100k and 1M journaled calls, 512 at once",
    note="The caller keeps settled calls for a day or 256 MiB, so that a restored replier can be asked again.",
    participants=(Participant(OURS, _once, runs=1),),
    measures=(
        *(Measure(f"rows_orders{depth}", f"rows of the replier after {depth:,}") for depth in DEPTHS),
        *(Measure(f"bytes_orders{depth}", f"file of the replier after {depth:,}, MiB", 2**-20) for depth in DEPTHS),
        *(Measure(f"memory_orders{depth}", f"memory of the replier after {depth:,}, MiB", 2**-20) for depth in DEPTHS),
        *(Measure(f"rows_shop{depth}", f"rows of the caller after {depth:,}") for depth in DEPTHS),
        *(Measure(f"bytes_shop{depth}", f"file of the caller after {depth:,}, MiB", 2**-20) for depth in DEPTHS),
        *(Measure(f"memory_shop{depth}", f"memory of the caller after {depth:,}, MiB", 2**-20) for depth in DEPTHS),
    ),
    targets=(
        Target(f"rows_orders{_TOP}", OURS, 1_000, most=True),
        Target(f"bytes_orders{_TOP}", OURS, 2.0, OURS, most=True, peer_measure=f"bytes_orders{_MIDDLE}"),
    ),
)
