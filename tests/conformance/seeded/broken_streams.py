"""Books that break the contract of streams and feeds, each in one way; `broken_stores` runs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from posthouse.clock import Instant
from posthouse.contracts.streams import Feed, Stream, Subscribed, Told
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import lane_of, number_of
from tests.conformance.seeded.sound_stores import Page


class OverwritesEvents(Page):
    """Lets an event take a number that another one has."""

    def add_events(self, events: Sequence[Told]) -> None:
        """Leave out what is there."""
        self.books.add_events([event for event in events if not self._has(event.place)])

    def _has(self, place: int) -> bool:
        stream, number = lane_of(place), number_of(place)
        return bool(self.books.events(stream, number, number, 1))


class ForgetsTheLastEvent(Page):
    """Takes the last number of a range as one behind it."""

    def events(self, stream: int, first: int, last: int, limit: int) -> list[Told]:
        """Stop too early."""
        return self.books.events(stream, first, last - 1, limit)


class FindsTheOldestOfAnId(Page):
    """Finds the oldest event of an id."""

    def event(self, id: str) -> Told | None:
        """Walk from the oldest."""
        return next((each for each in self.books.events(1, 0, 99, 99) if each.id == id), None)


class BeginsTooLate(Page):
    """Leaves out what was stored at the very moment."""

    def first_since(self, stream: Stream, at: Instant) -> int:
        """Take it for older."""
        return self.books.first_since(stream, at + 0.001)


class DropsOldOrSurplus(Page):
    """Drops for age alone."""

    def drop_events(self, stream: int, *, before: Instant, surplus: int, limit: int) -> tuple[int, int]:
        """Overlook how much there is."""
        return self.books.drop_events(stream, before=before, surplus=0, limit=limit)


class DropsAllAtOnce(Page):
    """Knows no limit."""

    def drop_events(self, stream: int, *, before: Instant, surplus: int, limit: int) -> tuple[int, int]:
        """Overlook it."""
        return self.books.drop_events(stream, before=before, surplus=surplus, limit=1000)


class RenewsSubscriptions(Page):
    """Takes each entry of a subscription for its first."""

    def subscribe(self, name: str, topic: str, now: Instant) -> Subscribed:
        """Enter it anew."""
        self.books.subscribe(name, "", now)
        return self.books.subscribe(name, topic, now)


class KeepsTheTopic(Page):
    """Keeps the topic that a subscription had first."""

    def subscribe(self, name: str, topic: str, now: Instant) -> Subscribed:
        """Return what is there."""
        there = [each for each in self.books.subscribed() if each.name == name]
        return there[0] if there else self.books.subscribe(name, topic, now)


class LeavesRowsBehind(Page):
    """Forgets a subscription, and leaves the dead letters of its feeds."""

    def unsubscribe(self, name: str) -> int:
        """Put them back."""
        lanes = {feed.lane for feed in self.books.feeds(name)}
        letters = [each for each in self.books.dead_letters() if lane_of(each.place) in lanes]
        count = self.books.unsubscribe(name)
        for letter in letters:
            self.books.add_dead(letter)
        return count


class BeginsAtZero(Page):
    """Has each feed begin with the first event that ever was."""

    def open_feed(self, subscription: str, topic: str, publisher: Identity, begins: int) -> Feed:
        """Overlook where it begins."""
        return self.books.open_feed(subscription, topic, publisher, 0)


class TakesEpochsForOne(Page):
    """Takes the streams of all lives of a publisher for one."""

    def feed_of(self, subscription: str, topic: str, publisher: Identity) -> Feed | None:
        """Look at the store alone."""
        feeds = self.books.feeds(subscription, topic)
        return next((feed for feed in feeds if feed.publisher.id == publisher.id), None)


class ForgetsTheHead(Page):
    """Does not save what is known to exist."""

    def save_feed(self, feed: Feed) -> None:
        """Save the rest."""
        self.books.save_feed(msgspec.structs.replace(feed, head=feed.next))


class EndsForAnyAttempt(Page):
    """Lets an attempt end a run that a later one holds."""

    def end_runs(self, rows: Iterable[tuple[int, int]], *, instance: str) -> list[bool]:
        """Take the attempt from the row."""
        found = {row.place: row.attempt for row in self.books.held_by(instance)}
        return self.books.end_runs([(place, found.get(place, at)) for place, at in rows], instance=instance)


class EndsForAnyInstance(Page):
    """Lets an instance end a run that another one holds."""

    def end_runs(self, rows: Iterable[tuple[int, int]], *, instance: str) -> list[bool]:
        """Take the instance from the row."""
        held: list[bool] = []
        for row in rows:
            found = self.books.requests_at([row[0]])
            held += self.books.end_runs([row], instance=found[0].instance if found else instance)
        return held


FAULTS: Final[dict[type[Any], str]] = {
    OverwritesEvents: "test_a_number_of_a_stream_is_taken_once_and_the_slip_leaves_nothing",
    ForgetsTheLastEvent: "test_events_are_those_from_the_first_to_the_last_at_most_so_many",
    FindsTheOldestOfAnId: "test_of_an_id_the_newest_event_is_found",
    BeginsTooLate: "test_the_first_since_a_moment_is_the_lowest_that_was_not_stored_before_it",
    DropsOldOrSurplus: "test_the_oldest_events_are_dropped_until_so_many_bytes_went",
    DropsAllAtOnce: "test_no_more_events_are_dropped_at_once_than_are_allowed",
    RenewsSubscriptions: "test_a_subscription_keeps_the_time_of_its_first_entry",
    KeepsTheTopic: "test_a_subscription_to_another_topic_than_before_is_a_new_one",
    LeavesRowsBehind: "test_what_is_unsubscribed_is_gone_with_its_feeds_its_rows_and_its_dead_letters",
    BeginsAtZero: "test_a_new_feed_has_a_lane_above_those_of_requests_and_begins_where_it_was_told",
    TakesEpochsForOne: "test_a_feed_is_that_of_its_subscription_topic_store_and_epoch",
    ForgetsTheHead: "test_a_feed_is_as_it_was_saved",
    EndsForAnyAttempt: "test_a_run_is_ended_by_the_attempt_that_holds_it_and_its_row_goes",
    EndsForAnyInstance: "test_a_run_is_ended_by_the_attempt_that_holds_it_and_its_row_goes",
}
"""Each, and the test that is there to catch it."""
