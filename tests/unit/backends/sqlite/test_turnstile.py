"""Two writers share the file; counted, not timed."""

from __future__ import annotations

import asyncio
import fcntl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from posthouse.backends.sqlite.turnstile import Turnstile
from tests.unit.backends.sqlite.children import PATIENCE, child

pytestmark = pytest.mark.anyio

WRITER = """
    async def main():
        await transport.open()
        await transport.declare(QueueSpec(peer, capacity=1_000_000), QueueSpec("all", capacity=1_000_000))
        tell("ready")
        asked()
        mine = 0
        while True:
            await transport.send([Outgoing(peer, b"x" * 300), Outgoing("all", b"x" * 300)])
            mine += 1
            if {info.spec.name: info.stored for info in await transport.queues()}["all"] >= 600:
                break
        tell(mine)
        asked()

    asyncio.run(main())
"""


async def test_of_two_processes_that_write_without_pause_each_gets_at_least_a_third(directory: Path):
    async with child(directory, "one", WRITER) as one, child(directory, "two", WRITER) as two:
        assert (await one.line(), await two.line()) == ("ready", "ready")
        one.ask("go")
        two.ask("go")

        shares = [int(await one.line()), int(await two.line())]

        assert min(shares) >= sum(shares) / 3


async def test_who_waits_goes_before_who_has_just_been_inside(tmp_path: Path):
    busy, waiting = Turnstile(tmp_path), Turnstile(tmp_path)
    assert busy.enter()
    assert not waiting.enter(patience=0.0)

    busy.leave()

    assert waiting.enter(patience=0.0)
    assert not busy.enter(patience=0.0)
    waiting.leave()
    busy.close()
    waiting.close()


async def test_who_has_just_been_inside_cannot_barge_in_before_one_who_waits(tmp_path: Path):
    busy, waiting = Turnstile(tmp_path), Turnstile(tmp_path)
    with ThreadPoolExecutor(1) as thread:
        for _ in range(50):
            assert busy.enter()
            entered = thread.submit(waiting.enter, PATIENCE)
            while not _is_held(tmp_path / "turn.lock"):
                await asyncio.sleep(0)

            busy.leave()
            barged_in = busy.enter(patience=0.0)

            assert not barged_in
            assert entered.result(PATIENCE)
            waiting.leave()
    busy.close()
    waiting.close()


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def test_who_could_not_get_in_stands_in_nobodys_way(tmp_path: Path):
    """What runs on his loop meanwhile may take long, so he has given his turn back."""
    inside, gave_up, third = Turnstile(tmp_path), Turnstile(tmp_path), Turnstile(tmp_path)
    assert inside.enter()
    assert not gave_up.enter(patience=0.0)
    inside.leave()

    assert third.enter(patience=0.0)

    for turnstile in (inside, gave_up, third):
        turnstile.close()


async def test_a_killed_process_frees_the_turnstile(directory: Path):
    program = """
        from posthouse.backends.sqlite.turnstile import Turnstile
        turnstile = Turnstile(directory)
        assert turnstile.enter()
        tell("inside")
        asked()
    """
    directory.mkdir()
    turnstile = Turnstile(directory)
    async with child(directory, "one", program) as holder:
        assert await holder.line() == "inside"
        assert not turnstile.enter(patience=0.0)

        await holder.kill()

        assert turnstile.enter(patience=0.0)
    turnstile.close()
