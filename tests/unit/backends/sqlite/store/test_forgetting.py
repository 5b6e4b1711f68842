"""What is counted of the calls that a lane keeps is what is there, whatever went."""

from __future__ import annotations

import pytest

from posthouse.backends.sqlite.store import SqliteStore, forgetting
from posthouse.contracts.store import Books
from posthouse.protocol.outbox import CallState
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import call, lane_with, numbers
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio

COUNT = 3 * forgetting.PORTION + 50


def fill(books: Books) -> None:
    """Store final calls of two lanes."""
    for lane in (1, 2):
        calls = [call(n, lane=lane, state=CallState.DONE, frame=bytes(100), outcome=b"so") for n in range(COUNT)]
        lane_with(books, calls, service=f"s{lane}")


def forget(books: Books, *, older_than: int = 0, keep_bytes: int = 1 << 30, below: int = COUNT) -> int:
    """Forget calls of lane 1."""
    return books.forget_calls(lane=1, below=below, before=NOON + older_than, keep_bytes=keep_bytes)


def counted(store: SqliteStore) -> list[tuple[int, int]]:
    """Return of each portion how many calls are there, and how many bytes they have more than was counted."""
    return store._engine.sql.execute(
        """
        SELECT
          (SELECT count(*) FROM posthouse_calls WHERE place BETWEEN first AND last),
          (SELECT sum(length(frame) + length(outcome)) FROM posthouse_calls WHERE place BETWEEN first AND last) - bytes
        FROM posthouse_kept ORDER BY first
        """
    ).fetchall()


async def test_calls_are_counted_once_in_portions(open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")

    gone = [await store.commit(forget, name="forget") for _ in range(3)]

    assert gone == [0, 0, 0]
    assert counted(store) == [(forgetting.PORTION, 0)] * 3


@pytest.mark.parametrize("age", [1, forgetting.PORTION - 1, forgetting.PORTION, forgetting.PORTION + 1, COUNT - 1])
async def test_what_was_cut_in_two_is_counted_anew(age: int, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")

    gone = await store.commit(lambda books: forget(books, older_than=age), name="forget")

    assert gone == age
    left = [forgetting.PORTION - age % forgetting.PORTION] if age % forgetting.PORTION else []
    whole = 3 - -(-age // forgetting.PORTION)
    expected = [*left, *[forgetting.PORTION] * whole] if whole >= 0 else []
    assert counted(store) == [(count, 0) for count in expected]


async def test_when_all_is_forgotten_nothing_is_counted_any_more(open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")
    await store.commit(forget, name="forget")

    gone = await store.commit(lambda books: forget(books, keep_bytes=0), name="forget")

    assert gone == COUNT
    assert counted(store) == []
    assert len(await store.read(lambda books: books.calls_listed(limit=5000))) == COUNT  # of the other lane


async def test_so_many_bytes_stay_as_was_said_after_others_went_by_age(open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")
    await store.commit(lambda books: forget(books, older_than=300), name="forget")

    await store.commit(lambda books: forget(books, keep_bytes=102 * 200), name="forget")

    listed = await store.read(lambda books: books.calls_listed(service="stock", limit=5000))
    assert numbers([each for each in listed if each.place < 2 << 40]) == list(range(COUNT - 1, COUNT - 201, -1))


async def test_at_most_so_many_are_looked_at_at_once(open_file: OpenStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forgetting, "MOST", 2 * forgetting.PORTION)
    store = await open_file()
    await store.commit(fill, name="fill")

    gone = [await store.commit(lambda books: forget(books, keep_bytes=0), name="forget") for _ in range(4)]

    assert sum(gone) == COUNT
    assert max(gone) <= 2 * forgetting.PORTION
