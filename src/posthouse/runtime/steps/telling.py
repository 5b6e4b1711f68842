"""The step that stores events, and gives them their numbers; and the one that drops those that are too old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.errors import IdReusedError
from posthouse.message.codec import encode
from posthouse.message.message import Lane
from posthouse.protocol.lane import place_of
from posthouse.runtime.steps.here import KEPT_FOR
from posthouse.runtime.steps.wire import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.clock import Instant, Seconds
    from posthouse.contracts.store import Books
    from posthouse.contracts.streams import Stream, Told
    from posthouse.errors import PosthouseError
    from posthouse.message.message import Message
    from posthouse.runtime.steps.here import Here

EVENT_BYTES: Final = 256 << 20
"""The most bytes of events that are kept of one topic, in one life of a store."""

DROPS: Final = 1000
"""The most events of a stream that are dropped in one step."""

PUBLISHED: Final = "published"
"""The scope of the keys of events that were published under an application's own id."""


class Telling:
    """An event on its way into the books.

    Attributes:
        message: the event, without stamps.
        retain: how long it is kept.
        once: its id is the application's own: the same one again is the same event.
    """

    __slots__ = ("message", "once", "retain")

    def __init__(self, message: Message, retain: Seconds, *, once: bool = False) -> None:
        self.message = message
        self.retain = retain
        self.once = once


class Pushed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that was stored, as it is sent; its frame is empty when that was done before."""

    topic: str
    frame: bytes


def tell(books: Books, batch: Sequence[Telling], here: Here) -> list[Pushed | PosthouseError]:
    """Store events; return for each what is to be sent, or why it was not stored.

    One that was told under its id before is not stored again.
    """
    from posthouse.contracts.streams import Told

    result: list[Pushed | PosthouseError] = []
    streams: dict[str, Stream] = {}
    rows: list[Told] = []
    now = here.now()
    for telling in batch:
        message = telling.message
        if telling.once and (before := _before(books, message)) is not None:
            result.append(before)
            continue
        stream = streams.get(message.type)
        if stream is None:
            stream = books.stream_of(message.type) or books.open_stream(message.type, telling.retain)
            streams[message.type] = stream
        stream.retain = telling.retain
        frame = encode(msgspec.structs.replace(message, lane=_stamps(books, stream, stream.next)))
        place = place_of(stream.stream, stream.next)
        rows.append(Told(place, message.id, frame, now))
        if telling.once:
            _remember(books, message, place, now)
        stream.next += 1
        stream.bytes += len(frame)
        result.append(Pushed(message.type, frame))
    if rows:
        books.add_events(rows)
        for stream in streams.values():
            books.save_stream(stream)
    return result


def restamped(message: Message, books: Books, stream: Stream) -> Message:
    """Return an event of an earlier life with the stamps of this one; its stream keeps the epoch that opened it."""
    assert message.lane is not None  # noqa: S101 - only what `tell` has stamped is stored
    return msgspec.structs.replace(message, lane=_stamps(books, stream, message.lane.number))


def drop_old(books: Books, now: Instant) -> int:
    """Drop events whose time is over, or that are too many; return how many bytes went, since there may be more."""
    dropped = 0
    for stream in books.streams():
        first, went = books.drop_events(
            stream.stream,
            before=now - stream.retain,
            surplus=max(0, stream.bytes - EVENT_BYTES),
            limit=DROPS,
        )
        if went:
            stream.first = stream.next if first < 0 else first
            stream.bytes -= went
            books.save_stream(stream)
            dropped += went
    return dropped


def _stamps(books: Books, stream: Stream, number: int) -> Lane:
    identity = books.identity
    return Lane(identity.id, identity.epoch, "", 0, number, stream.first, b"", stream.epoch)


def _before(books: Books, message: Message) -> Pushed | PosthouseError | None:
    """Say that an event was told under its id before, or why it is another one; None for a new one."""
    key = books.key(PUBLISHED, message.id)
    if key is None:
        return None
    if key.digest != digest_of(message.type, message.data):
        return IdReusedError(f"id {message.id!r} stands for another event already")
    return Pushed(message.type, b"")


def _remember(books: Books, message: Message, place: int, now: Instant) -> None:
    from posthouse.contracts.store import Key

    books.add_key(Key(PUBLISHED, message.id, digest_of(message.type, message.data), str(place), now + KEPT_FOR))
