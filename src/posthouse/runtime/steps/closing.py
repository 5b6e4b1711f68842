"""The replier's side when a caller was put back: how far its lanes were received, and the end of its earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.contracts.store import Deceased
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import NUMBER_BITS, number_of, place_of
from posthouse.runtime.steps.damage import left_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books, LaneIn
    from posthouse.message.message import Message
    from posthouse.protocol.epoch import Identity
    from posthouse.protocol.inbox import Request

ORPHANED: Final = "request.orphaned"
"""The code of the dead letter that tells of a request whose caller was put back, and does not know of it."""

_to_bytes: Final = msgspec.msgpack.Encoder().encode
_epochs_of: Final = msgspec.msgpack.Decoder(list[int]).decode


def tops(books: Books, caller: str) -> bytes:
    """Return the answer to a probe: for each lane of a caller, the epoch that opened it, and one above all received."""
    return _to_bytes([(lane.caller.epoch, lane.next) for lane in books.lanes_in() if lane.caller.id == caller])


def undecided(books: Books, lane: int, ranges: Sequence[tuple[int, int]]) -> list[Request]:
    """Return the requests first..last of a lane that are not decided."""
    places = [
        place_of(lane, number)
        for first, last in ranges
        for number, known in books.known(lane, first, last).items()
        if not known.state.decided
    ]
    return books.requests_at(places)


def close_lost(books: Books, probe: Message, caller: Identity, *, now: Instant) -> list[Request]:
    """Close the lanes of a caller that it does not know any more, since it was put back; see what `probe` says.

    Returns:
        What was undecided in them.
    """
    ended: list[Request] = []
    known = set(_epochs_of(probe.data)) | {caller.epoch}
    for lane in books.lanes_in():
        if lane.caller.id == caller.id and lane.caller.epoch not in known and not lane.closed:
            ended += close(books, lane, 0, now=now)
            books.save_lane_in(lane)
    return ended


def close(books: Books, lane: LaneIn, top: int, *, now: Instant) -> list[Request]:
    """Close a lane whose caller knows no number from `top` on; tell of those that were received all the same.

    The lane is not saved yet.

    Returns:
        What was undecided in it: it has no effect any more.
    """
    rows = [
        row
        for number in books.known(lane.lane, 0, lane.next)
        if (row := left_of(books, place_of(lane.lane, number))) is not None
    ]
    for row in rows:
        if number_of(row.place) >= top:
            if (parked := books.dead_at(row.place)) is not None and parked.state == "parked":
                books.drop_dead((parked.number,))
            books.add_dead(_orphan(row, lane.service, now))
    books.forget_requests(lane.lane, below=1 << NUMBER_BITS)
    lane.over.raise_to(max(top, lane.next))
    lane.closed = True
    return [row for row in rows if not row.state.decided]


def _orphan(row: Request, caller: str, now: Instant) -> Deceased:
    what = "it took effect here" if row.state is RequestState.DONE else "it had no effect here"
    return Deceased(
        place=row.place,
        id=row.id,
        operation=row.operation,
        frame=row.frame,
        state="failed",
        code=ORPHANED,
        reason=f"{caller} was put back to before it asked for this, and does not know of it; {what}",
        detail="",
        attempts=row.attempt,
        cause=ORPHANED,
        at=now,
    )
