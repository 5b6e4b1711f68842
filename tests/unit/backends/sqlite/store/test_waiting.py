"""Calls that wait behind others of their key cost nothing until it is their turn, and keep their order."""

from __future__ import annotations

from typing import Any, cast

import apsw
import pytest

from posthouse.backends.sqlite.store import SqliteStore, waiting
from posthouse.contracts.store import Books
from posthouse.protocol.outbox import CallState
from posthouse.testing.conformance.stores import bench
from posthouse.testing.conformance.stores.bench import call, lane_with, numbers
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio


def steps_of(store: SqliteStore, statement: str, values: tuple[Any, ...]) -> int:
    """Return how many steps of its machine SQLite takes for a statement, in tens."""
    connection = cast("apsw.Connection", store._engine.sql.connection)
    tens = 0

    def count() -> bool:
        nonlocal tens
        tens += 1
        return False

    connection.set_progress_handler(count, 10)
    store._engine.sql.execute(statement, values).fetchall()
    connection.set_progress_handler(None)
    return tens


async def test_what_waits_behind_a_held_key_is_not_looked_through(open_file: OpenStore):
    store, taken = await open_file(), list[int]()
    await store.commit(lambda books: lane_with(books, [call(0, key="k")]), name="hold")

    for first in (1, 2001):
        rows = [bench.waiting(number, key="k") for number in range(first, first + 2000)]
        await store.commit(lambda books, rows=rows: books.add_waiting(rows), name="wait")
        taken.append(steps_of(store, waiting.READY, ("stock", 100)))

    assert taken[0] == taken[1]
    assert taken[0] < 20


async def test_the_oldest_is_numbered_first_whoever_went_before(open_file: OpenStore):
    store, order = await open_file(), list[list[int]]()

    def fill(books: Books) -> None:
        lane_with(books, [call(0, key="k")])
        books.add_waiting([bench.waiting(number, key="k") for number in (1, 2, 3)])
        books.add_waiting([bench.waiting(4), bench.waiting(5, key="l"), bench.waiting(6, key="k")])
        for number in (1, 3):  # the first of its key, and one in the middle
            books.drop_waiting(bench.waiting(number).id)
        books.add_waiting([bench.waiting(7, key="l"), bench.waiting(8, key="k")])

    def settle(books: Books) -> None:
        books.set_calls([(CallState.DONE, b"", 1, False, call(0).place)])

    await store.commit(fill, name="fill")
    order.append(numbers(await store.commit(lambda books: books.take_waiting("stock", 10), name="take")))
    await store.commit(settle, name="settle")
    for _ in range(4):
        order.append(numbers(await store.commit(lambda books: books.take_waiting("stock", 10), name="take")))

    assert order == [[4, 5], [2, 7], [6], [8], []]


async def test_what_an_earlier_version_let_wait_side_by_side_goes_in_order(open_file: OpenStore):
    store = await open_file()
    rows = [bench.waiting(number, key="k") for number in (1, 2, 3)]

    def fill(books: Books) -> None:
        for number, row in enumerate(rows[:2]):
            store._engine.sql.execute(waiting.ADD, waiting.call_row(row, number - waiting.HALF))
        books.add_waiting(rows[2:])

    await store.commit(fill, name="fill")

    taken = [numbers(await store.commit(lambda books: books.take_waiting("stock", 9), name="t")) for _ in range(4)]
    assert taken == [[1], [2], [3], []]
