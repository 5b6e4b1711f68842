"""The steps of a subscriber: events into the books, and what its publishers say of their streams.

An event that arrives becomes a row among the requests, unless it was had before. What can never be had is
counted as over in the step that learns of it, and told: to the handler that hears of gaps, or as a dead letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.contracts.store import Deceased, Key
from posthouse.message.names import service_of
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import Numbers, place_of
from posthouse.protocol.stream import is_taken, lost_below, lost_from
from posthouse.runtime.steps.applying import add_own
from posthouse.runtime.steps.lives import is_new, was_put_back
from posthouse.runtime.steps.pulling import Head, misses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books
    from posthouse.contracts.streams import Feed
    from posthouse.message.message import Lane, Message
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.pulling import Heads

EVENT_LOST: Final = "event.lost"
"""The code of the dead letter that tells of events that can never be had."""


READY: Final = "subscribed"
"""The scope of the keys that say with which subscriptions an instance was ready once."""

NEVER: Final = float("inf")

_RUNNING: Final = RequestState.RUNNING
"""As looked at for each event; in Python 3.11 a look at a member through its class takes 70 ns."""


class GapRun(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a handler that hears of gaps is run for; the frame of its row in the store's own lane."""

    event: str
    publisher: str
    first: int
    last: int


gap_to_bytes: Final = msgspec.msgpack.Encoder().encode
gap_of: Final = msgspec.msgpack.Decoder(GapRun).decode


class Fed:
    """What some events, or heads, came to.

    Attributes:
        claimed: events that are ours to run now, with their messages.
        backlog: what has work that was stored and not claimed.
        asks: publishers that are to be asked soon: something is missing, or a stream is not known here.
        left: (subscription, publisher) of which events were left, since there is no room to run them.
        behind: subscriptions that miss something, by what a publisher has just said.
        took: publishers of which events were taken.
        moved: a publisher said something of its streams that was not known here.
        gaps: what was told as lost.
        new_lives: publishers whose store was put back, so that something may be lost of which nothing is known here.
    """

    __slots__ = ("asks", "backlog", "behind", "claimed", "gaps", "left", "moved", "new_lives", "took")

    def __init__(self) -> None:
        self.claimed: list[tuple[Request, Message]] = []
        self.backlog: set[str] = set()
        self.asks: set[str] = set()
        self.left: set[tuple[str, str]] = set()
        self.behind: set[str] = set()
        self.took: set[str] = set()
        self.moved = False
        self.gaps: list[GapRun] = []
        self.new_lives: set[str] = set()


def subscribe(books: Books, names: Sequence[tuple[str, str]], now: Instant) -> set[str]:
    """Enter subscriptions, given as (name, topic); return the names of those that are being made, and begin now.

    One is being made until an instance of the service is ready with it. A store that was put back may have forgotten
    some: those that it does not know when its new life begins are as old as can be, and miss nothing.
    """
    is_put_back = is_new(books, "subscriptions") and was_put_back(books)
    before = {(each.name, each.topic) for each in books.subscribed()}
    for name, topic in names:
        if (name, topic) not in before:
            books.drop_key(READY, name)
            books.subscribe(name, topic, 0.0 if is_put_back else now)
    if is_put_back:
        are_ready(books, [name for name, _topic in names])
    return {name for name, _topic in names if not _is_ready(books, name)}


def are_ready(books: Books, names: Iterable[str]) -> None:
    """Count subscriptions as made: they miss nothing that is told from now on."""
    for name in names:
        books.add_key(Key(READY, name, b"", "", NEVER))


def _is_ready(books: Books, name: str) -> bool:
    return books.key(READY, name) is not None


