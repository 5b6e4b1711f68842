"""What goes wrong below a store: the disk is full, does not flush, or another program is in the way."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from posthouse.backends.sqlite.store import SqliteStore, file, groups
from posthouse.contracts.store import Books
from posthouse.errors import DiskFullError, GroupLostError, UnavailableError, UsageError
from posthouse.testing.conformance.stores.bench import order, orders, request
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio

BIG = bytes(200_000)
PATIENCE = 10.0
NEVER = 1000.0


@pytest.fixture(params=["loop", "thread"])
async def store(request: pytest.FixtureRequest, open_file: OpenStore) -> SqliteStore:
    """Give a store whose transactions run on the loop, or in a thread."""
    return await open_file(slow_flush=1000.0 if request.param == "loop" else 0.0)


def allow(store: SqliteStore, pages: int) -> None:
    """Let the file grow by so many pages, as a disk of that size would."""
    sql = store._engine.sql
    [[used]] = sql.execute("PRAGMA page_count").fetchall()
    sql.execute(f"PRAGMA max_page_count = {used + pages}").fetchall()


def add_big(books: Books) -> None:
    """Write more than there is room for."""
    books.add_requests([request(0, frame=BIG)])


def open_lane(books: Books) -> str:
    """Write what there is room for."""
    return books.open_lane_out("stock").service


def nothing(books: Books) -> None:
    """End a delivery."""


async def lanes(store: SqliteStore) -> list[str]:
    """Return the services to which there are lanes."""
    return [lane.service for lane in await store.read(lambda books: books.lanes_out())]


# --- a full disk -----------------------------------------------------------------------------------------------


async def test_a_step_that_finds_no_room_fails_alone_and_works_when_there_is(store: SqliteStore):
    allow(store, 5)

    full = store.commit(add_big, name="big", flush=True)
    fits = store.commit(open_lane, name="small", flush=True)

    with pytest.raises(DiskFullError):
        await full
    assert await fits == "stock"
    allow(store, 1000)
    await store.commit(add_big, name="big")
    assert len(await store.read(lambda books: books.requests_listed())) == 1


async def test_a_handler_that_finds_no_room_is_told_and_takes_nobody_along_for_good(store: SqliteStore):
    allow(store, 5)

    async def handle(number: int) -> None:
        while True:
            tail = await store.tail()
            try:
                await order(tail, number, "x" * 200_000 if number == 1 else "")
                await tail.end(nothing)
            except GroupLostError:
                continue  # as the runtime does
            finally:
                tail.give_up()
            return

    async with asyncio.timeout(PATIENCE):
        ends = await asyncio.gather(*(handle(number) for number in range(4)), return_exceptions=True)

    assert [type(end) for end in ends] == [type(None), DiskFullError, type(None), type(None)]
    assert await orders(store) == [0, 2, 3]


async def test_a_handler_beside_a_step_that_finds_no_room_is_told_to_run_again(store: SqliteStore):
    allow(store, 5)
    tail = await store.tail()
    await order(tail, 1)
    steps: list[asyncio.Future[Any]] = [
        store.commit(add_big, name="big"),
        store.commit(open_lane, name="small", flush=True),
    ]

    ending = tail.end(nothing)

    full, fits = await asyncio.gather(*steps, return_exceptions=True)
    assert isinstance(full, DiskFullError)
    assert fits == "stock"
    with pytest.raises(GroupLostError, match="no room"):  # a full disk rolls back the transaction that they shared
        await ending
    assert await orders(store) == []


# --- a commit that fails ------------------------------------------------------------------------------------------


class FailsToCommit:
    """A cursor whose next COMMIT fails."""

    def __init__(self, inner: Any, times: int) -> None:
        self.inner = inner
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def execute(self, statement: str, *values: Any) -> Any:
        """Pass it on, or fail."""
        if statement == "COMMIT" and self.times:
            self.times -= 1
            self.inner.execute("INSERT INTO posthouse_store VALUES (2, '', 0, '', 0, 0, 0, 0, 0, 0)")  # breaks a CHECK
        return self.inner.execute(statement, *values)


def fail_commits(store: SqliteStore, times: int) -> None:
    """Have the next commits fail."""
    engine: Any = store._engine
    engine.sql = FailsToCommit(engine.sql, times)


async def test_when_the_shared_commit_fails_all_handlers_are_lost_and_the_steps_are_run_again(store: SqliteStore):
    steps: list[asyncio.Future[str]] = []

    async def handle(number: int) -> str:
        tail = await store.tail()
        await order(tail, number)
        if number == 1:
            steps.append(store.commit(open_lane, name="meanwhile", flush=True))
        return await tail.end(lambda books: "done")

    fail_commits(store, 1)

    ends = await asyncio.gather(*(handle(number) for number in range(3)), return_exceptions=True)

    assert [type(end) for end in ends] == [GroupLostError] * 3
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*steps) == ["stock"]
    assert await orders(store) == []
    assert await handle(0) == "done"


async def test_a_handler_alone_is_told_why_its_commit_failed(store: SqliteStore):
    tail = await store.tail()
    await order(tail, 1)
    fail_commits(store, 1)

    with pytest.raises(UnavailableError, match="CHECK constraint"):
        await tail.end(nothing)

    assert await orders(store) == []


async def test_when_the_commit_of_steps_fails_once_each_is_run_again(store: SqliteStore):
    fail_commits(store, 1)

    steps = [store.commit(lambda books, n=n: books.open_lane_out(f"s{n}").lane, name="open") for n in range(3)]

    assert await asyncio.gather(*steps) == [1, 2, 3]


async def test_a_step_that_fails_costs_the_others_one_more_transaction(store: SqliteStore):
    engine: Any = store._engine
    begun: list[str] = []

    class Counts(FailsToCommit):
        def execute(self, statement: str, *values: Any) -> Any:
            begun.extend([statement] * statement.startswith("BEGIN"))
            return self.inner.execute(statement, *values)

    engine.sql = Counts(engine.sql, 0)

    def fail(books: Books) -> None:
        raise UsageError

    steps = [store.commit(fail if n == 5 else nothing, name="step") for n in range(10)]
    ends = await asyncio.gather(*steps, return_exceptions=True)

    assert [type(end) for end in ends].count(UsageError) == 1
    assert len(begun) == 2


# --- a disk that does not flush -----------------------------------------------------------------------------------


async def test_who_needs_a_flush_that_fails_is_told_and_the_others_are_not(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(file, "_flush", fail)

    flushed = store.commit(open_lane, name="flushed", flush=True)
    not_flushed = store.commit(lambda books: len(books.lanes_out()), name="not flushed")

    assert await not_flushed == 1
    with pytest.raises(UnavailableError, match="could not be flushed"):
        await flushed
    tail = await store.tail()
    with pytest.raises(UnavailableError, match="could not be flushed"):
        await tail.end(nothing)
    monkeypatch.undo()
    await store.commit(open_lane_to_mail, name="flushed", flush=True)


def open_lane_to_mail(books: Books) -> None:
    """Write another lane."""
    books.open_lane_out("mail")


async def test_what_needs_no_flush_is_not_flushed(store: SqliteStore, monkeypatch: pytest.MonkeyPatch):
    flushes: list[int] = []
    monkeypatch.setattr(file, "_flush", flushes.append)

    await store.commit(open_lane, name="not flushed")
    await store.read(lambda books: books.lanes_out())
    none = list(flushes)
    await asyncio.gather(*(store.commit(nothing, name="flushed", flush=True) for _ in range(10)))

    assert none == []
    assert len(flushes) == 1


async def test_when_the_file_was_replaced_nobody_is_told_that_all_is_well(store: SqliteStore, path: Path):
    await store.commit(open_lane, name="before", flush=True)
    path.rename(path.with_suffix(".moved"))

    with pytest.raises(UnavailableError, match="replaced"):
        await store.commit(open_lane_to_mail, name="after", flush=True)


# --- others in the way ------------------------------------------------------------------------------------------------


async def test_who_waits_for_another_process_for_too_long_is_told(
    store: SqliteStore, open_file: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(groups, "STUCK", 0.05)
    other = await open_file("two")
    holding = await store.tail()

    step = other.commit(open_lane, name="open")
    waits = asyncio.ensure_future(other.tail())

    with pytest.raises(UnavailableError, match="another process"):
        await step
    with pytest.raises(UnavailableError, match="another process"):
        await waits
    holding.give_up()
    assert await other.commit(open_lane, name="open") == "stock"


async def test_reading_needs_no_slot(store: SqliteStore, open_file: OpenStore):
    other = await open_file("two")
    store.hold_limit = NEVER
    holding = await store.tail()
    await order(holding, 1)

    async with asyncio.timeout(PATIENCE):
        found = await other.read(lambda books: books.lanes_out())
        mine = await store.read(lambda books: books.lanes_out())
        seen = await orders(store)

    assert (found, mine, seen) == ([], [], [])
    holding.give_up()


async def test_steps_that_were_given_before_a_handler_came_do_not_wait_for_it(store: SqliteStore):
    store.hold_limit = NEVER
    step = store.commit(open_lane, name="open", flush=True)
    tail = await store.tail()
    await order(tail, 1)

    async with asyncio.timeout(PATIENCE):
        assert await step == "stock"

    tail.give_up()


async def test_a_statement_that_takes_too_long_in_the_thread_is_broken_off(open_file: OpenStore):
    store = await open_file(slow_flush=0.0)
    store.hold_limit = 0.05
    tail = await store.tail()

    with pytest.raises(Exception, match="held the store's write slot") as refusal:
        await tail.execute("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")

    assert getattr(refusal.value, "code", "") == "store.held"
    assert await store.commit(open_lane, name="open") == "stock"


async def test_steps_beyond_what_one_transaction_takes_are_all_done_in_order(store: SqliteStore):
    steps = [
        store.commit(lambda books, n=n: books.open_lane_out(f"s{n}").lane, name="open")
        for n in range(2 * groups.ENOUGH + 1)
    ]

    assert await asyncio.gather(*steps) == list(range(1, 2 * groups.ENOUGH + 2))
