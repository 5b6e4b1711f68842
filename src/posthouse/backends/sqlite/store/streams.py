"""The publisher's side of a store: its streams, and the events that it keeps of each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import apsw

from posthouse.backends.sqlite.store.reading import read, remains, sound
from posthouse.backends.sqlite.store.seals import STREAM, broken, must_be_sealed, one, seal
from posthouse.backends.sqlite.store.sums import event_of, event_row, select
from posthouse.contracts.streams import Stream
from posthouse.errors import StoreDamagedError, UsageError
from posthouse.protocol.lane import number_of, place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant, Seconds
    from posthouse.contracts.streams import Told
    from posthouse.protocol.epoch import Identity

_log: Final = logging.getLogger("posthouse.store")

_STREAM: Final = f"{STREAM}, sum"
STREAM_OF: Final = select(_STREAM, "FROM posthouse_streams WHERE topic = ? AND epoch = ?")
STREAMS_OF: Final = select(_STREAM, "FROM posthouse_streams WHERE topic = ? ORDER BY epoch")
_STREAMS: Final = select(_STREAM, "FROM posthouse_streams ORDER BY epoch, stream")
_OPEN: Final = "INSERT INTO posthouse_streams VALUES (?, ?, ?, 0, 0, 0, ?, ?)"
_SAME: Final = STREAM_OF.replace("WHERE", "NOT INDEXED WHERE")
SAVE: Final = "UPDATE posthouse_streams SET next = ?, first = ?, bytes = ?, retain = ?, sum = ? WHERE stream = ?"
_DROP_STREAM: Final = "DELETE FROM posthouse_streams WHERE stream = ?"

_EVENT: Final = "place, at, id, sum, frame"
_ADD: Final = f"INSERT INTO posthouse_events ({_EVENT}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608 - names of columns
EVENTS: Final = select(_EVENT, "FROM posthouse_events WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?")
EVENT_NAMED: Final = select(
    _EVENT, "FROM posthouse_events INDEXED BY posthouse_events_by_id WHERE id = ? ORDER BY place DESC LIMIT 1"
)
FROM: Final = "SELECT place, at FROM posthouse_events WHERE place BETWEEN ? AND ? ORDER BY place LIMIT 1"
OLDEST: Final = """
SELECT place, at, length(frame) FROM posthouse_events WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?
"""
DROP: Final = "DELETE FROM posthouse_events WHERE place BETWEEN ? AND ?"


class PublisherBooks:
    """What is kept of streams."""

    identity: Identity
    _sql: Sql

    def stream_of(self, topic: str) -> Stream | None:
        """Return the stream of our present epoch on a topic."""
        return one(self._sql, STREAM_OF, (topic, self.identity.epoch), _stream)

    def streams(self, topic: str = "") -> list[Stream]:
        """Return all streams, or those of a topic, older epochs first."""
        if topic:
            return sound(self._sql, STREAMS_OF, (topic,), _stream)
        return sound(self._sql, _STREAMS, (), _stream)

    def open_stream(self, topic: str, retain: Seconds) -> Stream:
        """Make the stream of our present epoch on a topic."""
        [[newest]] = self._sql.execute("SELECT coalesce(max(stream), 0) FROM posthouse_streams").fetchall()
        epoch = self.identity.epoch
        for row in remains(self._sql, _SAME, (topic, epoch)):
            raise broken("stream", row)  # it was not found by its index, of which a bit has turned
        sum = seal(newest + 1, topic, epoch, 0, 0, 0, float(retain))
        self._sql.execute(_OPEN, (newest + 1, topic, epoch, retain, sum))
        return Stream(newest + 1, topic, epoch, retain=retain)

    def save_stream(self, stream: Stream) -> None:
        """Write a stream as it is now."""
        values = stream.next, stream.first, stream.bytes, float(stream.retain)
        self._sql.execute(SAVE, (*values, seal(stream.stream, stream.topic, stream.epoch, *values), stream.stream))

    def drop_stream(self, stream: int) -> None:
        """Forget a stream that holds nothing any more."""
        self._sql.execute(_DROP_STREAM, (stream,))

    def add_events(self, events: Sequence[Told]) -> None:
        """Store events.

        Raises:
            UsageError: a place is taken.
        """
        try:
            self._sql.executemany(_ADD, [event_row(event) for event in events])
        except apsw.ConstraintError as error:
            raise UsageError(f"an event has a number that another one has: {error}") from error

    def events(self, stream: int, first: int, last: int, limit: int) -> list[Told]:
        """Return the events first..last of a stream, in order, at most so many; dropped ones are left out.

        One that is not as it was written is left out too, and logged.
        """
        found: list[Told] = []
        start, end = place_of(stream, first), place_of(stream, last)
        while (left := limit - len(found)) > 0:
            rows = remains(self._sql, EVENTS, (start, end, left))
            for row in rows:
                _add_sound(found, row)
            if len(rows) < left:
                break
            start = rows[-1][0] + 1
        return found

    def event(self, id: str) -> Told | None:
        """Return the newest event with this id."""
        return next(iter(read(self._sql, EVENT_NAMED, (id,), event_of)), None)

    def first_since(self, stream: Stream, at: Instant) -> int:
        """Return the lowest number that is kept and was not stored before `at`; `next` when there is none.

        Events are taken to be stored in the order of their numbers: it halves what is kept until it finds the place.
        """
        low, high = stream.first, stream.next
        last = place_of(stream.stream, stream.next) - 1
        while low < high:
            middle = (low + high) // 2
            found = self._sql.execute(FROM, (place_of(stream.stream, middle), last)).fetchall()
            if found and found[0][1] < at:
                low = number_of(found[0][0]) + 1
            else:
                high = middle
        found = self._sql.execute(FROM, (place_of(stream.stream, low), last)).fetchall()
        return number_of(found[0][0]) if found else stream.next

    def drop_events(self, stream: int, *, before: Instant, surplus: int, limit: int) -> tuple[int, int]:
        """Drop the oldest events of a stream: those stored before `before`, and more until `surplus` bytes went.

        At most `limit` of them. Returns (lowest number that is kept now, or -1 for none; bytes that went).
        """
        sql = self._sql
        start, end = place_of(stream, 0), place_of(stream + 1, 0) - 1
        stop, went = start, 0
        for place, at, size in sql.execute(OLDEST, (start, end, limit)).fetchall():
            if at >= before and went >= surplus:
                break
            stop = place + 1
            went += size
        if stop > start:
            sql.execute(DROP, (start, stop - 1))
        kept = sql.execute(FROM, (stop, end)).fetchall()
        return (number_of(kept[0][0]) if kept else -1), went


def _stream(row: Sequence[Any]) -> Stream:
    must_be_sealed("stream", row)
    return Stream(*row[:-1])


def _add_sound(found: list[Told], row: Sequence[Any]) -> None:
    try:
        found.append(event_of(row))
    except StoreDamagedError as error:
        _log.error("%s; whoever asks for it is told that it is lost", error)
