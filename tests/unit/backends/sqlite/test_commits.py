"""Group commit: who shares a transaction, who fails alone, and what a slow disk changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from pathlib import Path

import pytest

from posthouse.backends.sqlite import Database, commits
from posthouse.backends.sqlite.sql import Sql
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec, Rejected
from posthouse.errors import QueueUnknownError, UnavailableError
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.children import PATIENCE
from tests.unit.backends.sqlite.conftest import OpenTransport

pytestmark = pytest.mark.anyio


class Flushes:
    """Counts the flushes, and fails them to order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.failure: OSError | None = None
        monkeypatch.setattr(commits, "flush", self._flush)

    def _flush(self, file: int) -> None:
        assert file > 0
        self.count += 1
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> Flushes:
    """Count the flushes from now on."""
    return Flushes(monkeypatch)


async def test_all_sends_of_a_turn_share_one_flush(open_transport: OpenTransport, flushes: Flushes):
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello"))
    flushes.count = 0

    await asyncio.gather(*(transport.send([Outgoing("hello", b"tea")]) for _ in range(100)))

    assert flushes.count == 1


async def test_what_is_confirmed_is_flushed_and_what_may_be_repeated_is_not(
    open_transport: OpenTransport, flushes: Flushes
):
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello"))
    flushes.count = 0

    async def flushed(work: Awaitable[object]) -> int:
        before = flushes.count
        await work
        return flushes.count - before

    assert await flushed(transport.send([Outgoing("hello", b"1"), Outgoing("hello", b"2")])) == 1
    first, second = await transport.receive("hello", credit=2)
    assert await flushed(transport.renew([first, second])) == 0
    assert await flushed(transport.settle([(first, ACCEPTED)])) == 0
    assert await flushed(transport.settle([(second, Rejected("failed", "c", "r"))])) == 1


async def test_without_flush_nothing_is_flushed(
    directory: Path, clock: ManualClock, open_transport: OpenTransport, flushes: Flushes
):
    transport = await open_transport("one", database=Database(directory, clock=clock, flush="normal"))
    await transport.declare(QueueSpec("hello"))

    await transport.send([Outgoing("hello", b"tea")])

    assert flushes.count == 0


async def test_a_flush_that_fails_confirms_nothing_and_the_next_one_does(
    open_transport: OpenTransport, flushes: Flushes
):
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello"))
    flushes.failure = OSError(5, "Input/output error")

    with pytest.raises(UnavailableError, match="Input/output error"):
        await transport.send([Outgoing("hello", b"tea")])

    flushes.failure = None
    await transport.send([Outgoing("hello", b"tea")])


async def test_an_operation_that_fails_takes_none_of_its_turn_with_it(directory: Path, clock: ManualClock):
    database = Database(directory, clock=clock)
    await database.open()

    def note(sql: Sql, name: str) -> None:
        sql.execute("INSERT INTO subscriptions VALUES (?, '', '', 0, 1)", (name,))

    def fail(sql: Sql) -> None:
        note(sql, "from the failing one")
        raise QueueUnknownError("there is none")

    before = database.call(lambda sql: note(sql, "before"))
    failing = database.call(fail)
    after = database.call(lambda sql: note(sql, "after"))

    await before
    with pytest.raises(QueueUnknownError):
        await failing
    await after
    rows = await database.call(lambda sql: sql.execute("SELECT name FROM subscriptions ORDER BY name").fetchall())
    assert rows == [("after",), ("before",)]
    await database.close()


async def test_an_engine_error_fails_its_own_operation_and_the_others_are_done(directory: Path, clock: ManualClock):
    database = Database(directory, clock=clock)
    await database.open()

    before = database.call(lambda sql: sql.execute("INSERT INTO subscriptions VALUES ('a', '', '', 0, 1)"))
    failing = database.call(lambda sql: sql.execute("INSERT INTO subscriptions VALUES (NULL, '', '', 0, 1)"))

    await before
    with pytest.raises(UnavailableError):
        await failing
    assert await database.call(lambda sql: sql.execute("SELECT name FROM subscriptions").fetchall()) == [("a",)]
    await database.close()


async def test_on_a_slow_disk_the_transactions_run_in_a_thread(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    database = Database(directory, clock=clock, slow_flush=-1.0)
    await open_transport("one", database=database)

    thread = await database.call(lambda _: threading.current_thread())

    assert thread is not threading.main_thread()


async def test_on_a_fast_disk_they_run_on_the_loop_and_no_thread_is_left(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    before = set(threading.enumerate())
    database = Database(directory, clock=clock, slow_flush=1000.0)
    await open_transport("one", database=database)

    thread = await database.call(lambda _: threading.current_thread())

    assert thread is threading.main_thread()
    async with asyncio.timeout(PATIENCE):  # the one that opened it is told to end, and not waited for
        while set(threading.enumerate()) - before:
            await asyncio.sleep(0)


async def test_a_closed_transport_says_so(open_transport: OpenTransport):
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello"))
    await transport.close()

    with pytest.raises(UnavailableError, match="not open"):
        transport.send([Outgoing("hello", b"tea")])
    with pytest.raises(UnavailableError, match="not open"):
        await transport.receive("hello", credit=1)
    with pytest.raises(UnavailableError, match="not open"):
        await transport.queues()
