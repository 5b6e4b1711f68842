"""One journaled event, gathered from the stores of its publisher and of those who hear it.

The publisher keeps it for a time; each subscription has a row while it is not handled, and afterwards only knows that
its number is over. What is not seen is said to be so, and never guessed. Nothing is printed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.cli.conversation import (
    Conversation,
    InstanceSeen,
    LetterSeen,
    StoreSeen,
    instance_seen,
    letter_seen,
    message_of,
    named,
    of_call,
    store_seen,
)
from posthouse.cli.data import as_json
from posthouse.cli.feeds import is_declared
from posthouse.clock import Instant
from posthouse.message.message import Kind, Mode
from posthouse.message.names import service_of
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import lane_of, number_of, place_of
from posthouse.protocol.stream import is_of_feed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from posthouse.cli.stores import Stores
    from posthouse.contracts.registry import SubscriptionRecord
    from posthouse.contracts.store import Books, Deceased, Store
    from posthouse.contracts.streams import Feed, Subscribed
    from posthouse.message.message import Message
    from posthouse.protocol.inbox import Request
    from posthouse.protocol.outbox import Call

_NOTHING: Final = msgspec.Raw(b"null")

MISSING: Final = "missing"
HAD: Final = "had"
FAILED: Final = "failed"
UNSEEN: Final = "unseen"


class HeardSeen(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An event at one subscription.

    Attributes:
        subscription: its name.
        store: of its service; None where that is not here.
        state: of its row, a RequestState in small letters; "missing" when it has not come; "had" when it is over, since
            it was handled, given up by an operator, or told before the subscription began; "failed" when its attempts
            were used up, and it was decided so; "unseen" where the store is not here.
        declared: whether the newest contract of its service has the subscription; None where that is not known.
        instances: how many instances of its service take work now.
        since: when its store first knew the subscription.
        floor: all below it are over.
        attempt: how often it was run.
        failures: how often its handler failed.
        deaths: how often its instance died at it.
        instance: who runs it.
        due: when it may run, or could when it was last claimed.
        letter: its dead letter.
        inside: calls that the handler made.
    """

    subscription: str
    state: str
    store: StoreSeen | None = None
    declared: bool | None = None
    instances: int = 0
    since: Instant = 0.0
    floor: int = 0
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    instance: InstanceSeen | None = None
    due: Instant = 0.0
    letter: LetterSeen | None = None
    inside: list[Conversation] = []

    @property
    def service(self) -> str:
        """Whose subscription it is."""
        return service_of(self.subscription)


