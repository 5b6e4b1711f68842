"""Lives through the plans of some seeds, and says what is wrong: `python -m tests.sim --seed N --trace`."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.sim.chance import plan_of, plan_with_restores
from tests.sim.news_chance import news_plan_of
from tests.sim.run import lived


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--count", type=int, default=1, help="how many seeds")
    parser.add_argument("--trace", action="store_true", help="show what happened, line by line")
    parser.add_argument("--digest", action="store_true", help="show what tells traces apart")
    parser.add_argument("--unwatched", action="store_true", help="do not look at each change of a row")
    parser.add_argument("--restores", action="store_true", help="stores are put back as well")
    parser.add_argument("--news", action="store_true", help="events are told and heard")
    parser.add_argument("--log", action="store_true", help="show what the runtime logs")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO if asked.log else logging.CRITICAL)
    make = plan_with_restores if asked.restores else news_plan_of if asked.news else plan_of
    failed = 0
    begun = time.perf_counter()
    for seed in range(asked.seed, asked.seed + asked.count):
        plan = make(seed)
        if asked.trace:
            print(plan)
        world = lived(plan, keep_trace=asked.trace, watch=not asked.unwatched)
        if asked.trace:
            print("\n".join(world.lines))
        if asked.digest:
            print(seed, world.digest)
        if world.wrong:
            failed += 1
            print(f"seed {seed}:", *world.wrong, sep="\n  ", flush=True)
    print(f"{asked.count} seeds, {failed} of them wrong, {time.perf_counter() - begun:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
