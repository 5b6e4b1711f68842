"""Lives through plans, each in a loop of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.judge import judged
from tests.sim.processes import live
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.plans import Plan


def lived(plan: Plan, *, keep_trace: bool = False) -> World:
    """Live through a plan, and return the world with what is wrong with it."""

    async def main() -> World:
        world = World(plan, keep_trace=keep_trace)
        await world.live()
        return world

    world = live(main())
    world.wrong = judged(world)
    return world
