"""The simulated loop: time jumps, never stands still, and nobody waits in vain unnoticed."""

from __future__ import annotations

import asyncio
import time

import pytest

from posthouse.testing.clock import NOON
from posthouse.testing.loop import LoopClock, SimulatedLoop, StuckError, simulate


def test_an_hour_passes_in_a_moment_and_in_order():
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        woken: list[float] = []

        async def sleeper(wait: float) -> None:
            await asyncio.sleep(wait)
            woken.append(loop.time())

        await asyncio.gather(sleeper(3600.0), sleeper(1.0), sleeper(0.25))
        return woken

    began = time.monotonic()
    assert simulate(main()) == pytest.approx([0.25, 1.0, 3600.0])
    assert time.monotonic() - began < 3600.0


def test_the_clock_goes_with_the_loop():
    async def main() -> list[float]:
        clock = LoopClock()
        before = clock.now()
        await asyncio.sleep(90.0)
        return [before, clock.now()]

    assert simulate(main()) == pytest.approx([NOON, NOON + 90.0], abs=0.01)


def test_who_waits_for_what_cannot_come_is_told():
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        simulate(main())


def test_a_wait_too_short_for_a_float_still_passes():
    async def main() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1e9)
        due = loop.time() + 1e-12
        woken = asyncio.Event()

        def again() -> None:
            woken.set() if loop.time() > due else loop.call_later(1e-12, again)

        again()
        async with asyncio.timeout(1.0):
            await woken.wait()
        return loop.time()

    assert simulate(main()) > 1e9


def test_time_out_and_cancellation_work_as_ever():
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert simulate(main()) == pytest.approx(5.0, abs=0.01)


def test_a_loop_begins_at_nought():
    loop = SimulatedLoop()
    try:
        assert loop.time() == 0.0
    finally:
        loop.close()
