"""What a subscriber makes of events, and of how streams stand at their publisher: what it takes, asks for, has lost."""

from __future__ import annotations

import pytest

from posthouse.contracts.store import Books, Store
from posthouse.contracts.streams import Feed
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.protocol.epoch import Identity
from posthouse.runtime.steps.feeding import Fed, Feeding, are_ready, subscribe, take_heads
from posthouse.runtime.steps.here import Here
from posthouse.runtime.steps.pulling import Head, Heads
from posthouse.testing.clock import ManualClock
from tests.house import House

pytestmark = pytest.mark.anyio

NAME, TOPIC = "audit.note", "prices.quoted"
STORE = "prices-store"


class Subscriber:
    """The store of a service that hears prices and that nobody serves, and its place."""

    def __init__(self, store: Store, here: Here) -> None:
        self.store = store
        self.here = here

    async def feed(self, opened: int = 1, *, head: int = 0, over: tuple[int, ...] = ()) -> None:
        """Let it have heard a stream up to its head, with some events handled."""

        def step(books: Books) -> None:
            feed = books.open_feed(NAME, TOPIC, Identity(STORE, opened), 0)
            feed.over.add_all(over)
            feed.next = feed.head = head
            books.save_feed(feed)

        await self.store.commit(step, name="feed")

    async def hears(self, *heads: Head, epoch: int = 1, fresh: bool = False, name: str = NAME) -> Fed:
        """Let its publisher say how its streams stand."""
        told = [Heads(name, TOPIC, fresh, list(heads))]
        return await self.store.commit(
            lambda books: take_heads(books, told, Lane(STORE, epoch), self.here, set()), name="heads"
        )

    async def takes(self, *numbers: int, epoch: int = 1, room: int = 1000) -> Fed:
        """Let events of its publisher arrive."""
        some = [event(number, epoch) for number in numbers]
        return await self.store.commit(lambda books: Feeding(books, self.here, lambda _: room).take(some), name="hear")

    async def feeds(self) -> list[Feed]:
        return await self.store.read(lambda books: books.feeds())

    async def letters(self) -> list[str]:
        """Return the reasons of its dead letters."""
        return [letter.reason for letter in await self.store.read(lambda books: books.dead_letters(limit=100))]


def event(number: int, epoch: int) -> tuple[Message, bytes]:
    stamps = Lane(STORE, epoch, "", 0, number, 0, b"", epoch)
    message = Message(Kind.EVENT, f"e{number}", TOPIC, "prices", 0.0, b"{}", Mode.JOURNALED, lane=stamps)
    return message, encode(message)


def gaps(fed: Fed) -> list[tuple[int, int]]:
    return sorted((gap.first, gap.last) for gap in fed.gaps)


@pytest.fixture
async def audit(house: House) -> Subscriber:
    await house.open()
    await house.read("audit", lambda books: None)
    here = Here("audit", peer="peer", now=ManualClock().now, directory=house.hosts[0].directory)
    here.subscriptions = {TOPIC: [NAME]}
    return Subscriber(house._stores["audit"], here)


# --- what is lost -----------------------------------------------------------------------------------------


async def test_what_a_restored_publisher_never_told_is_a_gap(audit: Subscriber):
    await audit.feed(head=7, over=(0, 1, 2, 5))

    fed = await audit.hears(Head(1, 0, 4, 0, []), Head(9, 0, 0, 0, []), epoch=9)

    assert gaps(fed) == [(4, 4), (6, 6)]
    assert fed.behind == {NAME}, "number 3 is still to be had"


async def test_a_life_that_its_publisher_does_not_know_is_lost_with_all_that_was_told_in_it(audit: Subscriber):
    await audit.feed(1, head=2, over=(0, 1))
    await audit.feed(5, head=3, over=(0,))

    fed = await audit.hears(Head(1, 0, 2, 0, []), Head(9, 0, 0, 0, []), epoch=9)

    assert gaps(fed) == [(1, 2)]


async def test_what_lies_behind_an_older_word_of_the_present_life_is_not_lost(audit: Subscriber):
    await audit.feed(head=7)

    fed = await audit.hears(Head(1, 0, 4, 0, []))

    assert gaps(fed) == []


async def test_what_cannot_be_read_any_more_is_lost_but_what_was_had_is_not(audit: Subscriber):
    await audit.feed(head=6, over=(0, 3))
    await audit.takes(2)

    fed = await audit.hears(Head(1, 0, 6, 0, [(1, 4)]))

    assert gaps(fed) == [(1, 1), (4, 4)]


