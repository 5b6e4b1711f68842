"""Real processes on one file: what was flushed survives who dies, and the dead are seen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from posthouse.backends.sqlite.store.processes import Process, is_gone, this_process
from posthouse.contracts.store import Books
from posthouse.testing.conformance.stores.bench import orders, running
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio

PATIENCE = 30.0

BEGINNING = """
import asyncio, sys, time
from pathlib import Path
from posthouse.backends.sqlite.store import FileEngine, SqliteStore
from posthouse.clock import SystemClock
from posthouse.testing.conformance.stores.bench import TABLES, order, request

directory, instance = Path(sys.argv[1]), sys.argv[2]
engine = FileEngine(directory, service="prices", slow_flush=float(sys.argv[3]))
store = SqliteStore(engine, service="prices", instance=instance, clock=SystemClock())

def tell(*words):
    print(*words, flush=True)

def asked():
    return sys.stdin.readline().strip()
"""


class Child:
    """A running process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def line(self) -> str:
        """Return the next line that it prints; empty at its end."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = (await self._process.stdout.readline()).decode().strip()
        if line:
            self.lines.append(line)
        return line

    def ask(self, word: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")

    async def kill(self) -> None:
        """End it as no program can prevent, and read what it had still to say."""
        self._process.send_signal(signal.SIGKILL)
        while await self.line():
            pass
        await self._process.wait()


@asynccontextmanager
async def child(directory: Path, instance: str, program: str, *, thread: bool = False) -> AsyncGenerator[Child]:
    """Run a program in a process of its own; it is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        BEGINNING + dedent(program),
        str(directory),
        instance,
        "0" if thread else "1000",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # asyncio closes the pipes with the transport, one turn later
        process._transport.close()  # pyright: ignore
        await asyncio.sleep(0)


WRITES = """
    async def write(number):
        await store.commit(
            lambda books: books.add_requests([request(number, lane=int(instance))]), name="add", flush=True
        )
        tell(number)

    async def main():
        await store.open(schema=TABLES)
        tell("ready")
        asked()
        number = 0
        while True:
            await asyncio.gather(*(write(number + n) for n in range(10)))
            number += 10

    asyncio.run(main())
"""

HANDLES = """
    async def handle(number):
        tail = await store.tail()
        await order(tail, 1_000_000 * int(instance) + number)
        await tail.end(lambda books: books.add_requests([request(number, lane=int(instance))]))
        tell(number)

    async def main():
        await store.open(schema=TABLES)
        tell("ready")
        asked()
        number = 0
        while True:
            await asyncio.gather(*(handle(number + n) for n in range(10)))
            number += 10

    asyncio.run(main())
"""


@pytest.mark.parametrize("thread", [False, True])
async def test_what_a_killed_process_was_told_of_is_there(thread: bool, directory: Path, open_file: OpenStore):
    async with child(directory, "1", WRITES, thread=thread) as one, child(directory, "2", WRITES, thread=thread) as two:
        for each in (one, two):
            assert await each.line() == "ready"
        for each in (one, two):
            each.ask("go")
        for _ in range(300):
            await asyncio.gather(one.line(), two.line())

        await asyncio.gather(one.kill(), two.kill())

    store = await open_file()
    for lane, each in ((1, one), (2, two)):
        told = {int(word) for word in each.lines[1:]}
        stored = set(await store.read(lambda books, lane=lane: books.known(lane, 0, 1 << 30)))
        assert len(told) >= 300
        assert told <= stored


@pytest.mark.parametrize("thread", [False, True])
async def test_a_killed_process_leaves_each_handler_whole_or_not_at_all(
    thread: bool, directory: Path, open_file: OpenStore
):
    async with child(directory, "1", HANDLES, thread=thread) as one, child(directory, "2", HANDLES) as two:
        for each in (one, two):
            assert await each.line() == "ready"
        for each in (one, two):
            each.ask("go")
        for _ in range(200):
            await asyncio.gather(one.line(), two.line())

        await asyncio.gather(one.kill(), two.kill())

    store = await open_file()
    known = [await store.read(lambda books, lane=lane: books.known(lane, 0, 1 << 30)) for lane in (1, 2)]
    ended = sorted(1_000_000 * lane + number for lane, numbers in zip((1, 2), known, strict=True) for number in numbers)
    assert await orders(store) == ended
    assert {int(word) for word in one.lines[1:]} <= set(known[0])


async def test_the_open_transaction_of_a_killed_process_is_gone_and_others_go_on(directory: Path, open_file: OpenStore):
    program = """
        async def main():
            await store.open(schema=TABLES)
            tail = await store.tail()
            await order(tail, 1)
            tell("inside")
            asked()

        asyncio.run(main())
    """
    store = await open_file()
    async with child(directory, "1", program) as holder:
        assert await holder.line() == "inside"
        waits = asyncio.ensure_future(store.tail())

        await holder.kill()

        async with asyncio.timeout(PATIENCE):
            tail = await waits
    tail.give_up()
    assert await orders(store) == []


async def test_of_two_processes_that_write_without_pause_each_gets_its_turn(directory: Path):
    async with child(directory, "1", HANDLES) as one, child(directory, "2", HANDLES) as two:
        for each in (one, two):
            assert await each.line() == "ready"
        for each in (one, two):
            each.ask("go")

        async def count(each: Child) -> None:
            while len(one.lines) + len(two.lines) < 1500:
                await each.line()

        await asyncio.gather(count(one), count(two))
        shares = [len(one.lines), len(two.lines)]

    assert min(shares) >= sum(shares) / 5, shares


# --- who is dead -----------------------------------------------------------------------------------------------------

BEATS = """
    async def main():
        await store.open(schema=TABLES)
        await store.commit(lambda books: books.beat(instance, 4e9), name="beat")
        tell("beaten")
        asked()

    asyncio.run(main())
"""


async def test_a_killed_process_is_dead_at_once_and_one_that_lives_is_not(directory: Path, open_file: OpenStore):
    store = await open_file()
    async with child(directory, "11", BEATS) as dying, child(directory, "22", BEATS) as living:
        assert (await dying.line(), await living.line()) == ("beaten", "beaten")
        before = await store.read(lambda books: books.dead(0.0))

        await dying.kill()

        assert (before, await store.read(lambda books: books.dead(0.0))) == ([], ["11"])
        living.ask("end")


async def test_what_an_instance_of_this_process_runs_makes_it_not_dead(open_file: OpenStore):
    store = await open_file()

    def run(books: Books) -> list[str]:
        books.beat("one", 4e9)
        books.add_requests([running(0)])
        return books.dead(0.0)

    assert await store.commit(run, name="run") == []


def test_a_process_is_known_by_more_than_its_number():
    ours = this_process()

    assert ours.pid == os.getpid()
    assert not is_gone(ours)
    assert is_gone(ours._replace(started=ours.started - 1))  # another one had the number before
    assert is_gone(ours._replace(pid=4_194_305))  # more than Linux gives out


def test_a_process_of_another_namespace_or_another_boot_is_not_judged():
    nobody = this_process()._replace(pid=4_194_305)

    assert not is_gone(nobody._replace(namespace=nobody.namespace + 1))
    assert not is_gone(nobody._replace(boot="another"))
    assert not is_gone(Process())


def test_a_process_that_has_ended_and_was_not_waited_for_is_gone():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()

        assert fields[0] == "Z"
        assert is_gone(this_process()._replace(pid=pid, started=int(fields[19])))
    finally:
        os.waitpid(pid, 0)


def test_what_tells_processes_apart_can_be_stored():
    assert Process(*json.loads(json.dumps(this_process()))) == this_process()
