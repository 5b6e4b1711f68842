"""Streams: what a publisher keeps of the events that it told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from posthouse.contracts.streams import Stream, Told
from posthouse.errors import UsageError
from posthouse.protocol.lane import place_of
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import OnOneStore

if TYPE_CHECKING:
    from posthouse.contracts.store import Books, Store

QUOTED = "prices.quoted"
FOREVER = 1000


def told(number: int, *, stream: int = 1, **changed: Any) -> Told:
    """Return an event; it was stored so many seconds after noon, and its frame has ten bytes."""
    values: dict[str, Any] = {"id": f"{stream:04x}{number:028x}", "frame": b"%010d" % number, "at": NOON + number}
    return Told(place=place_of(stream, number), **{**values, **changed})


def stream_with(books: Books, count: int, *, topic: str = QUOTED) -> Stream:
    """Open a stream with so many events."""
    stream = books.open_stream(topic, 60.0)
    books.add_events([told(number, stream=stream.stream) for number in range(count)])
    stream.next, stream.bytes = count, 10 * count
    books.save_stream(stream)
    return stream


class StreamTests(OnOneStore):
    """The publisher's side."""

    async def numbers(self, store: Store, first: int = 0, last: int = FOREVER, limit: int = FOREVER) -> list[int]:
        """Return the numbers of events of the first stream."""
        found = await store.read(lambda books: books.events(1, first, last, limit))
        return [each.place - place_of(1, 0) for each in found]

    async def test_a_new_stream_is_of_the_present_epoch_and_empty(self, store: Store, other: Store):
        before = await store.read(lambda books: books.stream_of(QUOTED))

        opened = await store.commit(lambda books: books.open_stream(QUOTED, 60.0), name="open")

        assert before is None
        assert opened == Stream(1, QUOTED, store.identity.epoch, retain=60.0)
        assert await other.read(lambda books: books.stream_of(QUOTED)) == opened
        assert await other.read(lambda books: books.stream_of("prices.dropped")) is None

    async def test_a_stream_is_as_it_was_saved(self, store: Store, other: Store):
        saved = Stream(1, QUOTED, store.identity.epoch, next=9, first=4, bytes=77, retain=5.5)
        await store.commit(lambda books: books.open_stream(QUOTED, 60.0), name="open")
        dropped = await store.commit(lambda books: books.open_stream("prices.dropped", 60.0), name="open")

        await store.commit(lambda books: books.save_stream(saved), name="save")

        assert await other.read(lambda books: books.streams()) == [saved, dropped]
        assert await other.read(lambda books: books.streams(QUOTED)) == [saved]

    async def test_a_stream_that_was_dropped_is_not_there_any_more(self, store: Store):
        await store.commit(lambda books: stream_with(books, 0), name="make")
        await store.commit(lambda books: stream_with(books, 1, topic="prices.dropped"), name="make")

        await store.commit(lambda books: books.drop_stream(1), name="drop")

        assert [each.stream for each in await store.read(lambda books: books.streams())] == [2]
        assert await store.read(lambda books: books.stream_of(QUOTED)) is None
        assert len(await store.read(lambda books: books.events(2, 0, 9, 9))) == 1

    # --- events -----------------------------------------------------------------------------------------------

    async def test_events_are_found_in_order_as_they_were_stored(self, store: Store, other: Store):
        whole = told(1, frame=bytes(range(256)) * 40, at=NOON + 0.125)

        await store.commit(lambda books: books.add_events([told(2), whole, told(0), told(3)]), name="add")

        assert await other.read(lambda books: books.events(1, 0, 3, 9)) == [told(0), whole, told(2), told(3)]

    async def test_events_are_those_from_the_first_to_the_last_at_most_so_many(self, store: Store):
        def make(books: Books) -> None:
            stream_with(books, 6)
            stream_with(books, 6, topic="prices.dropped")

        await store.commit(make, name="make")

        assert await self.numbers(store, 2, 4) == [2, 3, 4]
        assert await self.numbers(store, 2, FOREVER, 3) == [2, 3, 4]
        assert await self.numbers(store, 4, FOREVER) == [4, 5]
        assert await self.numbers(store, 6, FOREVER) == []
        assert await self.numbers(store, 0, 5, 0) == []

    async def test_a_number_of_a_stream_is_taken_once_and_the_slip_leaves_nothing(self, store: Store):
        await store.commit(lambda books: books.add_events([told(0)]), name="add")

        with pytest.raises(UsageError):
            await store.commit(lambda books: books.add_events([told(1), told(0, id="another")]), name="again")

        assert await self.numbers(store) == [0]

    async def test_of_an_id_the_newest_event_is_found(self, store: Store):
        events = [told(0), told(1), told(2, id=told(0).id)]

        await store.commit(lambda books: books.add_events(events), name="add")

        assert await store.read(lambda books: books.event(told(0).id)) == events[2]
        assert await store.read(lambda books: books.event(told(1).id)) == events[1]
        assert await store.read(lambda books: books.event("nobody")) is None

    async def test_the_first_since_a_moment_is_the_lowest_that_was_not_stored_before_it(self, store: Store):
        stream = await store.commit(lambda books: stream_with(books, 7), name="make")

        async def first_since(seconds: float) -> int:
            return await store.read(lambda books: books.first_since(stream, NOON + seconds))

        assert [await first_since(seconds) for seconds in (-9, 0, 0.5, 1, 3, 5.5, 6, 6.5)] == [0, 0, 1, 1, 3, 6, 6, 7]

    async def test_the_first_since_a_moment_is_one_that_is_kept(self, store: Store):
        def make(books: Books) -> Stream:
            stream = stream_with(books, 7)
            stream_with(books, 3, topic="prices.dropped")
            stream.first, _ = books.drop_events(1, before=NOON + 4, surplus=0, limit=9)
            books.save_stream(stream)
            return stream

        stream = await store.commit(make, name="make")
        empty = Stream(9, "prices.none", 1)

        assert await store.read(lambda books: books.first_since(stream, NOON)) == 4
        assert await store.read(lambda books: books.first_since(stream, NOON + 99)) == 7
        assert await store.read(lambda books: books.first_since(empty, NOON)) == 0

    # --- retention ----------------------------------------------------------------------------------------------

    async def test_events_that_were_stored_before_a_moment_are_dropped(self, store: Store):
        def make(books: Books) -> None:
            stream_with(books, 5)
            stream_with(books, 5, topic="prices.dropped")

        await store.commit(make, name="make")

        dropped = await store.commit(lambda books: books.drop_events(1, before=NOON + 2, surplus=0, limit=9), name="d")

        assert dropped == (2, 20)
        assert await self.numbers(store) == [2, 3, 4]
        assert len(await store.read(lambda books: books.events(2, 0, 9, 9))) == 5

    async def test_the_oldest_events_are_dropped_until_so_many_bytes_went(self, store: Store):
        await store.commit(lambda books: stream_with(books, 5), name="make")

        dropped = await store.commit(lambda books: books.drop_events(1, before=0, surplus=11, limit=9), name="drop")

        assert dropped == (2, 20)
        assert await self.numbers(store) == [2, 3, 4]

    async def test_no_more_events_are_dropped_at_once_than_are_allowed(self, store: Store):
        await store.commit(lambda books: stream_with(books, 5), name="make")

        def drop(books: Books) -> tuple[int, int]:
            return books.drop_events(1, before=NOON + 99, surplus=99, limit=3)

        assert await store.commit(drop, name="drop") == (3, 30)
        assert await self.numbers(store) == [3, 4]
        assert await store.commit(drop, name="drop") == (-1, 20)
        assert await store.commit(drop, name="drop") == (-1, 0)

    async def test_nothing_is_dropped_that_is_neither_old_nor_too_much(self, store: Store):
        await store.commit(lambda books: stream_with(books, 3), name="make")

        dropped = await store.commit(lambda books: books.drop_events(1, before=NOON, surplus=0, limit=9), name="drop")

        assert dropped == (0, 0)
        assert await self.numbers(store) == [0, 1, 2]