async def test_what_an_earlier_life_still_says_is_not_believed(audit: Subscriber):
    await audit.hears(Head(9, 0, 0, 0, []), epoch=9)

    fed = await audit.hears(Head(1, 0, 4, 0, []), epoch=1)

    assert [feed.publisher.epoch for feed in await audit.feeds()] == [9]
    assert not fed.moved


async def test_a_lost_run_is_told_once_and_is_over(audit: Subscriber):
    await audit.feed(head=2, over=(0, 1))

    first = await audit.hears(Head(1, 5, 5, 0, []))
    again = await audit.hears(Head(1, 5, 5, 0, []))

    assert (gaps(first), gaps(again)) == ([(2, 4)], [])
    assert len(await audit.letters()) == 1
    assert [feed.over.floor for feed in await audit.feeds()] == [5]


async def test_the_handler_of_gaps_is_looked_for_in_the_step_that_learns_of_one(audit: Subscriber):
    audit.here.gap_handlers = {TOPIC: "audit.on_gap.prices.quoted"}
    await audit.feed(head=1)

    fed = await audit.hears(Head(1, 1, 1, 0, []))

    assert fed.backlog == {"audit.on_gap.prices.quoted"}
    assert await audit.letters() == []


# --- a publisher that was put back ------------------------------------------------------------------------


async def test_that_a_publisher_was_put_back_is_told_once_also_where_nothing_is_missing(audit: Subscriber):
    await audit.feed(head=2, over=(0, 1))

    heads = Head(1, 0, 2, 0, []), Head(9, 0, 0, 0, [])
    first = await audit.hears(*heads, epoch=9)
    again = await audit.hears(*heads, epoch=9)

    assert (first.new_lives, again.new_lives) == ({"prices"}, set())
    [reason] = await audit.letters()
    assert "was put back" in reason


async def test_a_publisher_in_its_first_life_is_not_told_as_put_back(audit: Subscriber):
    fed = await audit.hears(Head(1, 0, 2, 0, []))

    assert fed.new_lives == set()
    assert await audit.letters() == []


# --- where a subscription begins --------------------------------------------------------------------------


@pytest.mark.parametrize("is_ready", [False, True])
async def test_what_is_said_to_a_new_subscription_is_too_late_once_nobody_makes_it(audit: Subscriber, is_ready: bool):
    def make(books: Books) -> None:
        subscribe(books, [(NAME, TOPIC)], 7.0)
        if is_ready:
            are_ready(books, [NAME])

    await audit.store.commit(make, name="make")

    fed = await audit.hears(Head(1, 0, 5, 5, []), fresh=True)

    assert fed.asks == {"prices"}
    assert await audit.feeds() == []


async def test_a_subscription_that_is_not_declared_is_not_fed(audit: Subscriber):
    await audit.hears(Head(1, 0, 5, 0, []), name="audit.gone")

    assert await audit.feeds() == []


async def test_a_name_that_hears_another_event_is_made_anew(audit: Subscriber):
    def step(books: Books) -> set[str]:
        subscribe(books, [(NAME, "prices.withdrawn")], 7.0)
        are_ready(books, [NAME])
        return subscribe(books, [(NAME, TOPIC)], 8.0)

    assert await audit.store.commit(step, name="step") == {NAME}


# --- what is taken ----------------------------------------------------------------------------------------


async def test_an_event_of_a_stream_that_is_not_known_is_left_and_its_publisher_asked(audit: Subscriber):
    fed = await audit.takes(0)

    assert (fed.claimed, fed.asks) == ([], {"prices"})


async def test_no_more_events_are_taken_than_there_is_room_for(audit: Subscriber):
    await audit.feed()

    fed = await audit.takes(0, 1, 2, room=2)

    assert [request.id for request, _message in fed.claimed] == ["e0", "e1"]
    assert fed.left == {(NAME, "prices")}


async def test_an_event_beyond_the_window_is_left_and_asked_for(audit: Subscriber):
    audit.here.window = 2
    await audit.feed(head=3)

    fed = await audit.takes(2)

    assert (fed.claimed, fed.asks) == ([], {"prices"})


async def test_an_event_that_is_stored_and_not_over_is_not_taken_again(audit: Subscriber):
    await audit.feed()
    await audit.takes(1)

    fed = await audit.takes(0, 1)

    assert [request.id for request, _message in fed.claimed] == ["e0"]


async def test_an_event_that_an_earlier_life_still_sends_is_not_taken(audit: Subscriber):
    await audit.feed()
    await audit.hears(Head(1, 0, 0, 0, []), Head(9, 0, 0, 0, []), epoch=9)

    fed = await audit.takes(0, epoch=1)

    assert fed.claimed == []
