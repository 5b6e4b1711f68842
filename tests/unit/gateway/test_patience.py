"""Waits that share one timer, in a loop whose time is the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from posthouse.gateway.patience import Patience
from posthouse.testing.loop import SimulatedLoop


def simulated(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())


def test_each_wait_is_given_up_when_its_own_time_is_over():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        given_up: list[tuple[str, float]] = []
        patience = Patience[str](5.0, lambda key: given_up.append((key, round(loop.time() - began, 3))))

        began = loop.time()
        patience.begin("a")
        await asyncio.sleep(2)
        patience.begin("b")
        await asyncio.sleep(10)

        assert given_up == [("a", 5.0), ("b", 7.0)]

    simulated(main)


def test_a_wait_that_is_over_is_not_given_up_and_one_that_was_is_known_until_it_is_over():
    async def main() -> None:
        given_up: list[str] = []
        patience = Patience[str](5.0, given_up.append)

        patience.begin("early")
        patience.begin("late")
        await asyncio.sleep(1)
        patience.over("early")
        await asyncio.sleep(10)

        assert given_up == ["late"]
        assert patience.gave_up("late")
        assert not patience.gave_up("early")
        patience.over("late")
        assert not patience.gave_up("late")

    simulated(main)


def test_a_wait_after_a_rest_is_given_up_too_and_none_after_the_end():
    async def main() -> None:
        given_up: list[str] = []
        patience = Patience[str](5.0, given_up.append)
        patience.begin("first")
        patience.over("first")
        await asyncio.sleep(60)
        patience.begin("second")
        await asyncio.sleep(6)
        patience.begin("third")
        patience.close()
        await asyncio.sleep(6)

        assert given_up == ["second"]

    simulated(main)


def test_who_waits_is_known_until_it_is_over_or_given_up():
    async def main() -> None:
        patience = Patience[str](5.0, lambda _: None)

        patience.begin("a")
        await asyncio.sleep(3)
        for key in ("b", "c"):
            patience.begin(key)
        patience.over("b")

        assert patience.waiting == ["a", "c"]
        await asyncio.sleep(3)
        assert patience.waiting == ["c"]

    simulated(main)
