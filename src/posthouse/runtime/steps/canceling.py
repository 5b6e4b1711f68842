"""The step in which a caller says that it does not want a call any more.

What has a number may have been received, so only the replier can decide it. What has none was never sent:
it is over at once, and takes a number, so that its outcome is kept like any other. Only of one from before a
restore nobody knows that: it may have had a number in the life that was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.message.codec import decode
from posthouse.protocol.inbox import RequestState, waits_for_caller
from posthouse.protocol.lane import lane_of, place_of
from posthouse.protocol.outbox import CallState, Heard, Wants, step
from posthouse.runtime.steps.applying import ReplyRun, add_own, name_of_hearing, run_to_bytes
from posthouse.runtime.steps.wire import CANCELED

if TYPE_CHECKING:
    from posthouse.clock import Instant
    from posthouse.contracts.store import Books, LaneOut
    from posthouse.protocol.outbox import Call


def cancel(books: Books, id: str, *, now: Instant) -> tuple[Call, LaneOut | None] | None:
    """Want a call no more; return it as it is then, with its lane, or None when there is no such call."""
    call = books.call(id)
    if call is None:
        return None
    after = step(call.state, Heard.CANCEL)
    if after is None:
        return call, None
    if call.state is CallState.WAITING:
        return call, _end_waiting(books, call, now)
    books.set_calls(((after, call.outcome, call.outcome_epoch, call.parked, call.place),))
    call.state = after
    return call, books.lane_out(lane_of(call.place))


def end_unsent(books: Books, lane: LaneOut, call: Call, outcome: bytes, *, now: Instant) -> None:
    """End a call that waited for a number, and is taken out of those that wait; its lane is not saved yet.

    It is final at once, also where a handler uses its outcome: nobody else can ever say otherwise of it.

    Args:
        books: the store's.
        lane: of the present life, in which its end is kept.
        call: it.
        outcome: what whoever wants its outcome is told.
        now: when.
    """
    began = books.lives()[-1]
    lost = began.epoch > 1 and call.created < began.at
    call.state, call.outcome = (CallState.UNKNOWN, b"") if lost else (CallState.NOT_DONE, outcome)
    call.place = place_of(lane.lane, lane.next)
    lane.final.add(lane.next)
    lane.next += 1
    lane.waiting = max(0, lane.waiting - 1)  # one from before a restore was counted in another lane
    books.add_calls((call,))
    wake(books, call, now)
    if call.wants is Wants.REPLY_HANDLER and not lost:
        name = name_of_hearing(decode(call.frame).source, call.operation)
        add_own(books, call.id, name, run_to_bytes(ReplyRun(0, 0, call.frame, outcome)), now=now)


def wake(books: Books, call: Call, now: Instant) -> None:
    """Have a handler run again that rests until a call is settled."""
    if call.wants is not Wants.HANDLER:
        return
    for row in books.requests_at((call.work,)):
        waits = waits_for_caller(row.place, row.asked, epoch=books.identity.epoch)
        if row.state is RequestState.SUSPENDED and not waits:
            books.set_requests(((RequestState.RECEIVED, now, b"", row.place),))


def _end_waiting(books: Books, call: Call, now: Instant) -> LaneOut:
    books.drop_waiting(call.id)
    lane = books.lane_to(call.service) or books.open_lane_out(call.service)
    end_unsent(books, lane, call, CANCELED, now=now)
    books.save_lane_out(lane)
    return lane
