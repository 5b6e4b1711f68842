"""The lanes of a store, out and in: one row each, whatever went through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from posthouse.backends.sqlite.store.sums import select
from posthouse.contracts.store import LaneIn, LaneOut
from posthouse.errors import StoreDamagedError
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.sql import Sql

pack_ranges: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode
unpack_ranges: Final = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode

NONE: Final = pack_ranges([])

NOT_AS_WRITTEN: Final = (TypeError, ValueError)
"""What reading a value raises that nobody can have written."""

_OUT: Final = "lane, service, epoch, peer_store, peer_epoch, next, floor, ranges, pending, waiting, acked, closed"
OUT_TO: Final = select(_OUT, "FROM posthouse_lanes_out WHERE service = ? AND epoch = ?")
OUT_AT: Final = select(_OUT, "FROM posthouse_lanes_out WHERE lane = ?")
_OUT_ALL: Final = select(_OUT, "FROM posthouse_lanes_out ORDER BY lane")
_OPEN_OUT: Final = "INSERT INTO posthouse_lanes_out VALUES (?, ?, ?, '', 0, 0, 0, ?, 0, 0, 0, 0)"
SAVE_OUT: Final = """
UPDATE posthouse_lanes_out
SET peer_store = ?, peer_epoch = ?, next = ?, floor = ?, ranges = ?, pending = ?, waiting = ?, acked = ?, closed = ?
WHERE lane = ?
"""

_IN: Final = "lane, caller_store, caller_epoch, service, next, floor, ranges, closed"
IN_FROM: Final = select(_IN, "FROM posthouse_lanes_in WHERE caller_store = ? AND caller_epoch = ?")
IN_AT: Final = select(_IN, "FROM posthouse_lanes_in WHERE lane = ?")
_IN_ALL: Final = select(_IN, "FROM posthouse_lanes_in ORDER BY lane")
NEWEST: Final = "SELECT epoch FROM posthouse_callers WHERE store = ?"
_HEAR: Final = """
INSERT INTO posthouse_callers VALUES (?, ?) ON CONFLICT DO UPDATE SET epoch = max(epoch, excluded.epoch)
"""
FLOORS_AT: Final = "SELECT lane, floor, ranges FROM posthouse_epoch_floors WHERE epoch = ?"
_OPEN_IN: Final = "INSERT INTO posthouse_lanes_in VALUES (?, ?, ?, ?, 0, 0, ?, 0)"
SAVE_IN: Final = """
UPDATE posthouse_lanes_in SET service = ?, next = ?, floor = ?, ranges = ?, closed = ? WHERE lane = ?
"""


class LaneBooks:
    """What is kept of lanes."""

    identity: Identity
    _sql: Sql

    def lane_to(self, service: str) -> LaneOut | None:
        """Return the lane of our present epoch towards a service."""
        return next(map(_out, self._sql.execute(OUT_TO, (service, self.identity.epoch)).fetchall()), None)

    def lane_out(self, lane: int) -> LaneOut | None:
        """Return a lane by its number."""
        return next(map(_out, self._sql.execute(OUT_AT, (lane,)).fetchall()), None)

    def lanes_out(self) -> list[LaneOut]:
        """Return all of them."""
        return list(map(_out, self._sql.execute(_OUT_ALL).fetchall()))

    def open_lane_out(self, service: str) -> LaneOut:
        """Make the lane of our present epoch towards a service."""
        [[newest]] = self._sql.execute("SELECT coalesce(max(lane), 0) FROM posthouse_lanes_out")
        epoch = self.identity.epoch
        self._sql.execute(_OPEN_OUT, (newest + 1, service, epoch, NONE))
        return LaneOut(lane=newest + 1, service=service, epoch=epoch)

    def save_lane_out(self, lane: LaneOut) -> None:
        """Write a lane as it is now."""
        peer, final = lane.peer, lane.final
        counts = (lane.pending, lane.waiting, lane.acked, lane.closed)
        values = (peer.id, peer.epoch, lane.next, final.floor, _packed(final), *counts, lane.lane)
        self._sql.execute(SAVE_OUT, values)

    def lane_from(self, caller: Identity) -> LaneIn | None:
        """Return the lane of a caller's store and epoch."""
        return next(map(_in, self._sql.execute(IN_FROM, (caller.id, caller.epoch)).fetchall()), None)

    def lane_in(self, lane: int) -> LaneIn | None:
        """Return a lane by its number."""
        return next(map(_in, self._sql.execute(IN_AT, (lane,)).fetchall()), None)

    def lanes_in(self) -> list[LaneIn]:
        """Return all of them, the one of the store to itself too."""
        return list(map(_in, self._sql.execute(_IN_ALL).fetchall()))

    def newest_epoch(self, store: str) -> int:
        """Return the newest epoch of a caller's store that was heard of; 0 for none."""
        return next((epoch for (epoch,) in self._sql.execute(NEWEST, (store,)).fetchall()), 0)

    def hear_epoch(self, store: str, epoch: int) -> None:
        """Remember that a caller's store lives in this epoch now; an older one than is known changes nothing."""
        self._sql.execute(_HEAR, (store, epoch))

    def open_lane_in(self, caller: Identity, service: str) -> LaneIn:
        """Make the lane of a caller's store and epoch."""
        [[newest]] = self._sql.execute("SELECT max(lane) FROM posthouse_lanes_in")
        self.hear_epoch(caller.id, caller.epoch)
        self._sql.execute(_OPEN_IN, (newest + 1, caller.id, caller.epoch, service, NONE))
        return LaneIn(lane=newest + 1, caller=caller, service=service)

    def save_lane_in(self, lane: LaneIn) -> None:
        """Write a lane as it is now."""
        over = lane.over
        values = (lane.service, lane.next, over.floor, _packed(over), lane.closed, lane.lane)
        self._sql.execute(SAVE_IN, values)

    def floors_at(self, epoch: int) -> dict[int, Numbers]:
        """Return, by lane in, which numbers were known to be over when a life of ours began; nothing for the first."""
        found = self._sql.execute(FLOORS_AT, (epoch,)).fetchall()
        return {lane: _numbers(floor, ranges) for lane, floor, ranges in found}


