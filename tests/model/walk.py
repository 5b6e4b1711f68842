"""Random runs within bounds that are too large to exhaust; each ends with the protocol's own steps until the goal.

What `checker` shows for two or three calls is looked for here with six; it proves nothing, and finds what small
bounds hide.
"""

from __future__ import annotations

import random
from typing import Final

from tests.model.config import Config
from tests.model.world import World

WALKS: Final = (
    Config(
        "walk-6-three-workers-all",
        calls=6,
        workers=3,
        cancel=True,
        refuse=True,
        park=True,
        lapse=True,
        caller_restored=True,
        replier_restored=True,
        caller_power_cut=True,
        replier_power_cut=True,
        opening=True,
    ),
    Config(
        "walk-6-number-later-ordered",
        calls=6,
        workers=3,
        numbering="later",
        ordered=True,
        refuse=True,
        park=True,
        lapse=True,
        caller_restored=True,
        replier_restored=True,
        caller_power_cut=True,
        replier_power_cut=True,
    ),
    Config(
        "walk-6-handler-three-calls",
        calls=6,
        places=3,
        workers=2,
        refuse=True,
        handler_ends_early=True,
        replier_restored=True,
        replier_power_cut=True,
        caller_power_cut=True,
    ),
    Config("walk-6-drop-row-on-ack", calls=6, workers=3, floor_outlives_rows=False, expect=("safety",)),
)
_END_GAME: Final = 20_000
_WIPES: Final = 0.02


def walk(config: Config, *, runs: int, seed: int) -> tuple[str, int]:
    """Take random runs; return "holds" or the first finding, and how many steps were taken."""
    rng = random.Random(seed)
    taken = 0
    for run in range(runs):
        world = World(config, pruning=False)
        state = world.start()
        for _ in range(rng.randrange(10, 140)):
            steps = list(world.steps(state))
            if not steps:
                break
            # Faults are rare enough that work gets done, and frequent enough that every step is hit.
            wanted = [step for step in steps if step.protocol or step.label.startswith("application calls")]
            state = rng.choice(wanted if wanted and rng.random() < 0.85 else steps).state
            taken += 1
            if broken := world.violation(state):
                return f"run {run}: {broken}", taken
        for _ in range(_END_GAME):
            if world.is_goal(state):
                break
            steps = [step for step in world.steps(state) if step.protocol]
            if not steps:
                return f"run {run}: no step is left before the goal", taken
            state = rng.choice(steps).state
            if rng.random() < _WIPES:
                state = state._replace(net=0)
            taken += 1
            if broken := world.violation(state):
                return f"run {run}: {broken}", taken
        else:
            return f"run {run}: the goal was not reached in {_END_GAME} steps", taken
    return "holds", taken
