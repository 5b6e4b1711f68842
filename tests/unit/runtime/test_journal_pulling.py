"""What a publisher answers to those who ask what they miss: how its streams stand, in all lives of its store."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from posthouse.contracts.streams import Stream, Told
from posthouse.errors import UnavailableError
from posthouse.message.codec import decode, encode
from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import place_of
from posthouse.runtime.journal.publisher import Publisher
from posthouse.runtime.steps import pulling
from posthouse.runtime.steps.here import Here
from posthouse.runtime.steps.pulling import NOTHING, Head, Known, Want, answer, heads_of, pull
from posthouse.runtime.steps.telling import Telling
from posthouse.testing.clock import ManualClock


class Life:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch


def told(stream: int, number: int) -> Told:
    """Return an event as it was stored: with the stamps of the life in which it was told."""
    epoch = {1: 1, 2: 9}[stream]
    stamps = Lane("store", epoch, "", 0, number, 0, b"", epoch)
    message = Message(
        Kind.EVENT, f"{stream}/{number}", "prices.quoted", "prices", 0.0, b"{}", Mode.JOURNALED, lane=stamps
    )
    return Told(place_of(stream, number), message.id, encode(message), 0.0)


class Pages:
    """The books of a publisher whose store was put back twice, and told nothing in its second life."""

    identity = Identity("store", 9)

    def lives(self) -> list[Life]:
        return [Life(1), Life(4), Life(9)]

    def streams(self, topic: str) -> list[Stream]:
        return [Stream(1, topic, 1, next=7, first=3), Stream(2, topic, 9, next=2)]

    def events(self, stream: int, first: int, last: int, limit: int) -> list[Told]:
        """Return what is kept of 3 to 6 of the first stream, where 4 and 6 cannot be read, and of the other one."""
        kept = {1: (3, 5), 2: (0, 1)}[stream]
        return [told(stream, number) for number in kept if first <= number <= last][:limit]

    def first_since(self, stream: Stream, at: float) -> int:
        return stream.first if at < 0 else 5


def here() -> Here:
    return Here("prices", peer="peer", now=ManualClock().now, directory=cast("Any", None))


def asked(*known: Known, created: float = 1000.0, fresh: bool = True, first: bool = False) -> Message:
    want = Want("audit.note", "prices.quoted", created=created, fresh=fresh, first=first, streams=list(known))
    return pull([want], service="prices", here=here())


def answered(question: Message) -> tuple[list[Message], list[Head]]:
    """Return the events that are sent, and what is said of the streams."""
    books: Any = Pages()
    frames, word = answer(books, question, here())
    [heads] = heads_of(word.data)
    return [decode(frame) for frame in frames], heads.streams


def test_streams_of_earlier_lives_are_named_also_those_in_which_nothing_was_told() -> None:
    books: Any = Pages()

    _events, told = answer(books, asked(), here())

    [heads] = heads_of(told.data)
    assert [(head.opened, head.first, head.next) for head in heads.streams] == [(1, 3, 7), (4, 0, 0), (9, 0, 2)]


def test_a_subscription_that_is_being_made_begins_where_each_stream_ends() -> None:
    books: Any = Pages()

    _events, told = answer(books, asked(), here())

    [heads] = heads_of(told.data)
    assert [head.begins for head in heads.streams] == [7, 0, 2]


def test_a_subscription_from_the_first_one_that_was_made_before_is_told_what_it_missed() -> None:
    _events, heads = answered(asked(fresh=False, first=True))

    assert [head.begins for head in heads] == [0, 0, 0]


@pytest.mark.parametrize(("created", "begins"), [(1000.0, 5), (0.0, 0)], ids=["it kept all since", "it may not have"])
def test_a_subscription_made_while_its_publisher_was_away_begins_by_age_or_is_told_of_a_gap(
    created: float, begins: int
) -> None:
    _events, heads = answered(asked(created=created, fresh=False))

    assert heads[0].begins == begins


def test_events_of_an_earlier_life_are_sent_as_the_present_one_and_stay_in_their_stream() -> None:
    [event], _heads = answered(asked(Known("store", 1, 7, [(3, 3)])))

    assert event.lane is not None
    assert (event.lane.caller_epoch, event.lane.opened, event.lane.number) == (9, 1, 3)


def test_what_is_wanted_and_cannot_be_read_is_said_to_be_gone() -> None:
    events, heads = answered(asked(Known("store", 1, 7, [(0, 6)])))

    assert [event.id for event in events] == ["1/3", "1/5"]
    assert heads[0].gone == [(4, 4), (6, 6)]


def test_what_is_not_sent_for_want_of_room_is_not_said_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PORTION", 1)

    events, heads = answered(asked(Known("store", 9, 2, [(0, 1)])))

    assert [event.id for event in events] == ["2/0"]
    assert heads[2].gone == []


def test_an_answer_takes_no_further_run_when_it_has_bytes_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PORTION_BYTES", 1)

    events, _heads = answered(asked(Known("store", 9, 2, [(0, 0), (1, 1)])))

    assert [event.id for event in events] == ["2/0"]


def test_who_has_no_room_is_told_how_the_streams_stand_and_is_sent_nothing() -> None:
    events, heads = answered(asked(Known("store", 9, NOTHING, [])))

    assert events == []
    assert heads[2].next == 2


def test_what_is_known_of_another_store_says_nothing_of_this_one() -> None:
    events, heads = answered(asked(Known("another", 9, 0, [])))

    assert events == []
    assert heads[2].begins == 2


class Flushes:
    """A store that says which steps are flushed, and does none."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def commit(self, step: object, *, name: str, flush: bool = False, weight: int = 1) -> asyncio.Future[Any]:
        self.asked.append((name, flush))
        return asyncio.get_running_loop().create_future()


@pytest.mark.anyio
async def test_what_a_sibling_has_stored_and_not_flushed_is_flushed_before_it_is_sent() -> None:
    store: Any = Flushes()
    nobody: Any = None

    Publisher(store, here(), nobody, timers=nobody).asked(asked())

    assert store.asked == [("answer pull", True)]


@pytest.mark.anyio
async def test_who_tells_an_event_while_the_store_is_closed_is_told_so() -> None:
    storing: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    class Closing(Flushes):
        def commit(self, step: object, *, name: str, flush: bool = False, weight: int = 1) -> asyncio.Future[Any]:
            return storing

    store: Any = Closing()
    nobody: Any = None
    message = decode(told(1, 0).frame)

    done = Publisher(store, here(), nobody, timers=nobody).tell(Telling(message, 60.0))
    asyncio.get_running_loop().call_later(0, storing.cancel)

    with pytest.raises(UnavailableError, match="closed"):
        await asyncio.wait_for(done, 5)
