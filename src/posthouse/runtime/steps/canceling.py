"""The step in which a caller says that it does not want a call any more.

What has a number may have been received, so only the replier can decide it. What has none was never sent:
it is over at once, and takes a number, so that its outcome is kept like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.lane import lane_of, place_of
from posthouse.protocol.outbox import CallState, Heard, step
from posthouse.runtime.steps.wire import CANCELED

if TYPE_CHECKING:
    from posthouse.contracts.store import Books, LaneOut
    from posthouse.protocol.outbox import Call


def cancel(books: Books, id: str) -> tuple[Call, LaneOut | None] | None:
    """Want a call no more; return it as it is then, with its lane, or None when there is no such call."""
    call = books.call(id)
    if call is None:
        return None
    after = step(call.state, Heard.CANCEL)
    if after is None:
        return call, None
    if call.state is CallState.WAITING:
        return call, _end_waiting(books, call)
    books.set_calls(((after, call.outcome, call.outcome_epoch, call.parked, call.place),))
    call.state = after
    return call, books.lane_out(lane_of(call.place))


def _end_waiting(books: Books, call: Call) -> LaneOut | None:
    books.drop_waiting(call.id)
    call.state, call.outcome = CallState.NOT_DONE, CANCELED
    lane = books.lane_to(call.service)
    if lane is None:  # of another life of this store: nothing is numbered in it any more
        return None
    number = lane.next
    call.place = place_of(lane.lane, number)
    lane.next += 1
    lane.waiting -= 1
    lane.final.add(number)
    books.add_calls((call,))
    books.save_lane_out(lane)
    return lane
