"""How far each subscription is: what is told to it, what it has had, what it is behind. Nothing is printed here.

Journaled ones stand in the stores of their services; queued and volatile ones only in the registry, and what
waits for a queued one in its queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from posthouse.clock import Instant
from posthouse.message.message import Mode
from posthouse.message.names import service_of
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import lane_of
from posthouse.protocol.stream import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from posthouse.cli.stores import Stores
    from posthouse.contracts.registry import SubscriptionRecord
    from posthouse.contracts.store import Books, Store
    from posthouse.contracts.streams import Feed, Stream, Subscribed
    from posthouse.runtime.directory import Directory


class FeedRow(msgspec.Struct, kw_only=True):
    """A subscription's side of a stream.

    Attributes:
        store: the publisher's.
        epoch: the life of it in which the stream was opened.
        floor: all below it are over.
        ranges: what is over above it.
        next: above the highest number that ever came.
        head: above the highest number that it knows of.
        told: above the highest number that its publisher has given; None where that store is not here.
        kept: the lowest number that the publisher keeps; None where that store is not here.
        behind: how many of those that it, or its publisher's store here, knows of are not over.
        lost_at: when its publisher drops the oldest that has not come to it; 0 where nobody knows, or for none.
    """

    store: str
    epoch: int
    floor: int
    ranges: list[tuple[int, int]]
    next: int
    head: int
    told: int | None
    kept: int | None
    behind: int
    lost_at: Instant = 0.0


class SubscriptionRow(msgspec.Struct, kw_only=True):
    """A subscription.

    Attributes:
        name: "audit.note".
        topic: what it hears.
        publisher: whose event that is.
        mode: volatile, queued or journaled.
        declared: whether the newest contract of its service has it so; None where that is not known here.
        instances: how many instances of its service take work now.
        since: when its store first knew it; 0 where that is not known: it has none, or was restored from a backup
            that did not have it.
        behind: how many events it knows of and has not had; None for a volatile one, which keeps nothing.
        undecided: how many of them are in its store, or its queue, and are neither had nor parked.
        parked: how many were had in vain, and wait for an operator.
        feeds: one for each stream.
    """

    name: str
    topic: str
    publisher: str
    mode: str
    declared: bool | None
    instances: int
    since: Instant = 0.0
    behind: int | None = None
    undecided: int = 0
    parked: int = 0
    feeds: list[FeedRow] = []


async def subscriptions(stores: Stores) -> list[SubscriptionRow]:
    """Return all subscriptions that the stores here, or the registry, know of, by name."""
    directory = stores.host.directory
    announced = {(each.name, each.topic): each for each in await stores.host.registry.subscriptions()}
    rows: list[SubscriptionRow] = []
    for store in stores.by_service.values():
        rows += await rows_of(stores, store, announced)
    stored = {(row.name, row.topic) for row in rows}
    waiting = {info.spec.name: info.stored for info in await stores.host.transport.queues()}
    for key, record in announced.items():
        if record.mode is Mode.JOURNALED and key in stored:
            continue
        is_queued = record.mode is Mode.QUEUED
        rows.append(
            SubscriptionRow(
                name=record.name,
                topic=record.topic,
                publisher=service_of(record.topic),
                mode=record.mode.name.lower(),
                declared=record.declared,
                instances=len(directory.instances(service_of(record.name))),
                behind=waiting.get(record.name, 0) if is_queued else None,
                undecided=waiting.get(record.name, 0) if is_queued else 0,
            )
        )
    return sorted(rows, key=lambda row: (row.name, row.mode))


async def rows_of(
    stores: Stores, store: Store, announced: Mapping[tuple[str, str], SubscriptionRecord]
) -> list[SubscriptionRow]:
    """Return the journaled subscriptions in one store."""
    directory = stores.host.directory
    rows: list[SubscriptionRow] = []
    for subscribed, feeds, states in await store.read(_standings):
        record = announced.get((subscribed.name, subscribed.topic))
        feed_rows = [await _feed(stores, store, feed) for feed in feeds]
        rows.append(
            SubscriptionRow(
                name=subscribed.name,
                topic=subscribed.topic,
                publisher=service_of(subscribed.topic),
                mode="journaled",
                declared=is_declared(directory, store.service, record),
                instances=len(directory.instances(store.service)),
                since=subscribed.created,
                behind=sum(row.behind for row in feed_rows),
                undecided=sum(count for state, count in states.items() if state < RequestState.PARKED),
                parked=states.get(RequestState.PARKED, 0),
                feeds=feed_rows,
            )
        )
    return rows


def is_declared(directory: Directory, service: str, record: SubscriptionRecord | None) -> bool | None:
    """Say whether a service declares a journaled subscription; None where it was never announced here."""
    if service not in directory.contracts:
        return None
    return record is not None and record.declared and record.mode is Mode.JOURNALED


def _standings(books: Books) -> list[tuple[Subscribed, list[Feed], dict[RequestState, int]]]:
    counts: dict[int, dict[RequestState, int]] = {}
    for tally in books.request_tallies():
        of_lane = counts.setdefault(lane_of(tally.first), {})
        of_lane[tally.state] = of_lane.get(tally.state, 0) + tally.count
    found: list[tuple[Subscribed, list[Feed], dict[RequestState, int]]] = []
    for subscribed in books.subscribed():
        feeds = books.feeds(subscribed.name, subscribed.topic)
        states: dict[RequestState, int] = {}
        for feed in feeds:
            for state, count in counts.get(feed.lane, {}).items():
                states[state] = states.get(state, 0) + count
        found.append((subscribed, feeds, states))
    return found


async def _feed(stores: Stores, store: Store, feed: Feed) -> FeedRow:
    publisher = stores.with_id(feed.publisher.id)
    stream: Stream | None = None
    if publisher is not None:
        stream = await publisher.read(lambda books: _stream(books, feed))
    end = feed.head if stream is None else max(feed.head, stream.next)
    lost_at = 0.0
    if publisher is not None and stream is not None and feed.over.count < end:
        there = await store.read(lambda books: books.there(feed.lane, feed.over.floor, end))
        missed = missing(feed.over, there, head=end, window=end, limit=1)
        if missed:
            lost_at = await publisher.read(lambda books: _kept_until(books, stream, missed[0][0]))
    return FeedRow(
        store=feed.publisher.id,
        epoch=feed.publisher.epoch,
        floor=feed.over.floor,
        ranges=feed.over.ranges,
        next=feed.next,
        head=feed.head,
        told=None if stream is None else stream.next,
        kept=None if stream is None else stream.first,
        behind=max(0, end - feed.over.count),
        lost_at=lost_at,
    )


def _stream(books: Books, feed: Feed) -> Stream | None:
    return next((each for each in books.streams(feed.topic) if each.epoch == feed.publisher.epoch), None)


def _kept_until(books: Books, stream: Stream, number: int) -> Instant:
    """Return when an event goes because of its age; 0 where it went already."""
    found = books.events(stream.stream, max(number, stream.first), stream.next - 1, 1)
    return found[0].at + stream.retain if found else 0.0
