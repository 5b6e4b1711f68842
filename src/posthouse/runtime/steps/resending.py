"""The steps of sending calls again: whose turn it is, and which store, in which life of it, is asked.

A restore of the replier takes back answers that nobody has used: several calls of one key may then have to be asked
anew, and are, one after the other in the order of their numbers. What is sent, and when, is decided in the relay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from posthouse.protocol.lane import number_of
from posthouse.protocol.outbox import CallState, Heard, step
from posthouse.runtime.steps.retracting import retract_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from posthouse.contracts.store import Books, LaneOut
    from posthouse.protocol.epoch import Identity
    from posthouse.protocol.outbox import Call


class Due(NamedTuple):
    """Calls that are due to be sent again, as they are in the books."""

    calls: list[Call]
    lanes: dict[int, LaneOut]
    """as they were when it was seen whose turn it is: if answers were taken back since, these stamps are refused"""
    behind: set[int]
    """places of those whose turn it is not: the replier has not decided an earlier one of their key"""


def due_of(books: Books, places: Sequence[int]) -> Due:
    """Read the calls at these places, and see whose turn it is."""
    calls = books.calls_at(places)
    keyed = [call for call in calls if call.key and call.state.asked]
    keys = {(call.service, call.key) for call in keyed}
    holders = {key: holder.place for key in keys if (holder := books.key_holder(*key)) is not None}
    behind = {call.place for call in keyed if call.place != holders.get((call.service, call.key), call.place)}
    return Due(calls, {lane.lane: lane for lane in books.lanes_out()}, behind)


def bind(books: Books, numbers: Sequence[int], peer: Identity) -> tuple[list[LaneOut], list[Call]]:
    """Bind lanes to a store and its life; answers that an earlier life gave, and nobody has used, are open again.

    All lanes to a service at once: a call must not be asked anew while an earlier one of its key, in another lane,
    still seems to be answered.

    Args:
        books: the store's.
        numbers: of the lanes.
        peer: the store, and its life.

    Returns:
        The lanes that were bound otherwise before, and the calls whose answers were taken back.
    """
    lanes: list[LaneOut] = []
    taken_back: list[Call] = []
    for number in numbers:
        lane = books.lane_out(number)
        if lane is None or lane.peer == peer:
            continue
        if lane.peer.id:
            taken_back += _take_back(books, lane)
        lane.peer = peer
        books.save_lane_out(lane)
        lanes.append(lane)
    retract_runs(books, taken_back)
    return [books.lane_out(lane.lane) or lane for lane in lanes], taken_back


def _take_back(books: Books, lane: LaneOut) -> list[Call]:
    answered = [call for call in unsettled(books, lane) if call.state is CallState.ANSWERED]
    for call in answered:
        call.state = step(call.state, Heard.PEER_RESTORED) or call.state
    books.set_calls([(call.state, b"", 0, False, call.place) for call in answered])
    lane.pending += len(answered)
    return answered


def unsettled(books: Books, lane: LaneOut) -> Iterator[Call]:
    """Yield the calls of a lane that are not final, however many there are."""
    after = -1
    while page := books.unsettled(lane, after=after):
        yield from page
        after = number_of(page[-1].place)
