"""The steps of sending calls again: whose turn it is, and which store, in which life of it, is asked.

A restore of the replier takes back answers that nobody has used: several calls of one key may then have to be asked
anew, and are, one after the other in the order of their numbers. What is sent, and when, is decided in the relay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from posthouse.contracts.store import Deceased
from posthouse.protocol.lane import Numbers, number_of
from posthouse.protocol.outbox import CallState, Heard, step
from posthouse.runtime.steps.lives import make_unsure, was_put_back
from posthouse.runtime.steps.retracting import retract_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books, LaneOut
    from posthouse.protocol.epoch import Identity
    from posthouse.protocol.outbox import Call


NOT_REDRIVEN: Final = "call.not_redriven"
"""The code of the dead letter that tells of settled calls that a restored replier cannot be asked for again."""


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


class Bound(NamedTuple):
    """What binding lanes to another life of a store came to."""

    lanes: list[LaneOut]
    """those that were bound otherwise before"""
    taken_back: list[Call]
    """the calls whose answers were taken back"""
    redriven: int
    """how many that were done are asked for again"""
    forgotten: list[tuple[str, int, int]]
    """(service, first, last): numbers that would have to be asked for again, and are not kept any more"""


def bind(
    books: Books, numbers: Sequence[int], peer: Identity, *, floors: Mapping[int, Numbers] | None, now: Instant
) -> Bound:
    """Bind lanes to a store and its life; answers that an earlier life gave, and nobody has used, are open again.

    What was done is asked for again where the store, when it was put back, did not know that it was over. All lanes
    to a service at once: a call must not be asked anew while an earlier one of its key, in another lane, still seems
    to be answered.

    Args:
        books: the store's.
        numbers: of the lanes.
        peer: the store, and its life.
        floors: what was over in each lane when that life began, by the epoch in which the lane was opened; None where
            the store did not say: then a lane that knew an earlier life of it stays as it is.
        now: when.
    """
    bound = Bound([], [], 0, [])
    redriven = 0
    for number in numbers:
        lane = books.lane_out(number)
        if lane is None or lane.peer == peer or (lane.peer.id == peer.id and floors is None):
            continue
        if lane.peer.id:
            bound.taken_back.extend(_take_back(books, lane))
        if lane.peer.id == peer.id and floors is not None:
            redriven += _redrive(books, lane, floors.get(lane.epoch, Numbers()), bound.forgotten)
            if was_put_back(books):  # it may have lanes again that we have forgotten, and that it had closed
                make_unsure(books, lane.service)
        lane.peer = peer
        lane.acked = 0
        lane.closed = False  # a store that was put back has forgotten that it is
        books.save_lane_out(lane)
        bound.lanes.append(lane)
    retract_runs(books, bound.taken_back)
    for service, first, last in bound.forgotten:
        _tell_of_forgotten(books, service, first, last, now)
    return bound._replace(lanes=[books.lane_out(lane.lane) or lane for lane in bound.lanes], redriven=redriven)


def _redrive(books: Books, lane: LaneOut, over: Numbers, forgotten: list[tuple[str, int, int]]) -> int:
    """Ask again for what was done and is not over there; none of it is final until that is answered."""
    count = 0
    begin = over.floor
    for first, last in (*over.ranges, (lane.next, lane.next)):
        if begin < first:
            lowest = books.redrive(lane.lane, begin, first - 1)
            count += len(lowest)
            for run_first, run_last in _runs(lowest):
                lane.final.take_out(run_first, run_last)
            kept = books.first_call(lane.lane)
            if (gone := min(first, kept if kept is not None else lane.next)) > begin:
                forgotten.append((lane.service, begin, gone - 1))
        begin = last + 1
    return count


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of rising numbers."""
    at = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield numbers[at], numbers[index - 1]
            at = index


def _tell_of_forgotten(books: Books, service: str, first: int, last: int, now: Instant) -> None:
    books.add_dead(
        Deceased(
            place=0,
            id=f"{service} {first}-{last}",
            operation=service,
            frame=b"",
            state="failed",
            code=NOT_REDRIVEN,
            reason=f"the store of {service} was put back to before calls {first} to {last}, which were settled and are"
            " not kept here any more: what they did there may be lost",
            detail="",
            attempts=0,
            cause=NOT_REDRIVEN,
            at=now,
        )
    )


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
