"""Lives through plans, each in a loop of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.judge import judged
from tests.sim.processes import live
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.plans import Plan


def lived(plan: Plan, *, keep_trace: bool = False, watch: bool = True) -> World:
    """Live through a plan, and return the world with what is wrong with it.

    Args:
        plan: what happens.
        keep_trace: keep what happened, line by line.
        watch: look at every change of a row, and at what leaves.
    """

    async def main() -> World:
        world = World(plan, keep_trace=keep_trace, watch=watch)
        await world.live()
        return world

    world = live(main())
    world.wrong = judged(world)
    return world
