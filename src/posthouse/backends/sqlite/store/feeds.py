"""The subscriber's side of a store: its subscriptions, and its feeds on the streams of others.

The events themselves lie among the requests, at places in the lanes of their feeds.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from posthouse.backends.sqlite.store.lanes import NONE, pack_ranges, unpack_ranges
from posthouse.backends.sqlite.store.reading import remains, sound
from posthouse.backends.sqlite.store.seals import FEED, broken, must_be_sealed, one, seal
from posthouse.backends.sqlite.store.sums import select
from posthouse.contracts.streams import Feed, Subscribed
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import Numbers, number_of, place_of
from posthouse.protocol.stream import FEEDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant

_FEED: Final = f"{FEED}, sum"
FEED_AT: Final = select(_FEED, "FROM posthouse_feeds WHERE lane = ?")
FEED_OF: Final = select(
    _FEED,
    "FROM posthouse_feeds WHERE subscription = ? AND topic = ? AND publisher_store = ? AND publisher_epoch = ?",
)
FEEDS_OF: Final = select(_FEED, "FROM posthouse_feeds WHERE subscription = ?")
FEEDS_ON: Final = select(_FEED, "FROM posthouse_feeds WHERE topic = ?")
_FEEDS: Final = select(_FEED, "FROM posthouse_feeds")
_NUMBER: Final = "UPDATE posthouse_store SET feeds = feeds + 1 RETURNING feeds"
_OPEN: Final = f"INSERT INTO posthouse_feeds ({_FEED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - names of columns
_SAME: Final = FEED_OF.replace("WHERE", "NOT INDEXED WHERE")
_LANES_OF: Final = "SELECT lane FROM posthouse_feeds WHERE subscription = ?"
SAVE: Final = "UPDATE posthouse_feeds SET floor = ?, ranges = ?, next = ?, head = ?, sum = ? WHERE lane = ?"
_DROP_FEEDS: Final = "DELETE FROM posthouse_feeds WHERE subscription = ?"

SUBSCRIPTION: Final = "SELECT name, topic, created, sum FROM posthouse_subscriptions WHERE name = ?"
_SUBSCRIPTIONS: Final = "SELECT name, topic, created, sum FROM posthouse_subscriptions ORDER BY name"
_SUBSCRIBE: Final = """
INSERT INTO posthouse_subscriptions (name, topic, created, sum) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET topic = excluded.topic, created = excluded.created, sum = excluded.sum
"""
_UNSUBSCRIBE: Final = "DELETE FROM posthouse_subscriptions WHERE name = ?"

THERE: Final = "SELECT place FROM posthouse_requests WHERE place BETWEEN ? AND ? ORDER BY place"
END_RUNS: Final = """
DELETE FROM posthouse_requests WHERE place BETWEEN ? AND ? AND instance = ? AND attempt = ? AND state = 2
RETURNING place
"""
UNDECIDED: Final = "SELECT count(*) FROM posthouse_requests WHERE place BETWEEN ? AND ? AND state < 5"
FORGET: Final = "DELETE FROM posthouse_requests WHERE place BETWEEN ? AND ?"
FORGET_DEAD: Final = "DELETE FROM posthouse_dead WHERE place BETWEEN ? AND ?"


class FeedBooks:
    """What is kept of feeds."""

    _sql: Sql

    def subscribe(self, name: str, topic: str, now: Instant) -> Subscribed:
        """Enter a subscription if it is not there; return it. One with another topic than before is a new one."""
        known = one(self._sql, SUBSCRIPTION, (name,), _subscribed)
        if known is not None and known.topic == topic:
            return known
        self._sql.execute(_SUBSCRIBE, (name, topic, now, seal(name, topic, float(now))))
        return Subscribed(name, topic, now)

    def subscribed(self) -> list[Subscribed]:
        """Return all subscriptions, by name."""
        return sound(self._sql, _SUBSCRIPTIONS, (), _subscribed)

    def unsubscribe(self, name: str) -> int:
        """Forget a subscription, its feeds and their rows and dead letters; return how many undecided rows went."""
        sql = self._sql
        undecided = 0
        for (lane,) in sql.execute(_LANES_OF, (name,)).fetchall():  # the damaged ones too
            places = place_of(lane, 0), place_of(lane + 1, 0) - 1
            [[count]] = sql.execute(UNDECIDED, places).fetchall()
            undecided += count
            sql.execute(FORGET, places)
            sql.execute(FORGET_DEAD, places)
        sql.execute(_DROP_FEEDS, (name,))
        sql.execute(_UNSUBSCRIBE, (name,))
        return undecided

    def feed(self, lane: int) -> Feed | None:
        """Return a feed by its number."""
        return one(self._sql, FEED_AT, (lane,), _feed)

    def feed_of(self, subscription: str, topic: str, publisher: Identity) -> Feed | None:
        """Return the feed of a subscription on a stream: the publisher's store, and the epoch that opened it."""
        asked = subscription, topic, publisher.id, publisher.epoch
        return one(self._sql, FEED_OF, asked, _feed)

    def feeds(self, subscription: str = "", topic: str = "") -> list[Feed]:
        """Return feeds, the oldest first: all, or those of a subscription, or of a topic."""
        if subscription:
            found = sound(self._sql, FEEDS_OF, (subscription,), _feed)
        elif topic:
            found = sound(self._sql, FEEDS_ON, (topic,), _feed)
        else:
            found = sound(self._sql, _FEEDS, (), _feed)
        feeds = [feed for feed in found if not topic or feed.topic == topic]
        return sorted(feeds, key=lambda feed: feed.lane)

    def open_feed(self, subscription: str, topic: str, publisher: Identity, begins: int) -> Feed:
        """Make a feed that wants what has the number `begins` or a higher one."""
        for row in remains(self._sql, _SAME, (subscription, topic, publisher.id, publisher.epoch)):
            raise broken("feed", row)  # it was not found by its index, of which a bit has turned
        # The numbers of feeds that are gone are not given again: their rows may still run somewhere.
        [[count]] = self._sql.execute(_NUMBER).fetchall()
        lane = FEEDS + count - 1
        values = (lane, publisher.id, publisher.epoch, subscription, topic, begins, NONE, begins, begins)
        self._sql.execute(_OPEN, (*values, seal(*values)))
        return Feed(lane, publisher, subscription, topic, Numbers(begins, []), begins, begins)

    def save_feed(self, feed: Feed) -> None:
        """Write a feed as it is now."""
        over, publisher = feed.over, feed.publisher
        values = over.floor, pack_ranges(over.ranges) if over.ranges else NONE, feed.next, feed.head
        sum = seal(feed.lane, publisher.id, publisher.epoch, feed.subscription, feed.topic, *values)
        self._sql.execute(SAVE, (*values, sum, feed.lane))

    def there(self, lane: int, first: int, last: int) -> list[int]:
        """Return which numbers first..last of a feed are stored, rising."""
        found = self._sql.execute(THERE, (place_of(lane, first), place_of(lane, last))).fetchall()
        return [number_of(place) for (place,) in found]

    def end_runs(self, rows: Iterable[tuple[int, int]], *, instance: str) -> list[bool]:
        """Delete rows that run here, given as (place, attempt); return for each whether this attempt still held it."""
        asked = list(rows)
        ended: set[tuple[int, int]] = set()
        for attempt, first, last in _runs(asked):  # most rows of a batch lie side by side
            found = self._sql.execute(END_RUNS, (first, last, instance, attempt)).fetchall()
            ended.update((place, attempt) for (place,) in found)
        held: list[bool] = []
        for row in asked:
            held.append(row in ended)
            ended.discard(row)
        return held


def _runs(rows: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield (attempt, first, last) of each run of places that follow each other and have one attempt."""
    attempt = first = last = -1
    for place, number in sorted(rows, key=itemgetter(1, 0)):
        if number == attempt and place in {last, last + 1}:
            last = place
            continue
        if first >= 0:
            yield attempt, first, last
        attempt, first, last = number, place, place
    if first >= 0:
        yield attempt, first, last


def _subscribed(row: Sequence[Any]) -> Subscribed:
    must_be_sealed("subscription", row)
    return Subscribed(*row[:-1])


def _feed(row: Sequence[Any]) -> Feed:
    must_be_sealed("feed", row)
    lane, store, epoch, subscription, topic, floor, ranges, following, head, _ = row
    over = Numbers(floor, unpack_ranges(ranges) if ranges != NONE else [])
    return Feed(lane, Identity(store, epoch), subscription, topic, over, following, head)
