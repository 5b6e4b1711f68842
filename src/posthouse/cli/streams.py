"""`posthouse streams`: the journaled events that publishers keep, and who hears them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.groups import LsByDefault
from posthouse.cli.options import Options, common
from posthouse.clock import Instant, Seconds

if TYPE_CHECKING:
    from posthouse.cli.stores import Stores
    from posthouse.contracts.store import Books, Store
    from posthouse.contracts.streams import Stream

NEAR: Final = 0.8
"""Of the bytes that a stream may have: beyond it is said that the oldest will soon go before their time."""


class StreamRow(msgspec.Struct, kw_only=True):
    """A topic in one life of its publisher's store.

    Attributes:
        topic: the event.
        store: the publisher's.
        epoch: the life of it in which the stream was opened.
        present: it is the one that goes on; those of earlier lives only keep what they have.
        first: the lowest number that is kept.
        next: the number that comes next; where it has ended, for an earlier life.
        bytes: that are kept.
        limit: the most that are kept; the oldest go beyond.
        oldest: when the oldest that is kept was told; 0 for none.
        retain: how long they are kept, in seconds.
        hearers: the subscriptions that were announced.
    """

    topic: str
    store: str
    epoch: int
    present: bool
    first: int
    next: int
    bytes: int
    limit: int
    oldest: Instant
    retain: Seconds
    hearers: list[str]

    @property
    def is_near_limit(self) -> bool:
        """Whether the oldest will soon be dropped because of their size."""
        return self.bytes >= NEAR * self.limit


@click.group(cls=LsByDefault)
def streams() -> None:
    """List the journaled events that publishers keep: from which number to which, how much, how long, for whom."""


@streams.command()
@common
def ls(options: Options) -> int:
    """List the streams; each life of a publisher's store has its own."""
    from posthouse.cli.stores import visit_stores

    async def work(stores: Stores) -> tuple[list[StreamRow], Instant]:
        rows = [row for store in stores.by_service.values() for row in await rows_of(stores, store)]
        return rows, stores.clock.now()

    rows, now = visit_stores(options, work)
    if options.json:
        for row in rows:
            output.record(row)
        return exits.FINE
    if not rows:
        output.say("no journaled event has been told by a service that has its store here")
        return exits.FINE
    output.table(
        ["EVENT", "EPOCH#", "TOLD#", "KEPT", "SIZE#", "OLDEST", "RETAIN", "HEARD BY"],
        [
            (
                row.topic if row.present else f"{row.topic} (earlier life)",
                row.epoch,
                f"{row.next:,}",
                f"{row.first}..{row.next - 1}" if row.next > row.first else "-",
                output.size(row.bytes),
                output.ago(row.oldest, now),
                output.ago(now - row.retain, now),
                ", ".join(row.hearers) or "-",
            )
            for row in rows
        ],
    )
    for row in rows:
        if row.is_near_limit:
            output.say(
                f"{row.topic} holds {output.size(row.bytes)} of at most {output.size(row.limit)}: the oldest go, before"
                f" their time, to make room"
            )
    output.say("how far each subscription is: posthouse subscriptions")
    return exits.FINE


async def rows_of(stores: Stores, store: Store) -> list[StreamRow]:
    """Return the streams in one store."""
    from posthouse.message.message import Mode
    from posthouse.runtime.steps.telling import EVENT_BYTES

    heard = stores.host.directory.subscriptions
    return [
        StreamRow(
            topic=stream.topic,
            store=store.identity.id,
            epoch=stream.epoch,
            present=stream.epoch == store.identity.epoch,
            first=stream.first,
            next=stream.next,
            bytes=stream.bytes,
            limit=EVENT_BYTES,
            oldest=oldest,
            retain=stream.retain,
            hearers=[each.name for each in heard.get(stream.topic, ()) if each.mode is Mode.JOURNALED],
        )
        for stream, oldest in await store.read(_oldest)
    ]


def _oldest(books: Books) -> list[tuple[Stream, Instant]]:
    found: list[tuple[Stream, Instant]] = []
    for stream in books.streams():
        first = books.events(stream.stream, stream.first, stream.next - 1, 1) if stream.next > stream.first else []
        found.append((stream, first[0].at if first else 0.0))
    return found
