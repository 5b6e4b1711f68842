"""The steps of a caller whose store was put back, or copied: what is sure of its calls, and what must be asked.

The lost history may have gone on with them. What was answered may have been answered otherwise since, so it is open
again. What waits for a number may have had one, and an effect: only its replier can say, and is probed. A lane of an
earlier life is closed when nothing of it is open any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.protocol.outbox import CallState, Heard, step
from posthouse.runtime.steps.canceling import end_unsent
from posthouse.runtime.steps.lives import is_new, is_unsure, make_sure, make_unsure, was_put_back
from posthouse.runtime.steps.resending import unsettled
from posthouse.runtime.steps.retracting import retract_runs

if TYPE_CHECKING:
    from posthouse.clock import Instant
    from posthouse.contracts.store import Books, LaneOut
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.steps.here import Here

_ALL: Final = 1 << 31

_to_bytes: Final = msgspec.msgpack.Encoder().encode
_tops_of: Final = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


def begin_life(books: Books) -> list[LaneOut]:
    """Bring calls of earlier lives into this one, once in it; return the lanes that were changed."""
    if not is_new(books, "calls") or not was_put_back(books):
        return []
    changed: list[LaneOut] = []
    reopened: list[Call] = []
    for lane in books.lanes_out():
        answered = [call for call in unsettled(books, lane) if call.state is CallState.ANSWERED]
        for call in answered:
            call.state = step(call.state, Heard.WE_RESTORED) or call.state
        books.set_calls([(call.state, b"", 0, False, call.place) for call in answered])
        lane.pending += len(answered)
        lane.waiting = 0
        books.save_lane_out(lane)
        changed.append(lane)
        reopened += answered
    retract_runs(books, reopened)
    waiting: dict[str, int] = {}
    for tally in books.call_tallies():
        if tally.state is CallState.WAITING:
            waiting[tally.service] = waiting.get(tally.service, 0) + tally.count
    for service in dict.fromkeys([*(lane.service for lane in changed), *waiting]):
        make_unsure(books, service)
        lane = books.lane_to(service) or books.open_lane_out(service)
        lane.waiting = waiting.get(service, 0)
        books.save_lane_out(lane)
        changed.append(lane)
    return changed


def unsure(books: Books) -> list[LaneOut]:
    """Return the lanes of this life whose services must be probed."""
    return [lane for lane in books.lanes_out() if lane.epoch == books.identity.epoch and is_unsure(books, lane.service)]


def probe(lane: LaneOut, books: Books, here: Here) -> Message:
    """Return the word that asks a replier how far it has received the lanes of this store; others it may close."""
    identity = books.identity
    known = [each.epoch for each in books.lanes_out() if each.service == lane.service]
    stamps = Lane(identity.id, identity.epoch, lane.peer.id, lane.peer.epoch, -1, 0, b"", lane.epoch)
    return Message(
        Kind.CONTROL,
        "",
        "probe",
        here.service,
        here.now(),
        _to_bytes(known),
        Mode.JOURNALED,
        here.peer,
        subject=lane.service,
        lane=stamps,
    )


def settle_waiting(books: Books, told: Message, now: Instant) -> list[Call]:
    """Take in the answer to a probe; return the calls of which nobody knows now whether they were done.

    A number that the replier has received and this store does not know may have been that of any call that waited.
    """
    stamps, service = told.lane, told.source
    if stamps is None or stamps.caller_epoch != books.identity.epoch or not is_unsure(books, service):
        return []
    ours = {lane.epoch: lane.next for lane in books.lanes_out() if lane.service == service}
    is_lost = any(top > ours.get(opened, 0) for opened, top in _tops_of(told.data))
    make_sure(books, service)
    if not is_lost:
        return []
    began = books.lives()[-1].at
    lane = books.lane_to(service) or books.open_lane_out(service)
    calls = [
        call
        for call in books.calls_listed(service=service, state=CallState.WAITING, limit=_ALL)
        if call.created < began
    ]
    for call in calls:
        books.drop_waiting(call.id)
        end_unsent(books, lane, call, b"", now=now)
    books.save_lane_out(lane)
    return calls


def is_to_be_closed(lane: LaneOut, epoch: int) -> bool:
    """Say whether nothing of a lane of an earlier life is open any more, and its replier has not closed it yet."""
    return lane.epoch != epoch and not lane.closed and lane.final.floor >= lane.next and bool(lane.peer.id)
