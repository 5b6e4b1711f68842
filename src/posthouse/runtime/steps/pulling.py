"""The questions of subscriptions about what they miss, and a publisher's answers to them.

A subscriber says for each stream which numbers it wants; the publisher sends what it keeps of them, and
says where each of its streams begins and ends. A word asks for so much that an answer fills a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.clock import Instant
from posthouse.message.codec import decode, encode
from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.protocol.lane import NUMBER_BITS, number_of
from posthouse.protocol.stream import begins_at, missing
from posthouse.runtime.steps.telling import restamped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.contracts.store import Books
    from posthouse.contracts.streams import Feed, Stream
    from posthouse.runtime.steps.here import Here

PORTION: Final = 512
"""The most events of one answer."""

NOTHING: Final = 1 << NUMBER_BITS
"""From here on there is no event: who asks from this number asks for none."""

PORTION_BYTES: Final = 4 << 20
"""An answer takes no further event when it has so many bytes."""


class Known(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a subscription knows of a stream, and wants of it.

    Attributes:
        store: the publisher's.
        opened: its epoch that opened the stream.
        head: all from this number on is wanted, if there is anything.
        wanted: first and last of each run of numbers below it that is wanted.
    """

    store: str
    opened: int
    head: int
    wanted: list[tuple[int, int]]


