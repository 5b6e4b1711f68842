"""What a measured program and the bench say to each other, and the work that all programs share.

A program prints one line a fact, `TAG {json}`; the bench answers with a line on the program's
standard input, and by closing it tells the program to end: so none outlives the bench. Standard
library only: peers run this in an environment that has no posthouse.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

now = time.monotonic  # one clock for all processes of a machine

SENDERS = 256
"""Senders at once where throughput is measured, for libraries whose senders wait for each confirmation."""


def order(number: int) -> dict[str, Any]:
    """Return the order that every job sends: 297 bytes of JSON for a number of five digits."""
    tea = {"sku": "SKU-0012345", "qty": 2, "cents": 1999}
    pot = {"sku": "SKU-0098765", "qty": 1, "cents": 45000}
    to = {"name": "Ada Example", "street": "12 Long Street", "city": "Utrecht", "zip": "3511 AB", "country": "NL"}
    return {
        "id": number,
        "customer": f"cust-{number % 9973:06d}",
        "currency": "EUR",
        "placed_at": "2026-01-15T12:34:56.789Z",
        "lines": [tea, pot],
        "ship_to": to,
    }


def say(tag: str, **facts: Any) -> None:
    """Tell the bench something."""
    line = f"{tag} {json.dumps(facts)}\n".encode()
    while line:  # a pipe may take less than all
        line = line[os.write(1, line) :]


async def told() -> bool:
    """Wait for the bench: True is "go", False is "end"."""
    return bool(await asyncio.to_thread(sys.stdin.readline))


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program on uvloop, under cProfile where the bench asks for it."""
    import uvloop

    profile = os.environ.get("BENCH_CPROFILE")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if not profile:
            return runner.run(main)
        import cProfile

        watch = cProfile.Profile()
        try:
            watch.runcall(runner.run, main)
        finally:
            watch.dump_stats(profile)


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quantile(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Sink:
    """Sees handled orders; `done` is set when each of them came at least once.

    Args:
        count: orders of the throughput run, whose ids begin at `solo`.
        solo: orders that are sent one by one before, for latency.
    """

    def __init__(self, count: int, solo: int = 0) -> None:
        self.done = asyncio.Event()
        self.total = 0
        self.last = 0.0
        self.solo_at: dict[int, float] = {}
        self._solo = solo
        self._left = count
        self._seen = bytearray(solo + count)

    def hit(self, number: int) -> None:
        """Count one."""
        if number < self._solo:
            self.solo_at.setdefault(number, now())
            return
        self.total += 1
        if not self._seen[number]:
            self._seen[number] = 1
            self._left -= 1
            if not self._left:
                self.last = now()
                self.done.set()

    async def tell(self) -> None:
        """Say READY, wait for all, say DONE, and stay until the bench says end."""
        say("READY")
        await self.done.wait()
        say("DONE", last=self.last, total=self.total, solo=[self.solo_at.get(i, 0.0) for i in range(self._solo)])
        await told()


class Countdown:
    """Sees a number of deliveries, whichever they are; `done` is set with the last one."""

    def __init__(self, count: int) -> None:
        self.done = asyncio.Event()
        self._left = count

    def hit(self) -> None:
        """Count one."""
        self._left -= 1
        if not self._left:
            self.done.set()

    async def tell(self) -> None:
        """Say READY, wait for all, say DONE, and stay until the bench says end."""
        say("READY")
        await self.done.wait()
        say("DONE", last=now())
        await told()


async def send_all(
    count: int, solo: int, one: Callable[[int], Awaitable[Any]], many: Callable[[range], Awaitable[None]] | None = None
) -> None:
    """The sender's side of job 1: `solo` orders one by one, then `count` of them as fast as they go.

    Args:
        count: orders of the throughput run.
        solo: orders that are sent one after another, each when the one before is confirmed.
        one: sends an order, and waits until it is confirmed.
        many: sends all of a range, and waits until all are confirmed; None sends with 256 senders.
    """
    say("READY")
    await told()
    began: list[float] = []
    took: list[float] = []
    for number in range(solo):
        start = now()
        await one(number)
        began.append(start)
        took.append(now() - start)
    say("SOLO", began=began, took=took)
    await told()
    start = now()
    numbers = range(solo, solo + count)
    await (many(numbers) if many else at_once(SENDERS, numbers, one))
    say("SENT", began=start, ended=now())
    await told()


async def at_once(width: int, numbers: range, one: Callable[[int], Awaitable[Any]]) -> None:
    """Do one thing for each number, with `width` workers that take the next as soon as they are done."""
    todo = iter(numbers)

    async def work() -> None:
        for number in todo:
            await one(number)

    await asyncio.gather(*(work() for _ in range(width)))


async def ask_all(count: int, ask: Callable[[int], Awaitable[int]]) -> None:
    """The caller's side of job 2: one call at a time, then 64 and 512 at once.

    Args:
        count: calls at each width; one at a time a quarter of it.
        ask: calls with an order and returns the id that the reply names.
    """
    for number in range(100):
        if await ask(number) != number:
            raise RuntimeError("the reply is not that of this request")
    say("READY")
    await told()
    facts: dict[str, float] = {}
    took: list[float] = []

    async def timed(number: int) -> None:
        start = now()
        await ask(number)
        took.append(now() - start)

    await at_once(1, range(max(200, count // 4)), timed)
    facts["p50"], facts["p99"] = quantile(took, 0.5), quantile(took, 0.99)
    for width in (64, 512):
        took.clear()
        start = now()
        await at_once(width, range(count), timed)
        facts[f"rate{width}"] = count / (now() - start)
        facts[f"p99_at{width}"] = quantile(took, 0.99)
    say("RESULT", **facts)
    await told()
