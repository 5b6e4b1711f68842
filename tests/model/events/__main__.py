"""The command line: visit the worlds of events, print one line for each, and fail if one is not as expected."""

from __future__ import annotations

import argparse
import sys
import time

from tests.model.checker import check
from tests.model.events.configurations import BROKEN, BROKEN_LARGE, CORRECT, LARGE
from tests.model.events.world import EventWorld


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments choose; the exit status is 0 if all of it is as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.events", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the large worlds")
    parser.add_argument("--only", metavar="NAME", help="this world alone")
    parser.add_argument("--trace", action="store_true", help="print the shortest counterexamples")
    parser.add_argument("--no-pruning", action="store_true", help="keep all messages (same verdicts, far slower)")
    parser.add_argument("--limit", type=int, default=4_000_000, help="most states of one world")
    chosen = parser.parse_args(arguments)

    worlds = [*CORRECT, *BROKEN] if chosen.quick else [*CORRECT, *BROKEN, *LARGE, *BROKEN_LARGE]
    if chosen.only:
        worlds = [rules for rules in (*CORRECT, *BROKEN, *LARGE, *BROKEN_LARGE) if rules.name == chosen.only]
    wrong: list[str] = []
    for rules in worlds:
        started = time.perf_counter()
        result = check(EventWorld(rules, pruning=not chosen.no_pruning), limit=chosen.limit)
        seconds = time.perf_counter() - started
        print(
            f"{rules.name:46} {result.states:9} {result.steps:10} {result.depth:5} {seconds:6.1f}  "
            f"{result.verdict if result.verdict == 'holds' else f'{result.verdict}: {result.finding}'}",
            flush=True,
        )
        if result.verdict not in rules.expect:
            wrong.append(rules.name)
        if chosen.trace or result.verdict not in rules.expect:
            for number, label in enumerate(result.trace, 1):
                print(f"      {number:2}. {label}")
    print("as expected" if worlds and not wrong else f"NOT as expected: {', '.join(wrong) or 'nothing was visited'}")
    return 1 if wrong or not worlds else 0


if __name__ == "__main__":
    sys.exit(main())
