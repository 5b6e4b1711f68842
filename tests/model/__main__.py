"""The command line: visit the worlds, print one line for each, and fail if one is not as expected."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from tests.model import adoption, restores
from tests.model.checker import check
from tests.model.configurations import BROKEN, CORRECT, LARGE
from tests.model.walk import WALKS, walk
from tests.model.world import World

if TYPE_CHECKING:
    from tests.model.config import Config


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments choose; the exit status is 0 if all of it is as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the large configurations")
    parser.add_argument("--only", metavar="NAME", help="this configuration alone")
    parser.add_argument("--trace", action="store_true", help="print the shortest counterexamples")
    parser.add_argument("--no-pruning", action="store_true", help="keep all messages (same verdicts, far slower)")
    parser.add_argument("--walk", type=int, default=0, metavar="RUNS", help="random runs with larger bounds as well")
    parser.add_argument("--seed", type=int, default=1, help="of the random runs")
    parser.add_argument("--limit", type=int, default=4_000_000, help="most states of one configuration")
    chosen = parser.parse_args(arguments)

    configs = [*CORRECT, *restores.CORRECT, *BROKEN, *restores.BROKEN, *adoption.CORRECT, *adoption.BROKEN]
    if not chosen.quick:
        configs += [*LARGE, *restores.LARGE]
    if chosen.only:
        configs = [config for config in (*configs, *LARGE, *restores.LARGE) if config.name == chosen.only][:1]
    print(f"{'configuration':52} {'states':>9} {'steps':>10} {'depth':>5} {'s':>6}  result")
    wrong = [
        config.name
        for config in configs
        if not _run(config, limit=chosen.limit, pruning=not chosen.no_pruning, trace=chosen.trace)
    ]
    for config in WALKS if chosen.walk else ():
        finding, taken = walk(config, runs=chosen.walk, seed=chosen.seed)
        print(f"{config.name:52} {chosen.walk:9} runs {taken} steps  {finding}", flush=True)
        if (finding == "holds") != ("holds" in config.expect):
            wrong.append(config.name)
    print("as expected" if not wrong else f"NOT as expected: {', '.join(wrong)}")
    return 1 if wrong or not configs else 0


def _run(config: Config | adoption.Adoption, *, limit: int, pruning: bool, trace: bool) -> bool:
    """Visit one world, print its line, and return whether the verdict is the expected one."""
    started = time.perf_counter()
    if isinstance(config, adoption.Adoption):
        result = check(adoption.AdoptionWorld(config), limit=limit)
    else:
        result = check(World(config, pruning=pruning), limit=limit)
    seconds = time.perf_counter() - started
    expected = result.verdict in config.expect
    print(
        f"{config.name:52} {result.states:9} {result.steps:10} {result.depth:5} {seconds:6.1f}  "
        f"{result.verdict if result.verdict == 'holds' else f'{result.verdict}: {result.finding}'}"
        f"{'' if expected else f'   <-- expected: {config.expect}'}",
        flush=True,
    )
    if trace or not expected:
        for number, label in enumerate(result.trace, 1):
            print(f"      {number:2}. {label}")
    return expected


if __name__ == "__main__":
    sys.exit(main())
