"""`make bench ARGS="j1 j2 --runs 5"`: measures posthouse beside its peers, and prints tables.

The tables go to standard output, and so does one JSON object at the end (or to `--out`); what happens
meanwhile is told on standard error. The exit status says nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

if not __package__:  # started as a file: then it is `benchmarks` that lies on the path, and not what it lies in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import environment, tables
from benchmarks.bench import Bench, Job
from benchmarks.jobs import backlog, backup, calls, fanout, gateway, growth, journaled, queued, starting
from benchmarks.profiles import KINDS
from benchmarks.quiet import Guard

JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        queued.JOB,
        journaled.SENDS,
        calls.JOB,
        journaled.CALLS,
        gateway.JOB,
        fanout.JOB,
        backlog.JOB,
        growth.JOB,
        backup.JOB,
        starting.JOB,
    )
}


def main() -> None:
    """Run what the command line says."""
    given = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing is left behind
    peers = None if given.no_peers else environment.interpreter()
    bench = Bench(
        guard=Guard(given.patience, given.tries),
        folder=given.dir,
        scale=given.scale,
        depth=given.depth,
        peers=peers,
        profile=given.profile or "",
    )
    results = list[tables.Results]()
    try:
        for name in given.jobs or list(JOBS):
            found = bench.run(JOBS[name], runs=given.runs, only=[word.lower() for word in given.only])
            results.append(found)
            print(f"\n{tables.text_of(found)}\n", flush=True)
            if given.profile:
                print(f"{bench.profiler.report()}\n", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        bench.close()
        bench.profiler.close()
    report = tables.json_of(results)
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n")
    else:
        print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure posthouse beside its peers.")
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"which: {', '.join(JOBS)}; all, if none is named")
    parser.add_argument("--runs", type=int, default=5, help="how often each participant is measured [5]")
    parser.add_argument("--scale", type=float, default=1.0, help="shorter or longer runs [1.0]")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="participants with a word in their name")
    parser.add_argument("--depth", type=int, default=1_000_000, help="the deepest backlog of j5 [1000000]")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine; 0: do not")
    parser.add_argument("--tries", type=int, default=3, help="runs until a disturbed one is kept and marked [3]")
    parser.add_argument("--profile", choices=KINDS, help="look into our programs; such runs are slower")
    parser.add_argument("--no-peers", action="store_true", help="measure posthouse alone")
    parser.add_argument("--dir", type=Path, help="where data is written meanwhile; a real disk, no tmpfs")
    parser.add_argument("--out", type=Path, help="where the JSON goes, instead of standard output")
    given = parser.parse_args()
    if unknown := [name for name in given.jobs if name not in JOBS]:
        parser.error(f"there is no job {unknown[0]!r}; there are {', '.join(JOBS)}")
    return given


if __name__ == "__main__":
    main()
