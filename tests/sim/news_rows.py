"""What may become of streams and feeds in a step, and what may leave of them; rows.py looks at everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.message.message import Kind
from posthouse.runtime.steps.pulling import heads_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from posthouse.contracts.streams import Feed, Stream
    from posthouse.message.message import Lane, Message
    from tests.sim.rows import Pages


def feed_changes(before: Pages, after: Pages) -> Iterator[str]:
    """Yield what is wrong with what a step did to streams and feeds."""
    for key, stream in after.streams.items():
        old = before.streams.get(key)
        if old is not None and (stream.next < old.next or stream.first < old.first):
            yield f"stream {key} falls from {old} to {stream}"
        if stream.first > stream.next:
            yield f"stream {key} begins behind its end: {stream}"
    yield from (f"stream {key} is gone" for key in before.streams if key not in after.streams)
    for lane, feed in after.feeds.items():
        yield from _feed_change(before.feeds.get(lane), feed)


def _feed_change(before: Feed | None, feed: Feed) -> Iterator[str]:
    what = f"feed of {feed.subscription} on {feed.topic}"
    if before is None:
        if feed.over.ranges and feed.next <= feed.over.floor:
            yield f"{what} begins with {feed}"
        return
    edges = [number for first, last in before.over.ranges for number in (first, last)]
    if feed.over.floor < before.over.floor or not all(map(feed.over.holds, edges)):
        yield f"{what}: what was over is not: {before.over} and {feed.over}"
    if feed.head < before.head or feed.next < before.next:
        yield f"{what}: what is known falls from {before} to {feed}"


def events_too_early(flushed: Mapping[tuple[str, int], Stream], message: Message, stamps: Lane) -> Iterator[str]:
    """Yield why an event, or a word about streams, leaves too early: its number may still be given to another."""
    if message.kind is Kind.EVENT:
        stream = flushed.get((message.type, stamps.opened))
        if stream is None or stamps.number >= stream.next:
            yield "the event is not on the disk"
        return
    for each in heads_of(message.data):
        for head in each.streams:
            stream = flushed.get((each.topic, head.opened))
            end = 0 if stream is None else stream.next
            if head.next > end:
                yield f"it tells that {each.topic} has {head.next} events, and on the disk it has {end}"
