"""A number that has turned in a row of a lane, a feed or a stream is told as damage, and the others are listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from posthouse.contracts.store import Books
from posthouse.errors import StoreDamagedError
from posthouse.testing.conformance.stores.bench import SHOP
from tests.unit.backends.sqlite.store.conftest import OpenStore
from tests.unit.backends.sqlite.store.test_damage import change

pytestmark = pytest.mark.anyio


def fill(books: Books) -> None:
    """Write two rows of each kind."""
    for name in ("one", "two"):
        books.open_lane_out(name)
        books.open_feed(f"{name}.note", "told", SHOP, 0)
        books.open_stream(name, 9.0)


CASES: dict[str, tuple[str, Callable[[Books], object], Callable[[Books], list[object]]]] = {
    "posthouse_lanes_out": ("lane out", lambda books: books.lane_to("one"), lambda books: [*books.lanes_out()]),
    "posthouse_feeds": ("feed", lambda books: books.feed_of("one.note", "told", SHOP), lambda books: [*books.feeds()]),
    "posthouse_streams": ("stream", lambda books: books.stream_of("one"), lambda books: [*books.streams()]),
}


@pytest.mark.parametrize("table", list(CASES))
async def test_a_bit_that_turned_in_a_row_is_told_and_the_other_row_is_listed(
    table: str, path: Path, open_file: OpenStore
):
    store = await open_file()
    await store.commit(fill, name="fill")
    what, read, listed = CASES[table]

    change(path, f"UPDATE {table} SET next = next | 64 WHERE rowid = (SELECT min(rowid) FROM {table})")

    with pytest.raises(StoreDamagedError, match=f"the {what} "):
        await store.read(read)
    assert len(await store.read(listed)) == 1
    [said] = await store.read(lambda books: books.damage())
    assert said.startswith(f"the {what} ")