def _packed(numbers: Numbers) -> bytes:
    return pack_ranges(numbers.ranges) if numbers.ranges else NONE


def _numbers(floor: int, ranges: bytes) -> Numbers:
    return Numbers(floor, unpack_ranges(ranges) if ranges != NONE else [])


def _out(row: Sequence[Any]) -> LaneOut:
    try:
        return _lane_out(row)
    except NOT_AS_WRITTEN as error:
        raise unreadable("lane out", row) from error


def _lane_out(row: Sequence[Any]) -> LaneOut:
    lane, service, epoch, store, life, following, floor, ranges, pending, waiting, acked, closed = row
    return LaneOut(
        lane,
        service,
        epoch,
        Identity(store, life),
        following,
        _numbers(floor, ranges),
        pending,
        waiting,
        acked,
        closed == 1,
    )


def _in(row: Sequence[Any]) -> LaneIn:
    try:
        return _lane_in(row)
    except NOT_AS_WRITTEN as error:
        raise unreadable("lane in", row) from error


def _lane_in(row: Sequence[Any]) -> LaneIn:
    lane, store, epoch, service, following, floor, ranges, closed = row
    return LaneIn(lane, Identity(store, epoch), service, following, _numbers(floor, ranges), closed == 1)


def unreadable(what: str, row: Sequence[Any]) -> StoreDamagedError:
    """Return the error that says that a row holds what nobody can have written.

    Args:
        what: it is.
        row: begins with its number.
    """
    return StoreDamagedError(f"the {what} {row[0]} is damaged: it cannot be read")
