"""Feeds: what a subscriber knows of the streams of others, and the events that it has to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthouse.contracts.streams import Feed, Subscribed
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import SELF, Numbers
from posthouse.protocol.stream import FEEDS, is_of_feed
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import OnOneStore, request, running
from posthouse.testing.conformance.stores.letters import letter

if TYPE_CHECKING:
    from posthouse.contracts.store import Books, Store
    from posthouse.protocol.inbox import Request

NOTE, MAIL = "audit.note", "audit.mail"
QUOTED, DROPPED = "prices.quoted", "prices.dropped"
PRICES = Identity("prices-store", 3)


def event(number: int, *, lane: int = FEEDS, **changed: Any) -> Request:
    """Return the row of an event that arrived."""
    values: dict[str, Any] = {"operation": NOTE, "digest": b"", **changed}
    return request(number, lane=lane, **values)


def runs(number: int, *, lane: int = FEEDS, **changed: Any) -> Request:
    """Return the row of an event that runs."""
    values: dict[str, Any] = {"operation": NOTE, "digest": b"", **changed}
    return running(number, lane=lane, **values)


def feed(
    books: Books, subscription: str = NOTE, topic: str = QUOTED, *, publisher: Identity = PRICES, begins: int = 0
) -> Feed:
    """Open a feed."""
    return books.open_feed(subscription, topic, publisher, begins)


class FeedTests(OnOneStore):
    """The subscriber's side."""

    # --- subscriptions ------------------------------------------------------------------------------------------

    async def test_a_subscription_keeps_the_time_of_its_first_entry(self, store: Store, other: Store):
        first = await store.commit(lambda books: books.subscribe(NOTE, QUOTED, NOON), name="subscribe")

        again = await other.commit(lambda books: books.subscribe(NOTE, QUOTED, NOON + 9), name="subscribe")

        assert first == again == Subscribed(NOTE, QUOTED, NOON)
        assert await other.read(lambda books: books.subscribed()) == [first]

    async def test_a_subscription_to_another_topic_than_before_is_a_new_one(self, store: Store):
        def make(books: Books) -> None:
            books.subscribe(NOTE, QUOTED, NOON)
            books.subscribe(MAIL, QUOTED, NOON + 1)
            feed(books)

        await store.commit(make, name="make")

        changed = await store.commit(lambda books: books.subscribe(NOTE, DROPPED, NOON + 9), name="subscribe")

        assert changed == Subscribed(NOTE, DROPPED, NOON + 9)
        assert await store.read(lambda books: books.subscribed()) == [Subscribed(MAIL, QUOTED, NOON + 1), changed]
        assert [each.topic for each in await store.read(lambda books: books.feeds(NOTE))] == [QUOTED]

    async def test_what_is_unsubscribed_is_gone_with_its_feeds_its_rows_and_its_dead_letters(self, store: Store):
        def make(books: Books) -> None:
            books.subscribe(NOTE, QUOTED, NOON)
            books.subscribe(MAIL, QUOTED, NOON)
            lanes = [feed(books).lane, feed(books, topic=DROPPED).lane, feed(books, MAIL).lane]
            states = [RequestState.RECEIVED, RequestState.RUNNING, RequestState.SUSPENDED, RequestState.PARKED]
            for lane in lanes:
                books.add_requests([event(number, lane=lane, state=state) for number, state in enumerate(states)])
                books.add_dead(letter(place=event(3, lane=lane).place))
            books.add_requests([request(0), request(1, lane=SELF)])
            books.add_dead(letter(place=request(0).place))

        await store.commit(make, name="make")

        gone = await store.commit(lambda books: books.unsubscribe(NOTE), name="unsubscribe")

        assert gone == 8
        assert [each.name for each in await store.read(lambda books: books.subscribed())] == [MAIL]
        assert [each.subscription for each in await store.read(lambda books: books.feeds())] == [MAIL]
        left = await store.read(lambda books: books.requests_listed())
        assert sorted(each.place for each in left) == sorted(
            [request(0).place, request(1, lane=SELF).place, *(event(n, lane=FEEDS + 2).place for n in range(4))]
        )
        letters = await store.read(lambda books: books.dead_letters())
        assert [each.place for each in letters] == [event(3, lane=FEEDS + 2).place, request(0).place]
        assert await store.commit(lambda books: books.unsubscribe(NOTE), name="unsubscribe") == 0

    # --- feeds ----------------------------------------------------------------------------------------------------

    async def test_a_new_feed_has_a_lane_above_those_of_requests_and_begins_where_it_was_told(
        self, store: Store, other: Store
    ):
        opened = await store.commit(lambda books: feed(books, begins=7), name="open")

        assert opened == Feed(opened.lane, PRICES, NOTE, QUOTED, Numbers(7), 7, 7)
        assert is_of_feed(opened.lane)
        assert await other.read(lambda books: books.feed_of(NOTE, QUOTED, PRICES)) == opened
        assert await other.read(lambda books: books.feed(opened.lane)) == opened

    async def test_a_feed_is_that_of_its_subscription_topic_store_and_epoch(self, store: Store):
        later, elsewhere = Identity(PRICES.id, 4), Identity("another-store", 3)

        def make(books: Books) -> list[int]:
            feeds = [feed(books), feed(books, MAIL), feed(books, topic=DROPPED)]
            feeds += [feed(books, publisher=later), feed(books, publisher=elsewhere)]
            return [each.lane for each in feeds]

        def find(books: Books) -> list[int | None]:
            asked = [(NOTE, QUOTED, PRICES), (MAIL, QUOTED, PRICES), (NOTE, DROPPED, PRICES)]
            asked += [(NOTE, QUOTED, later), (NOTE, QUOTED, elsewhere), (MAIL, QUOTED, later)]
            found = [books.feed_of(*each) for each in asked]
            return [each and each.lane for each in found]

        lanes = await store.commit(make, name="make")

        assert len(set(lanes)) == 5
        assert await store.read(find) == [*lanes, None]
        assert await store.read(lambda books: books.feed(1)) is None

    async def test_a_feed_is_as_it_was_saved(self, store: Store, other: Store):
        saved = Feed(FEEDS, PRICES, NOTE, QUOTED, Numbers(2, [(4, 7), (9, 9)]), 12, 30)
        await store.commit(feed, name="open")
        another = await store.commit(lambda books: feed(books, MAIL), name="open")

        await store.commit(lambda books: books.save_feed(saved), name="save")

        assert await other.read(lambda books: books.feeds()) == [saved, another]

    async def test_feeds_are_listed_by_subscription_and_by_topic_the_oldest_first(self, store: Store):
        def make(books: Books) -> None:
            for subscription, topic in ((NOTE, QUOTED), (MAIL, QUOTED), (NOTE, DROPPED)):
                feed(books, subscription, topic)

        await store.commit(make, name="make")

        async def lanes(subscription: str = "", topic: str = "") -> list[int]:
            found = await store.read(lambda books: books.feeds(subscription, topic))
            return [each.lane - FEEDS for each in found]

        assert await lanes() == [0, 1, 2]
        assert await lanes(NOTE) == [0, 2]
        assert await lanes(topic=QUOTED) == [0, 1]
        assert await lanes(NOTE, QUOTED) == [0]
        assert await lanes("nobody") == []

    async def test_the_number_of_a_feed_that_is_gone_is_not_given_again(self, store: Store):
        def make(books: Books) -> tuple[int, int]:
            before = feed(books).lane
            books.unsubscribe(NOTE)
            return before, feed(books).lane

        before, after = await store.commit(make, name="make")

        assert before != after

    # --- rows of events -------------------------------------------------------------------------------------------

    async def test_there_are_the_numbers_that_are_stored_rising(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([event(number) for number in (8, 2, 3, 5)])
            books.add_requests([event(4, lane=FEEDS + 1), request(4)])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.there(FEEDS, 0, 99)) == [2, 3, 5, 8]
        assert await store.read(lambda books: books.there(FEEDS, 3, 5)) == [3, 5]
        assert await store.read(lambda books: books.there(FEEDS, 6, 7)) == []

    async def test_a_run_is_ended_by_the_attempt_that_holds_it_and_its_row_goes(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([runs(0), runs(1, attempt=2), runs(2, instance="two"), event(3, attempt=1), runs(4)])

        def end(books: Books) -> list[bool]:
            rows = [(event(number).place, 1) for number in (4, 0, 1, 2, 3, 77, 0)]
            return books.end_runs(iter(rows), instance="one")

        await store.commit(make, name="make")

        assert await store.commit(end, name="end") == [True, True, False, False, False, False, False]
        assert await store.read(lambda books: books.there(FEEDS, 0, 99)) == [1, 2, 3]
        assert await store.commit(lambda books: books.end_runs((), instance="one"), name="end") == []

    async def test_rows_of_events_are_claimed_found_and_counted_as_those_of_requests(self, store: Store):
        def make(books: Books) -> None:
            feed(books)
            books.add_requests([event(0), event(1, state=RequestState.PARKED), runs(2)])
            books.claim("two", [event(0).place])
            books.beat("one", NOON + 9)
            books.beat("two", NOON + 9)

        await store.commit(make, name="make")

        listed = await store.read(lambda books: books.requests_listed())
        assert [each.place for each in listed] == [event(number).place for number in (2, 1, 0)]
        assert await store.read(lambda books: books.requests_listed(lane=FEEDS)) == listed
        assert [each.instance for each in listed] == ["one", "", "two"]
        assert await store.read(lambda books: books.dead(NOON)) == []
        assert (await store.read(lambda books: books.counts())).requests == {NOTE: {"parked": 1, "running": 2}}
        tallies = await store.read(lambda books: books.request_tallies())
        assert {each.lane for each in tallies} == {FEEDS}
        assert [each.lane for each in await store.read(lambda books: books.lanes_in())] == [SELF]
