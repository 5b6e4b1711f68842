"""One conversation, gathered from the stores of both sides: who asked, what became of it there, what it asked itself.

A call stands in its caller's store, and in that of its replier under the lane and the number that the caller gave
it. Either side may be out of sight: a caller without a store, a store on another machine, a row that is over and
forgotten. What is not seen is said to be so, and never guessed. Nothing is printed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.cli.data import as_json
from posthouse.clock import Instant
from posthouse.contracts.store import Books, Deceased, LaneOut, Life
from posthouse.errors import FrameError
from posthouse.message.codec import decode
from posthouse.message.names import service_of
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState, may_run
from posthouse.protocol.lane import SELF, WINDOW, lane_of, number_of, place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.protocol.stream import is_of_feed
from posthouse.runtime.steps.intervening import is_own_run
from posthouse.runtime.steps.wire import outcome_of

if TYPE_CHECKING:
    from posthouse.cli.stores import Stores
    from posthouse.contracts.store import Store
    from posthouse.message.message import Message
    from posthouse.runtime.directory import Directory

DEEPEST: Final = 8
"""Calls within calls are followed so far."""

_NOTHING: Final = msgspec.Raw(b"null")
_ID_LENGTH: Final = 32
_EARLIEST: Final = 1.6e9
_LATEST: Final = 1e10
"""Instants of the years 2020 and 2286: what lies outside is no time, but chance."""

WANTED_BY: Final = {
    Wants.NOBODY: "nobody",
    Wants.CALLER: "caller",
    Wants.HANDLER: "handler",
    Wants.REPLY_HANDLER: "reply handler",
}


class StoreSeen(msgspec.Struct, frozen=True):
    """Which store it is: whose, its id, its life."""

    service: str
    id: str
    epoch: int


class InstanceSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """An instance that a row names: what the registry knows of it, if it is there."""

    id: str
    pid: int = 0
    host: str = ""
    there: bool = False


class LaneSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The lane of a call, at its caller."""

    lane: int
    number: int
    floor: int
    next: int
    pending: int
    waiting: int
    acked: int
    bound_to: Identity
    is_full: bool


class OutcomeSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a request: data, or why there is none."""

    done: bool
    data: msgspec.Raw = _NOTHING
    code: str = ""
    message: str = ""


class CallSeen(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The caller's row.

    Attributes:
        store: where it stands.
        state: a CallState, in small letters.
        wanted_by: who takes the outcome.
        created: when it was stored.
        deadline: after which it need not be done; 0 for none.
        key: the ordering key.
        key_held_by: the call of that key that it waits for; empty when it waits for none.
        lane: None while it has no number and there is no lane.
        owner: the instance that sends it.
        parked: the replier said that it waits for an operator there.
        restored: the life of the store that a restore began; None in its first one.
    """

    store: StoreSeen
    state: str
    wanted_by: str
    created: Instant
    deadline: Instant = 0.0
    key: str = ""
    key_held_by: str = ""
    lane: LaneSeen | None = None
    owner: InstanceSeen | None = None
    parked: bool = False
    restored: Life | None = None


