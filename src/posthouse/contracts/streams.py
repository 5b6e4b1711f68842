"""The books of events: what a publisher keeps of what it told, and what a subscriber knows of what it heard.

They are part of a store's `Books`. An event that arrives is a row among the requests, at a place in its feed's
lane, so claims, attempts and parking are theirs; what stands here is only streams, events and feeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from posthouse.clock import Instant, Seconds
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Stream(msgspec.Struct, gc=False):
    """The publisher's side of a topic, in one life of its store.

    Attributes:
        stream: its number in this store, 1 or more; the lane of its events' places.
        topic: the event.
        epoch: ours, in which it was opened.
        next: the number that comes next.
        first: the lowest number that is kept; all below were dropped.
        bytes: of the frames that are kept.
        retain: how long they are kept, in seconds.
    """

    stream: int
    topic: str
    epoch: int
    next: int = 0
    first: int = 0
    bytes: int = 0
    retain: Seconds = 604_800.0


class Told(msgspec.Struct, gc=False):
    """An event as its publisher keeps it.

    Attributes:
        place: its stream and number.
        id: of the event.
        frame: as it was sent.
        at: when it was stored.
    """

    place: int
    id: str
    frame: bytes
    at: Instant


class Feed(msgspec.Struct, gc=False):
    """A subscription's side of a stream.

    Attributes:
        lane: its number in this store, FEEDS or more; the lane of its rows' places.
        publisher: the publisher's store, and the epoch in which the stream was opened.
        subscription: "audit.note".
        topic: "prices.quoted".
        over: which numbers were had, are parked, or were told as lost.
        next: one above the highest number that was ever stored here.
        head: one above the highest number that is known to exist.
    """

    lane: int
    publisher: Identity
    subscription: str
    topic: str
    over: Numbers = msgspec.field(default_factory=Numbers)
    next: int = 0
    head: int = 0


class Subscribed(msgspec.Struct, frozen=True, gc=False):
    """A subscription as its store knows it.

    Attributes:
        name: "audit.note".
        topic: "prices.quoted".
        created: when it was first declared here.
    """

    name: str
    topic: str
    created: Instant


class StreamBooks(Protocol):
    """Streams, events and feeds, inside a transaction. Each method may raise UnavailableError."""

    # --- the publisher's side ---------------------------------------------------------------------------

    def stream_of(self, topic: str) -> Stream | None:
        """Return the stream of our present epoch on a topic."""
        ...

    def streams(self, topic: str = "") -> list[Stream]:
        """Return all streams, or those of a topic, older epochs first."""
        ...

    def open_stream(self, topic: str, retain: Seconds) -> Stream:
        """Make the stream of our present epoch on a topic."""
        ...

    def save_stream(self, stream: Stream) -> None:
        """Write a stream as it is now."""
        ...

    def drop_stream(self, stream: int) -> None:
        """Forget a stream that holds nothing any more."""
        ...

    def add_events(self, events: Sequence[Told]) -> None:
        """Store events; a place that is taken is a slip, and raises UsageError."""
        ...

    def events(self, stream: int, first: int, last: int, limit: int) -> list[Told]:
        """Return the events first..last of a stream, in order, at most so many; dropped ones are left out.

        One that is not as it was written is left out too, and logged: whoever needs it is told that it is lost.
        """
        ...

    def event(self, id: str) -> Told | None:
        """Return the newest event with this id; not hot."""
        ...

    def first_since(self, stream: Stream, at: Instant) -> int:
        """Return the lowest number that is kept and was not stored before `at`; `next` when there is none.

        Events are taken to be stored in the order of their numbers.
        """
        ...

    def drop_events(self, stream: int, *, before: Instant, surplus: int, limit: int) -> tuple[int, int]:
        """Drop the oldest events of a stream: those stored before `before`, and more until `surplus` bytes went.

        At most `limit` of them. Returns (lowest number that is kept now, or -1 for none; bytes that went).
        """
        ...

    # --- the subscriber's side --------------------------------------------------------------------------

    def subscribe(self, name: str, topic: str, now: Instant) -> Subscribed:
        """Enter a subscription if it is not there; return it. One with another topic than before is a new one."""
        ...

    def subscribed(self) -> list[Subscribed]:
        """Return all subscriptions, by name."""
        ...

    def unsubscribe(self, name: str) -> int:
        """Forget a subscription, its feeds and their rows and dead letters; return how many undecided rows went."""
        ...

    def feed(self, lane: int) -> Feed | None:
        """Return a feed by its number."""
        ...

    def feed_of(self, subscription: str, topic: str, publisher: Identity) -> Feed | None:
        """Return the feed of a subscription on a stream: the publisher's store, and the epoch that opened it."""
        ...

    def feeds(self, subscription: str = "", topic: str = "") -> list[Feed]:
        """Return feeds, the oldest first: all, or those of a subscription, or of a topic."""
        ...

    def open_feed(self, subscription: str, topic: str, publisher: Identity, begins: int) -> Feed:
        """Make a feed that wants what has the number `begins` or a higher one; `next` and `head` stand there too."""
        ...

    def save_feed(self, feed: Feed) -> None:
        """Write a feed as it is now."""
        ...

    def there(self, lane: int, first: int, last: int) -> list[int]:
        """Return which numbers first..last of a feed are stored, rising."""
        ...

    def end_runs(self, rows: Iterable[tuple[int, int]], *, instance: str) -> list[bool]:
        """Delete rows that run here, given as (place, attempt); return for each whether this attempt still held it."""
        ...