class Want(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One subscription's question.

    Attributes:
        subscription: its name.
        topic: what it hears.
        created: when it was made, by the subscriber's clock; 0 where its store was put back from a backup that does
            not know it, so that it was made nobody knows when.
        fresh: it is being made now: what was published before does not concern it.
        first: it begins with the first event that is kept.
        streams: those that it knows.
    """

    subscription: str
    topic: str
    created: Instant
    fresh: bool
    first: bool
    streams: list[Known]


class Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How a stream stands at its publisher.

    Attributes:
        opened: the epoch that opened it.
        first: the lowest number that is kept.
        next: the number that comes next; of an older epoch than the present one, where it ends for ever. Both are 0
            where nothing was ever told in that epoch.
        begins: where a subscription begins that did not know the stream.
        gone: first and last of runs that were asked for, should be kept, and cannot be read any more.
    """

    opened: int
    first: int
    next: int
    begins: int
    gone: list[tuple[int, int]]


class Heads(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How the streams of a topic stand in all epochs that the publisher's store ever had, for one subscription.

    Attributes:
        subscription: its name.
        topic: what it hears.
        fresh: it was being made when it asked.
        streams: one for each epoch.
    """

    subscription: str
    topic: str
    fresh: bool
    streams: list[Head]


_encode: Final = msgspec.msgpack.Encoder().encode
wants_of: Final = msgspec.msgpack.Decoder(list[Want]).decode
heads_of: Final = msgspec.msgpack.Decoder(list[Heads]).decode


def pull(wants: Sequence[Want], *, service: str, here: Here) -> Message:
    """Return the word that asks a publisher."""
    return Message(
        Kind.CONTROL,
        "",
        "pull",
        here.service,
        here.now(),
        _encode(wants),
        Mode.JOURNALED,
        here.peer,
        subject=service,
        lane=Lane(),
    )


def heads(told: Sequence[Heads], books: Books, *, asker: str, here: Here) -> Message:
    """Return the word that answers it."""
    identity = books.identity
    return Message(
        Kind.CONTROL,
        "",
        "heads",
        here.service,
        here.now(),
        _encode(told),
        Mode.JOURNALED,
        subject=asker,
        lane=Lane(identity.id, identity.epoch),
    )


# --- the subscriber's side ------------------------------------------------------------------------------


def want(
    books: Books, subscription: str, topic: str, *, created: Instant, fresh: bool, first: bool, here: Here, limit: int
) -> Want:
    """Return what a subscription asks for now: at most `limit` numbers; with 0, only how the streams stand."""
    streams = [
        Known(
            feed.publisher.id,
            feed.publisher.epoch,
            feed.head if limit else NOTHING,
            _missing(books, feed, here.window, limit),
        )
        for feed in books.feeds(subscription, topic)
    ]
    return Want(subscription, topic, created, fresh, first, streams)


def misses(books: Books, feed: Feed, window: int) -> bool:
    """Say whether a feed would ask for anything that is known to exist."""
    return bool(_missing(books, feed, window, limit=1))


def _missing(books: Books, feed: Feed, window: int, limit: int = PORTION) -> list[tuple[int, int]]:
    floor, end = feed.over.floor, min(feed.head, feed.over.floor + window)
    if floor >= end or limit <= 0:
        return []
    there = books.there(feed.lane, floor, end - 1)
    return missing(feed.over, there, head=feed.head, window=window, limit=limit)


# --- the publisher's side -------------------------------------------------------------------------------


def answer(books: Books, asked: Message, here: Here) -> tuple[list[bytes], Message]:
    """Return the events that are sent because of a question, and the word that goes behind them.

    The step must be flushed: an event that were lost from the disk after it was sent could give its number to another.
    """
    answering = _Answering(books)
    told = [Heads(each.subscription, each.topic, each.fresh, answering.heads(each)) for each in wants_of(asked.data)]
    return list(answering.frames.values()), heads(told, books, asker=asked.source, here=here)


class _Answering:
    """One answer in the making.

    Attributes:
        frames: what is sent, by place: two subscriptions may want the same.
    """

    def __init__(self, books: Books) -> None:
        self.frames: dict[int, bytes] = {}
        self._books = books
        self._bytes = 0
        self._epochs = [life.epoch for life in books.lives()]

    def heads(self, want: Want) -> list[Head]:
        """Add the events that a subscription wants; return how all streams of its topic stand.

        Epochs in which nothing was told are named too: a subscriber that knows one that is not named knows that it
        was lost, with all that was told in it.
        """
        streams = {stream.epoch: stream for stream in self._books.streams(want.topic)}
        return [
            self._head(streams[epoch], want) if epoch in streams else Head(epoch, 0, 0, 0, []) for epoch in self._epochs
        ]

    def _head(self, stream: Stream, want: Want) -> Head:
        id = self._books.identity.id
        known = next((each for each in want.streams if each.opened == stream.epoch and each.store == id), None)
        if known is None:
            return Head(stream.epoch, stream.first, stream.next, self._begin(stream, want), [])
        gone: list[tuple[int, int]] = []
        for first, last in (*known.wanted, (known.head, stream.next - 1)):
            gone += self._find(stream, max(first, stream.first), min(last, stream.next - 1))
        return Head(stream.epoch, stream.first, stream.next, 0, gone)

    def _begin(self, stream: Stream, want: Want) -> int:
        if want.fresh:
            return stream.first if want.first else stream.next
        if want.first:
            return 0  # what was dropped since it was made is told
        begin = self._books.first_since(stream, begins_at(want.created))
        return 0 if begin == stream.first else begin  # what was dropped may be younger than the subscription: tell it

    def _find(self, stream: Stream, first: int, last: int) -> list[tuple[int, int]]:
        """Add the events first..last, as far as there is room; return the runs of them that cannot be read."""
        room = PORTION - len(self.frames)
        if first > last or room <= 0 or self._bytes > PORTION_BYTES:
            return []
        gone: list[tuple[int, int]] = []
        expected = first
        found = self._books.events(stream.stream, first, last, room)
        for event in found:
            number = number_of(event.place)
            if number > expected:
                gone.append((expected, number - 1))
            expected = number + 1
            if event.place not in self.frames:
                frame = event.frame
                if stream.epoch != self._books.identity.epoch:
                    frame = encode(restamped(decode(frame), self._books, stream))
                self.frames[event.place] = frame
                self._bytes += len(frame)
        if len(found) < room and expected <= last:  # it was not for want of room that the rest is not there
            gone.append((expected, last))
        return gone
