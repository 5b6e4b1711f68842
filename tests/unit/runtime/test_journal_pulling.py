"""What a publisher answers to those who ask what they miss: how its streams stand, in all lives of its store."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from posthouse.contracts.streams import Stream
from posthouse.message.message import Message
from posthouse.protocol.epoch import Identity
from posthouse.runtime.journal.publisher import Publisher
from posthouse.runtime.steps.here import Here
from posthouse.runtime.steps.pulling import Want, answer, heads_of, pull
from posthouse.testing.clock import ManualClock


class Life:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch


class Pages:
    """The books of a publisher whose store was put back twice, and told nothing in its second life."""

    identity = Identity("store", 9)

    def lives(self) -> list[Life]:
        return [Life(1), Life(4), Life(9)]

    def streams(self, topic: str) -> list[Stream]:
        return [Stream(1, topic, 1, next=7, first=3), Stream(2, topic, 9, next=2)]


def here() -> Here:
    return Here("prices", peer="peer", now=ManualClock().now, directory=cast("Any", None))


def asked() -> Message:
    want = Want("audit.note", "prices.quoted", created=1.0, fresh=True, first=False, streams=[])
    return pull([want], service="prices", here=here())


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