class EventSeen(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An event from all sides.

    Attributes:
        id: of it.
        event: its topic.
        publisher: the service that told it.
        told: when.
        store: the publisher's; None where that is not here.
        stream: the publisher's store, and the life of it in which its stream was opened.
        number: in that stream.
        kept: whether its publisher still keeps it.
        until: how long, if it is not too much; 0 where that is not known.
        instances: how many instances of the publisher take work now.
        work: the id of the delivery whose handler told it; empty outside one.
        data: of it.
        heard: by whom.
    """

    id: str
    event: str
    publisher: str
    told: Instant
    stream: Identity
    number: int
    store: StoreSeen | None = None
    kept: bool = False
    until: Instant = 0.0
    instances: int = 0
    work: str = ""
    data: msgspec.Raw = _NOTHING
    heard: list[HeardSeen] = []


async def event(stores: Stores, id: str) -> EventSeen | None:
    """Return the event with an id, as it is seen in all stores here; None where none has it."""
    for store in stores.by_service.values():
        seen = await store.read(lambda books: _at_publisher(books, id))
        if seen is not None:
            seen.store = store_seen(store)
            break
    else:
        seen = await _from_hearers(stores, id)
    if seen is None:
        return None
    directory = stores.host.directory
    seen.instances = len(directory.instances(seen.publisher))
    announced = {(each.name, each.topic): each for each in await stores.host.registry.subscriptions()}
    for store in stores.by_service.values():
        seen.heard += await _at_hearer(stores, store, seen, announced)
    found = {each.subscription for each in seen.heard}
    seen.heard += [
        HeardSeen(
            subscription=record.name,
            state=UNSEEN,
            declared=True,
            instances=len(directory.instances(service_of(record.name))),
        )
        for record in directory.subscriptions.get(seen.event, ())
        if record.mode is Mode.JOURNALED and record.declared and record.name not in found
    ]
    seen.heard.sort(key=lambda each: each.subscription)
    return seen


# --- the publisher's side ---------------------------------------------------------------------------------


def _at_publisher(books: Books, id: str) -> EventSeen | None:
    told = books.event(id)
    message = None if told is None else message_of(told.frame)
    if told is None or message is None:
        return None
    seen = _seen(message, Identity(books.identity.id, 0), number_of(told.place))
    stream = next(each for each in books.streams() if each.stream == lane_of(told.place))
    seen.stream = Identity(books.identity.id, stream.epoch)
    seen.told, seen.kept, seen.until = told.at, True, told.at + stream.retain
    return seen


async def _from_hearers(stores: Stores, id: str) -> EventSeen | None:
    """Return what rows and dead letters of subscriptions say of an event that no publisher here keeps."""
    for store in stores.by_service.values():
        frame = await store.read(lambda books: _frame(books, id))
        message = message_of(frame)
        if message is not None and message.kind is Kind.EVENT and (stamps := message.lane) is not None:
            seen = _seen(message, Identity(stamps.caller_store, stamps.opened), stamps.number)
            if (publisher := stores.with_id(stamps.caller_store)) is not None:
                seen.store = store_seen(publisher)
            return seen
    return None


def _frame(books: Books, id: str) -> bytes:
    rows = [row for row in books.requests_named(id) if is_of_feed(lane_of(row.place)) and row.frame]
    return rows[0].frame if rows else next((each.frame for each in letters_named(books, id) if each.frame), b"")


def letters_named(books: Books, id: str) -> list[Deceased]:
    """Return the dead letters of events with this id; it looks at all letters."""
    found: list[Deceased] = []
    after = 0
    while page := books.dead_letters(after=after, limit=1000):
        found += [each for each in page if each.id == id and is_of_feed(lane_of(each.place))]
        after = page[-1].number
    return found


def _seen(message: Message, stream: Identity, number: int) -> EventSeen:
    return EventSeen(
        id=message.id,
        event=message.type,
        publisher=service_of(message.type),
        told=message.time,
        stream=stream,
        number=number,
        work=message.work,
        data=as_json(message.data),
    )


# --- those who hear it ------------------------------------------------------------------------------------


async def _at_hearer(
    stores: Stores, store: Store, seen: EventSeen, announced: Mapping[tuple[str, str], SubscriptionRecord]
) -> list[HeardSeen]:
    directory = stores.host.directory
    heard: list[HeardSeen] = []
    for subscribed, feed, row, letter, calls in await store.read(lambda books: _places(books, seen)):
        record = announced.get((subscribed.name, subscribed.topic))
        each = HeardSeen(
            subscription=subscribed.name,
            state=MISSING if row is None else named(row.state),
            store=store_seen(store),
            declared=is_declared(directory, store.service, record),
            instances=len(directory.instances(store.service)),
            since=subscribed.created,
            floor=0 if feed is None else feed.over.floor,
            letter=None if letter is None else letter_seen(store.service, letter),
        )
        if row is not None:
            each.attempt, each.failures, each.deaths = row.attempt, row.failures, row.deaths
            each.instance = instance_seen(stores, row.instance)
            each.due = row.due if row.due < float("inf") else 0.0
        elif letter is not None and letter.id == seen.id:
            each.state = FAILED
        elif feed is not None and feed.over.holds(seen.number):
            each.state = HAD
        each.inside = [await of_call(stores, store, call, depth=1) for call in calls]
        heard.append(each)
    return heard


def _places(
    books: Books, seen: EventSeen
) -> list[tuple[Subscribed, Feed | None, Request | None, Deceased | None, list[Call]]]:
    found: list[tuple[Subscribed, Feed | None, Request | None, Deceased | None, list[Call]]] = []
    for subscribed in books.subscribed():
        if subscribed.topic != seen.event:
            continue
        feed = books.feed_of(subscribed.name, subscribed.topic, seen.stream)
        if feed is None:
            found.append((subscribed, None, None, None, []))
            continue
        place = place_of(feed.lane, seen.number)
        rows = books.requests_at((place,))
        row = rows[0] if rows else None
        found.append((subscribed, feed, row, books.dead_at(place), [] if row is None else books.calls_of(place)))
    return found