class RequestSeen(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The replier's row, or what is known where there is none.

    Attributes:
        store: where it stands.
        state: a RequestState, in small letters; empty when there is no row.
        forgotten: there is none any more: it was decided, told and acked.
        attempt: how often it was run.
        failures: how often its handler failed.
        deaths: how often its instance died at it.
        instance: who runs it.
        due: when it may run, or could when it was last claimed; 0 for never.
        deadline: after which it is not run; 0 for none.
        may_run: its caller has asked for it in the present lives of both stores.
        floor: what its caller has acked, there.
    """

    store: StoreSeen
    state: str = ""
    forgotten: bool = False
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    instance: InstanceSeen | None = None
    due: Instant = 0.0
    deadline: Instant = 0.0
    may_run: bool = True
    floor: int = 0


class LetterSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter, without its data."""

    id: str
    state: str
    code: str
    reason: str
    attempts: int
    cause: str
    at: Instant
    detail: str = ""


class Conversation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One call from both sides.

    Attributes:
        id: of the request.
        operation: what was asked.
        caller: the service that asked.
        asked: when; 0 where nobody knows any more.
        data: of the request.
        call: the caller's row; None for a caller without a store here.
        request: the replier's row; None where its store is not here, or is another one than was asked.
        outcome: what became of it, as either side keeps it.
        letter: its dead letter.
        work: the id of the delivery whose handler asked; empty outside one.
        instances: how many instances of the replier take work now.
        callers: how many instances of the caller are there now.
        announced: whether the operation was ever announced here.
        offered: how the newest contract of the replier delivers it, as a Mode in small letters; empty when that has it
            no more, or is not known here.
        store_here: the replier's store in this data directory, whether it was asked or not.
        inside: calls that the handler made.
        runs: handlers that hear of its reply or ack, with their state.
    """

    id: str
    operation: str
    caller: str = ""
    asked: Instant = 0.0
    data: msgspec.Raw = _NOTHING
    call: CallSeen | None = None
    request: RequestSeen | None = None
    outcome: OutcomeSeen | None = None
    letter: LetterSeen | None = None
    work: str = ""
    instances: int = 0
    callers: int = 0
    announced: bool = False
    offered: str = ""
    store_here: StoreSeen | None = None
    inside: list[Conversation] = []
    runs: dict[str, str] = {}

    @property
    def replier(self) -> str:
        """The service that was asked."""
        return service_of(self.operation)


def asked_at(id: str) -> Instant:
    """Return when an id of ours was made, since it begins with the time; 0 for one of an application's own."""
    try:
        made = int(id[:12], 16) / 1000 if len(id) == _ID_LENGTH and int(id, 16) >= 0 else 0.0
    except ValueError:
        return 0.0
    return made if _EARLIEST < made < _LATEST else 0.0


def named(state: CallState | RequestState) -> str:
    """Return a state as people and scripts read it."""
    return state.name.lower()


async def conversations(stores: Stores, id: str) -> list[Conversation]:
    """Return all conversations with an id; more than one only where applications gave the same id."""
    found: list[Conversation] = []
    seen: set[tuple[str, int]] = set()
    for store in stores.by_service.values():
        call = await store.read(lambda books: books.call(id))
        if call is not None:
            found.append(await of_call(stores, store, call, seen=seen))
    for store in stores.by_service.values():
        for request in await store.read(lambda books: books.requests_named(id)):
            if (store.service, request.place) not in seen and not _is_no_request(request.place, request.operation):
                found.append(await of_request(stores, store, request))
    if not found:
        for store in stores.by_service.values():
            found += await _of_letters(stores, store, id)
    return found


def _is_no_request(place: int, operation: str) -> bool:
    return is_own_run(place, operation) or is_of_feed(lane_of(place))


async def of_call(
    stores: Stores, store: Store, call: Call, *, depth: int = 0, seen: set[tuple[str, int]] | None = None
) -> Conversation:
    """Return the conversation that a call in a store began.

    Args:
        stores: all of them.
        store: of the caller.
        call: its row.
        depth: how many calls it lies within.
        seen: is given (service, place) of the replier's row.
    """
    lane, holder, life = await store.read(lambda books: _around(books, call))
    message = message_of(call.frame)
    conversation = Conversation(
        id=call.id,
        operation=call.operation,
        caller=store.service,
        asked=call.created,
        call=CallSeen(
            store=store_seen(store),
            state=named(call.state),
            wanted_by=WANTED_BY[call.wants],
            created=call.created,
            deadline=call.deadline,
            key=call.key,
            key_held_by="" if holder is None or holder.id == call.id else holder.id,
            lane=_lane(lane, call),
            owner=instance_seen(stores, call.owner),
            parked=call.parked,
            restored=life if life.epoch > 1 else None,
        ),
    )
    _read_message(conversation, message)
    _see_replier(stores, conversation)
    _read_outcome(conversation, call.outcome)
    await _see_runs(conversation, store)
    replier = stores.by_service.get(call.service)
    bound = Identity() if lane is None else lane.peer
    if replier is None or (bound.id and bound.id != replier.identity.id):
        return conversation
    opened = Identity(store.identity.id, store.identity.epoch if lane is None else lane.epoch)
    number = -1 if not call.place else number_of(call.place)
    place, row, conversation.request = await replier.read(
        lambda books: _at_replier(books, stores, replier, opened, number)
    )
    if row is not None and conversation.outcome is None:
        _read_outcome(conversation, row.outcome)
    if place is not None:
        if seen is not None:
            seen.add((replier.service, place))
        await _see_place(stores, replier, conversation, place, depth=depth)
    return conversation


async def of_request(stores: Stores, store: Store, request: Request) -> Conversation:
    """Return the conversation of a request whose caller has no store here."""
    lane = await store.read(lambda books: books.lane_in(lane_of(request.place)))
    conversation = Conversation(id=request.id, operation=request.operation, caller="" if lane is None else lane.service)
    _read_message(conversation, message_of(request.frame))
    _see_replier(stores, conversation)
    conversation.request = await store.read(lambda books: _request(books, stores, store, request))
    _read_outcome(conversation, request.outcome)
    await _see_place(stores, store, conversation, request.place, depth=0)
    await _see_runs(conversation, store)
    return conversation


async def _of_letters(stores: Stores, store: Store, id: str) -> list[Conversation]:
    """Return what dead letters still tell of requests that both sides have forgotten."""
    found: list[Conversation] = []
    for letter in await store.read(
        lambda books: [each for each in _all_letters(books) if each.id == id and not is_of_feed(lane_of(each.place))]
    ):
        conversation = Conversation(id=id, operation=letter.operation, letter=letter_seen(store.service, letter))
        _read_message(conversation, message_of(letter.frame))
        conversation.request = RequestSeen(store=store_seen(store), forgotten=True)
        _see_replier(stores, conversation)
        found.append(conversation)
    return found


def _all_letters(books: Books) -> list[Deceased]:
    letters: list[Deceased] = []
    after = 0
    while page := books.dead_letters(after=after, limit=1000):
        letters += page
        after = page[-1].number
    return letters


# --- the caller's side ------------------------------------------------------------------------------------


def _around(books: Books, call: Call) -> tuple[LaneOut | None, Call | None, Life]:
    lane = books.lane_out(lane_of(call.place)) if call.place else books.lane_to(call.service)
    holder = books.key_holder(call.service, call.key) if call.key and not call.place else None
    return lane, holder, books.lives()[-1]


def _lane(lane: LaneOut | None, call: Call) -> LaneSeen | None:
    if lane is None:
        return None
    return LaneSeen(
        lane=lane.lane,
        number=number_of(call.place) if call.place else -1,
        floor=lane.final.floor,
        next=lane.next,
        pending=lane.pending,
        waiting=lane.waiting,
        acked=lane.acked,
        bound_to=lane.peer,
        is_full=lane.pending >= WINDOW,
    )


def instance_seen(stores: Stores, id: str) -> InstanceSeen | None:
    """Return what is known of an instance that a row names; None when it names none."""
    if not id:
        return None
    there = stores.instance(id)
    return InstanceSeen(id) if there is None else InstanceSeen(id, there.pid, there.host, there=True)


# --- the replier's side -----------------------------------------------------------------------------------


def _at_replier(
    books: Books, stores: Stores, store: Store, caller: Identity, number: int
) -> tuple[int | None, Request | None, RequestSeen]:
    """Return the place and the row of a number in the lane of a caller, and what is to be said of it."""
    lane = books.lane_from(caller)
    if lane is None or number < 0:
        return None, None, RequestSeen(store=store_seen(store))
    place = place_of(lane.lane, number)
    rows = books.requests_at((place,))
    if rows:
        return place, rows[0], _request(books, stores, store, rows[0])
    forgotten = lane.over.holds(number)
    return place, None, RequestSeen(store=store_seen(store), forgotten=forgotten, floor=lane.over.floor)


def _request(books: Books, stores: Stores, store: Store, row: Request) -> RequestSeen:
    lane = books.lane_in(lane_of(row.place))
    own = lane is None or lane.lane == SELF
    newest = 0 if lane is None or own else books.newest_epoch(lane.caller.id)
    return RequestSeen(
        store=store_seen(store),
        state=named(row.state),
        attempt=row.attempt,
        failures=row.failures,
        deaths=row.deaths,
        instance=instance_seen(stores, row.instance),
        due=row.due if row.due < float("inf") else 0.0,
        deadline=row.deadline,
        may_run=own or may_run(row.asked, row.asker, epoch=books.identity.epoch, newest_asker=newest),
        floor=0 if lane is None else lane.over.floor,
    )


async def _see_place(stores: Stores, store: Store, conversation: Conversation, place: int, *, depth: int) -> None:
    """Add what is kept of a request at its replier, for longer than its row: its dead letter, its handler's calls."""
    letter, calls = await store.read(lambda books: (books.dead_at(place), books.calls_of(place)))
    if letter is not None:
        conversation.letter = letter_seen(store.service, letter)
        if conversation.data == _NOTHING:  # the row's was dropped when it was decided
            _read_message(conversation, message_of(letter.frame))
    if depth < DEEPEST:
        conversation.inside = [await of_call(stores, store, call, depth=depth + 1) for call in calls]


async def _see_runs(conversation: Conversation, store: Store) -> None:
    for row in await store.read(lambda books: books.requests_named(conversation.id)):
        if is_own_run(row.place, row.operation):
            conversation.runs[row.operation] = named(row.state)


def offered(directory: Directory, name: str) -> str:
    """Return how the newest contract of a service delivers an operation, or a subscription; empty for not at all."""
    contract = directory.contracts.get(service_of(name))
    if contract is None:
        return ""
    heard = (each for each in contract.subscriptions if each.declared)
    return next((each.mode.name.lower() for each in (*contract.operations, *heard) if each.name == name), "")


def _see_replier(stores: Stores, conversation: Conversation) -> None:
    directory = stores.host.directory
    conversation.instances = len(directory.instances(conversation.replier))
    conversation.asked = conversation.asked or asked_at(conversation.id)
    conversation.callers = len(directory.present.get(conversation.caller, ()))
    conversation.offered = offered(directory, conversation.operation)
    conversation.announced = bool(conversation.offered)
    store = stores.by_service.get(conversation.replier)
    conversation.store_here = None if store is None else store_seen(store)


# --- what messages say ------------------------------------------------------------------------------------


def letter_seen(service: str, letter: Deceased) -> LetterSeen:
    """Return a dead letter of a service's store."""
    return LetterSeen(
        id=f"{service}:{letter.number}",
        state=letter.state,
        code=letter.code,
        reason=letter.reason,
        attempts=letter.attempts,
        cause=letter.cause,
        at=letter.at,
        detail=letter.detail,
    )


def store_seen(store: Store) -> StoreSeen:
    """Return which store it is."""
    return StoreSeen(store.service, store.identity.id, store.identity.epoch)


def message_of(frame: bytes) -> Message | None:
    """Return the message of a frame; None where it was dropped, or is not one that this version can read."""
    if not frame:
        return None
    try:
        return decode(frame)
    except FrameError:
        return None


def _read_message(conversation: Conversation, message: Message | None) -> None:
    if message is None:
        return
    conversation.data = as_json(message.data)
    conversation.work = message.work
    conversation.asked = conversation.asked or message.time
    conversation.caller = conversation.caller or message.source


def _read_outcome(conversation: Conversation, stored: bytes) -> None:
    if not stored:
        return
    outcome = outcome_of(stored)
    refusal = outcome.refusal
    conversation.outcome = OutcomeSeen(
        outcome.done,
        as_json(outcome.data) if outcome.data else _NOTHING,
        "" if refusal is None else refusal.code,
        "" if refusal is None else refusal.message,
    )
