"""The steps of an operator: run a parked request again, give one up, and say what becomes of a lane without a replier.

Each is one transaction of the one store that has the say: of a request that of its replier, of a call that
of its caller. What has been decided stays decided. Instances that run notice what was changed by themselves.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.contracts.store import LaneOut
from posthouse.errors import CallCanceledError, FailedError, FrameError, StoreDamagedError
from posthouse.message.codec import decode, encode
from posthouse.message.message import Kind, Message, Mode, Refusal
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import RequestState, Then, may_run
from posthouse.protocol.inbox import step as next_of_request
from posthouse.protocol.lane import SELF, lane_of, number_of
from posthouse.protocol.outbox import CallState, Heard, step
from posthouse.protocol.stream import is_of_feed
from posthouse.runtime.steps.applying import add_own, run_of
from posthouse.runtime.steps.canceling import end_unsent, wake
from posthouse.runtime.steps.deciding import end_calls
from posthouse.runtime.steps.receiving import Answer
from posthouse.runtime.steps.retracting import retract_runs
from posthouse.runtime.steps.wire import Outcome, asked_again, outcome_bytes, reply_to, stamps_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books, Deceased
    from posthouse.protocol.inbox import Request
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.steps.here import Here

PAGE: Final = 1000

_OF_OUR_OWN: Final = frozenset({"on_reply", "on_ack", "on_gap"})
"""What a store asks of itself when a reply, an ack or word of lost events has come: SERVICE.on_reply.OPERATION."""


class Did(enum.Enum):
    """What became of one dead letter."""

    DONE = enum.auto()
    DECIDED = enum.auto()
    """It is decided: whoever asked was told that it is not done."""
    UNKNOWN = enum.auto()
    """There is no such letter."""
    OVERTAKEN = enum.auto()
    """The request is not parked any more: it was replayed, given up or canceled meanwhile."""
    NOT_ASKED = enum.auto()
    """Since a restore nobody has asked for it again; until its caller does, it must not run."""
    NO_REQUEST = enum.auto()
    """It is nothing that could be made anew: a run for a reply, an ack or a gap, or word of events that were lost."""


def is_own_run(place: int, operation: str) -> bool:
    """Say whether something is run for a reply, an ack, or word of lost events, that came to this store."""
    return lane_of(place) == SELF and operation.partition(".")[2].partition(".")[0] in _OF_OUR_OWN


# --- dead letters ---------------------------------------------------------------------------------------


def replay(books: Books, number: int, *, now: Instant) -> Did:
    """Have a parked request run again, under its own number, with all its attempts before it."""
    letter = books.dead_letter(number)
    if letter is None:
        return Did.UNKNOWN
    if letter.state == "failed":
        return Did.DECIDED
    row = _parked(books, letter, Then.REPLAY)
    if row is None:
        return Did.OVERTAKEN
    lane = books.lane_in(lane_of(row.place))
    newest = 0 if lane is None or lane.lane == SELF else books.newest_epoch(lane.caller.id)
    if newest and not may_run(row.asked, row.asker, epoch=books.identity.epoch, newest_asker=newest):
        return Did.NOT_ASKED
    if not books.revive((row.place,), now):
        return Did.NOT_ASKED
    books.drop_dead((number,))
    return Did.DONE


def replay_as_new(books: Books, number: int, here: Here, *, id: str) -> Did:
    """Ask what a dead letter asked as a new request, of the store to itself, or hear its event anew; the letter goes.

    Args:
        books: the store's.
        number: of the letter, whose request is decided.
        here: our place.
        id: of the new request.
    """
    letter = books.dead_letter(number)
    if letter is None:
        return Did.UNKNOWN
    if is_own_run(letter.place, letter.operation):
        return Did.NO_REQUEST
    try:
        old = decode(letter.frame)
    except FrameError:
        return Did.NO_REQUEST
    is_event = old.kind is Kind.EVENT
    message = Message(
        Kind.EVENT if is_event else Kind.REQUEST,
        id,
        old.type if is_event else letter.operation,
        old.source,
        here.now(),
        old.data,
        Mode.JOURNALED,
        content_type=old.content_type,
        subject=old.subject,
        tenant=old.tenant,
    )
    add_own(books, id, letter.operation, encode(message), now=here.now())
    books.drop_dead((number,))
    return Did.DONE


def drop(books: Books, number: int, here: Here, answers: list[Answer]) -> Did:
    """Give a dead letter up: a parked request is decided as not done, of a failed one only the letter goes.

    One whose row is damaged is given up like any other: nobody will ever know what it asked.

    Args:
        books: the store's.
        number: of the letter.
        here: our place.
        answers: is given what its caller is to be told, once this is on the disk.
    """
    letter = books.dead_letter(number)
    if letter is None:
        return Did.UNKNOWN
    books.drop_dead((number,))
    row = _parked(books, letter, Then.REFUSE) if letter.state == "parked" else None
    if row is None:
        return Did.DONE if letter.state == "failed" else Did.OVERTAKEN
    text = f"{row.operation} was given up by an operator: {letter.reason}"
    outcome = Outcome(b"", Refusal(FailedError.code, text), done=False)
    calls = books.calls_of(row.place)
    if is_own_run(row.place, row.operation) or is_of_feed(lane_of(row.place)):
        calls += _call_that_is_heard(books, row)
        at = number_of(row.place)
        books.forget_requests(lane_of(row.place), below=0, ranges=((at, at),))  # nobody will ask for it
    else:
        books.set_requests(((RequestState.NOT_DONE, 0.0, outcome_bytes(outcome), row.place),))
        answers += _told(books, row, outcome, here)
    end_calls(books, calls, [], [])
    return Did.DONE


def _call_that_is_heard(books: Books, row: Request) -> list[Call]:
    """Return the call whose reply or ack a run is for; none for an event, or for word of lost ones."""
    if not row.frame or lane_of(row.place) != SELF or row.operation.split(".")[1] == "on_gap":
        return []
    run = run_of(row.frame)
    return books.calls_at((run.call,)) if run.call else []


def _parked(books: Books, letter: Deceased, then: Then) -> Request | None:
    """Return the request of a letter, if it is still parked because of it."""
    newest = books.dead_at(letter.place)
    if newest is not None and newest.number > letter.number:
        return None
    try:
        rows = books.requests_at((letter.place,))
    except StoreDamagedError:
        if then is not Then.REFUSE:
            raise
        rows = _cleared(books, letter.place)
    return next((row for row in rows if next_of_request(row.state, then) and row.state is RequestState.PARKED), None)


def _cleared(books: Books, place: int) -> list[Request]:
    """Write a damaged request that is parked anew, without its data, so that it can be decided."""
    row = books.remains(place)
    if row is None or row.state is not RequestState.PARKED:
        return []
    row.frame, row.outcome = b"", b""
    number = number_of(place)
    books.forget_requests(lane_of(place), below=0, ranges=((number, number),))
    books.add_requests((row,))
    return [row]


def _told(books: Books, row: Request, outcome: Outcome, here: Here) -> Iterator[Answer]:
    if not row.frame:  # it was damaged; its caller is told when it asks again
        return
    lane = books.lane_in(lane_of(row.place))
    message = asked_again(decode(row.frame), peer=row.reply_to, life=row.asker)
    stamps = message.lane
    back = None if stamps is None or lane is None else stamps_back(stamps, books.identity, lane.over.floor)
    store = "" if stamps is None else stamps.caller_store
    answer = reply_to(message, outcome, back, source=here.service, now=here.now())
    yield Answer(message.reply_to, store, answer)


# --- lanes ----------------------------------------------------------------------------------------------


class Changed(msgspec.Struct, kw_only=True):
    """What was done with the calls towards a service.

    Attributes:
        lanes: those that were changed, as they are now.
        asked_again: ids of calls that are asked of another store now.
        unknown: ids of calls of which nobody can ever say what became of them.
        not_done: ids of calls that were never sent, and are not done.
    """

    lanes: list[LaneOut] = []
    asked_again: list[str] = []
    unknown: list[str] = []
    not_done: list[str] = []


def map_lanes(books: Books, service: str, store: Identity) -> Changed:
    """Ask another store of a service what the one that a lane is bound to has not settled.

    What it was asked and has not told is asked of the other one, which knows nothing of it: the effect may be in
    both. What it has told, and no handler has used yet, is asked again as well.
    """
    changed = Changed()
    taken_back: list[Call] = []
    for lane in books.lanes_out():
        if lane.service != service or lane.closed or lane.peer.id == store.id:
            continue
        updates: list[tuple[CallState, bytes, int, bool, int]] = []
        for call in _unsettled(books, lane):
            if call.state is CallState.ANSWERED:
                taken_back.append(call)
            state = step(call.state, Heard.PEER_RESTORED) or call.state
            updates.append((state, b"" if state is CallState.OPEN else call.outcome, 0, False, call.place))
            lane.pending += call.state is CallState.ANSWERED or call.parked
            changed.asked_again.append(call.id)
        lane.peer = store
        lane.acked = 0
        books.set_calls(updates)
        books.save_lane_out(lane)
        changed.lanes.append(lane)
    retract_runs(books, taken_back)
    return changed


def retire_lanes(books: Books, service: str, *, now: Instant) -> Changed:
    """End all that is under way towards a service whose store will never answer again.

    A call that was sent is *unknown*. One that waits for a number was never sent, so it is not done; but one from
    before a restore of ours may have been, in the life that was lost. The lane is bound to nobody afterwards: if
    the service comes again, with whatever store, it is asked what is new.
    """
    changed = Changed()
    for lane in books.lanes_out():
        if lane.service != service or lane.closed:
            continue
        updates: list[tuple[CallState, bytes, int, bool, int]] = []
        for call in _unsettled(books, lane):
            state = step(call.state, Heard.OVER)
            if state is None:  # answered: the handler that waited for it has the last word
                continue
            updates.append((state, call.outcome, call.outcome_epoch, False, call.place))
            lane.final.add(number_of(call.place))
            if state is CallState.UNKNOWN:
                changed.unknown.append(call.id)
            wake(books, call, now)
        books.set_calls(updates)
        lane.pending = 0
        lane.peer = Identity()
        lane.closed = lane.epoch != books.identity.epoch
        if not lane.closed:
            _end_waiting(books, lane, changed, now)
        books.save_lane_out(lane)
        changed.lanes.append(lane)
    return changed


def _unsettled(books: Books, lane: LaneOut) -> Iterator[Call]:
    after = -1
    while page := books.unsettled(lane, after=after, limit=PAGE):
        after = number_of(page[-1].place)
        yield from page


def _end_waiting(books: Books, lane: LaneOut, changed: Changed, now: Instant) -> None:
    """Give what waits a number all the same, under which its end is kept."""
    outcome = _outcome_of_unsent(lane.service)
    while calls := books.take_waiting(lane.service, PAGE):
        for call in calls:
            end_unsent(books, lane, call, outcome, now=now)
            (changed.unknown if call.state is CallState.UNKNOWN else changed.not_done).append(call.id)


def _outcome_of_unsent(service: str) -> bytes:
    text = f"it was never sent: an operator has retired the lane to {service}"
    return outcome_bytes(Outcome(b"", Refusal(CallCanceledError.code, text), done=False))