class Feeding:
    """One transaction's worth of events on their way into the books.

    Args:
        books: the store's.
        here: our place.
        room: how many events of a subscription may be claimed now.
    """

    def __init__(self, books: Books, here: Here, room: Callable[[str], int]) -> None:
        self.result = Fed()
        self._books = books
        self._here = here
        self._room_of = room
        self._new: list[Request] = []

    def take(self, events: Sequence[tuple[Message, bytes]]) -> Fed:
        """Store and claim what was not had yet, as far as there is room."""
        streams: dict[tuple[str, int, str], list[tuple[int, Message, bytes]]] = {}
        newest: dict[str, int] = {}  # lives of publishers
        for message, frame in events:
            stamps = message.lane
            if stamps is None:
                continue
            store, epoch = stamps.caller_store, stamps.caller_epoch
            if epoch != newest.get(store):
                if not _is_of_this_life(self._books, stamps):
                    continue
                newest[store] = epoch
            some = streams.setdefault((store, stamps.opened, message.type), [])
            some.append((stamps.number, message, frame))
        for (store, opened, topic), some in streams.items():
            for name in self._here.subscriptions.get(topic, ()):
                feed = self._books.feed_of(name, topic, Identity(store, opened))
                if feed is None:
                    self.result.asks.add(service_of(topic))
                else:
                    self._take(feed, some)
        if self._new:
            self._books.add_requests(self._new)
        return self.result

    def _take(self, feed: Feed, some: Sequence[tuple[int, Message, bytes]]) -> None:
        first = min(number for number, _, _ in some)
        last = max(number for number, _, _ in some)
        # Nothing that was never stored can be there; most batches lie above all that was.
        there = set(self._books.there(feed.lane, first, last)) if first < feed.next else set[int]()
        expected = feed.next
        now = self._here.now()
        epoch = self._books.identity.epoch
        room = self._room_of(feed.subscription)
        publisher = service_of(feed.topic)
        over, window, lane, subscription = feed.over, self._here.window, feed.lane, feed.subscription
        instance, result, new = self._here.instance, self.result, self._new
        before = len(new)
        for number, message, frame in some:
            if number in there:
                continue
            if not is_taken(number, over=over, window=window):
                if number >= over.floor + window:
                    result.asks.add(publisher)
                continue
            if room <= 0:  # its publisher keeps it; to store it here, and claim it later, costs more than to ask again
                result.left.add((subscription, publisher))
                continue
            room -= 1
            there.add(number)
            place = place_of(lane, number)
            request = Request(place, message.id, subscription, _RUNNING, b"", frame, instance, 1, due=now, asked=epoch)
            result.claimed.append((request, message))
            new.append(request)
            if number > expected:
                result.asks.add(publisher)
            if number >= expected:
                expected = number + 1
        if len(new) > before:
            result.took.add(publisher)
        head = max(feed.head, last + 1)
        if expected != feed.next or head != feed.head:
            feed.next, feed.head = expected, head
            self._books.save_feed(feed)


def take_heads(books: Books, told: Sequence[Heads], stamps: Lane, here: Here, fresh: AbstractSet[str]) -> Fed:
    """Take in how a publisher's streams stand: open feeds, see what is missing, tell what is lost.

    Args:
        books: the store's.
        told: what it said.
        stamps: of the message: the publisher's store, and its present epoch.
        here: our place.
        fresh: the subscriptions that were still being made when it came; what it says to others, as if they were, is
            too late: they are ready, and may not skip what was told since.
    """
    result = Fed()
    if not _is_of_this_life(books, stamps):
        return result
    gaps: dict[GapRun, list[Feed]] = {}
    for each in told:
        if each.subscription not in here.subscriptions.get(each.topic, ()):
            continue
        if each.fresh and (each.subscription not in fresh or _is_ready(books, each.subscription)):
            result.asks.add(service_of(each.topic))
            continue
        service = service_of(each.topic)
        feeds = {
            feed.publisher.epoch: feed
            for feed in books.feeds(each.subscription, each.topic)
            if feed.publisher.id == stamps.caller_store
        }
        is_new_life = not each.fresh and stamps.caller_epoch not in feeds and bool(feeds or each.streams[1:])
        named = {head.opened for head in each.streams}
        lost_lives = [Head(epoch, 0, 0, 0, []) for epoch in feeds if epoch not in named]
        for head in (*each.streams, *lost_lives):
            feed = feeds.get(head.opened)
            if feed is None:
                publisher = Identity(stamps.caller_store, head.opened)
                feed = feeds[head.opened] = books.open_feed(each.subscription, each.topic, publisher, head.begins)
                result.moved = True
            before = feed.head
            for first, last in _take_head(books, feed, head, ended=head.opened != stamps.caller_epoch):
                gaps.setdefault(GapRun(each.topic, service, first, last), []).append(feed)
            result.moved |= feed.head > before
            if misses(books, feed, here.window):
                result.behind.add(each.subscription)
        if is_new_life:  # beside any gap: it may have told what it has forgotten, and nobody here has heard
            _tell_of_new_life(books, feeds[stamps.caller_epoch], here, result)
    for gap, lacking in gaps.items():
        _tell(books, gap, lacking, here, result)
    return result


def _is_of_this_life(books: Books, stamps: Lane) -> bool:
    """Say whether a publisher's message is of the newest life of its store that was heard of."""
    newest = books.newest_epoch(stamps.caller_store)
    if stamps.caller_epoch > newest:
        books.hear_epoch(stamps.caller_store, stamps.caller_epoch)
    return stamps.caller_epoch >= newest


def _take_head(books: Books, feed: Feed, head: Head, *, ended: bool) -> list[tuple[int, int]]:
    """Bring a feed up to what its publisher says; return what is lost by that."""
    before = feed.head
    end = max(feed.head, head.next)
    lost: list[tuple[int, int]] = []
    is_cut = ended and head.next < feed.head
    if head.first > feed.over.floor or is_cut or head.gone:
        there = books.there(feed.lane, feed.over.floor, end)
        lost += lost_below(feed.over, there, first=head.first)
        if is_cut:
            lost += lost_from(feed.over, there, next=max(head.next, head.first), head=feed.head)
        stored = set(there)
        lost += [(number, number) for first, last in head.gone for number in range(first, last + 1)
                 if number not in stored and not feed.over.holds(number) and number >= head.first]  # fmt: skip
        feed.over.merge(Numbers(0, sorted(lost)))
    feed.head = end
    if lost or feed.head != before:
        books.save_feed(feed)
    return lost


def _tell_of_new_life(books: Books, feed: Feed, here: Here, result: Fed) -> None:
    """Say that a publisher's store was put back: what it told meanwhile, and nobody heard, has no number any more."""
    publisher = service_of(feed.topic)
    result.new_lives.add(publisher)
    books.add_dead(
        Deceased(
            place=place_of(feed.lane, 0),
            id=f"{feed.topic} {feed.publisher.id[:8]}/{feed.publisher.epoch}",
            operation=feed.subscription,
            frame=b"",
            state="failed",
            code=EVENT_LOST,
            reason=f"the store of {publisher} was put back or copied: what it told of {feed.topic} after its backup,"
            " and was not heard here, is lost",
            detail="",
            attempts=0,
            cause=EVENT_LOST,
            at=here.now(),
        )
    )


def _tell(books: Books, gap: GapRun, lacking: Sequence[Feed], here: Here, result: Fed) -> None:
    """Tell the handler that hears of gaps, once for all subscriptions; or leave a dead letter of each."""
    result.gaps.append(gap)
    name = here.gap_handlers.get(gap.event)
    publisher = lacking[0].publisher
    id = f"{gap.event} {publisher.id[:8]}/{publisher.epoch} {gap.first}-{gap.last}"
    if name is not None:
        add_own(books, id, name, gap_to_bytes(gap), now=here.now())
        result.backlog.add(name)
        return
    reason = f"{gap.event} {gap.first} to {gap.last} are not kept any more by {gap.publisher}, and were not had"
    for feed in lacking:
        books.add_dead(
            Deceased(
                place=place_of(feed.lane, gap.first),
                id=id,
                operation=feed.subscription,
                frame=b"",
                state="failed",
                code=EVENT_LOST,
                reason=reason,
                detail="",
                attempts=0,
                cause=EVENT_LOST,
                at=here.now(),
            )
        )
