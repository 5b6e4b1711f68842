"""The lanes of a store, out and in: one row each, whatever went through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from posthouse.backends.sqlite.store.reading import remains, sound
from posthouse.backends.sqlite.store.seals import IN, OUT, broken, must_be_sealed, one, seal
from posthouse.backends.sqlite.store.sums import select
from posthouse.contracts.store import LaneIn, LaneOut
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.sql import Sql

pack_ranges: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode
unpack_ranges: Final = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode

NONE: Final = pack_ranges([])

_OUT: Final = f"{OUT}, sum"
OUT_TO: Final = select(_OUT, "FROM posthouse_lanes_out WHERE service = ? AND epoch = ?")
OUT_AT: Final = select(_OUT, "FROM posthouse_lanes_out WHERE lane = ?")
_OUT_ALL: Final = select(_OUT, "FROM posthouse_lanes_out ORDER BY lane")
_OPEN_OUT: Final = "INSERT INTO posthouse_lanes_out VALUES (?, ?, ?, '', 0, 0, 0, ?, 0, 0, 0, 0, ?)"
_SAME_OUT: Final = select(_OUT, "FROM posthouse_lanes_out NOT INDEXED WHERE service = ? AND epoch = ?")
SAVE_OUT: Final = """
UPDATE posthouse_lanes_out
SET peer_store = ?, peer_epoch = ?, next = ?, floor = ?, ranges = ?, pending = ?, waiting = ?, acked = ?, closed = ?,
  sum = ?
WHERE lane = ?
"""

_IN: Final = f"{IN}, sum"
IN_FROM: Final = select(_IN, "FROM posthouse_lanes_in WHERE caller_store = ? AND caller_epoch = ?")
IN_AT: Final = select(_IN, "FROM posthouse_lanes_in WHERE lane = ?")
_IN_ALL: Final = select(_IN, "FROM posthouse_lanes_in ORDER BY lane")
NEWEST: Final = "SELECT epoch FROM posthouse_callers WHERE store = ?"
_HEAR: Final = """
INSERT INTO posthouse_callers VALUES (?, ?) ON CONFLICT DO UPDATE SET epoch = max(epoch, excluded.epoch)
"""
FLOORS_AT: Final = "SELECT epoch, lane, floor, ranges, sum FROM posthouse_epoch_floors WHERE epoch = ?"
_OPEN_IN: Final = "INSERT INTO posthouse_lanes_in VALUES (?, ?, ?, ?, 0, 0, ?, 0, ?)"
_SAME_IN: Final = select(_IN, "FROM posthouse_lanes_in NOT INDEXED WHERE caller_store = ? AND caller_epoch = ?")
SAVE_IN: Final = """
UPDATE posthouse_lanes_in SET service = ?, next = ?, floor = ?, ranges = ?, closed = ?, sum = ? WHERE lane = ?
"""


class LaneBooks:
    """What is kept of lanes."""

    identity: Identity
    _sql: Sql

    def lane_to(self, service: str) -> LaneOut | None:
        """Return the lane of our present epoch towards a service."""
        return one(self._sql, OUT_TO, (service, self.identity.epoch), _out)

    def lane_out(self, lane: int) -> LaneOut | None:
        """Return a lane by its number."""
        return one(self._sql, OUT_AT, (lane,), _out)

    def lanes_out(self) -> list[LaneOut]:
        """Return all of them."""
        return sound(self._sql, _OUT_ALL, (), _out)

    def open_lane_out(self, service: str) -> LaneOut:
        """Make the lane of our present epoch towards a service."""
        [[newest]] = self._sql.execute("SELECT coalesce(max(lane), 0) FROM posthouse_lanes_out")
        epoch = self.identity.epoch
        _must_be_new(self._sql, "lane out", _SAME_OUT, (service, epoch))
        sum = seal(newest + 1, service, epoch, "", 0, 0, 0, NONE, 0, 0, 0, 0)
        self._sql.execute(_OPEN_OUT, (newest + 1, service, epoch, NONE, sum))
        return LaneOut(lane=newest + 1, service=service, epoch=epoch)

    def save_lane_out(self, lane: LaneOut) -> None:
        """Write a lane as it is now."""
        peer, final = lane.peer, lane.final
        counts = (lane.pending, lane.waiting, lane.acked, int(lane.closed))
        values = (peer.id, peer.epoch, lane.next, final.floor, _packed(final), *counts)
        self._sql.execute(SAVE_OUT, (*values, seal(lane.lane, lane.service, lane.epoch, *values), lane.lane))

    def lane_from(self, caller: Identity) -> LaneIn | None:
        """Return the lane of a caller's store and epoch."""
        return one(self._sql, IN_FROM, (caller.id, caller.epoch), _in)

    def lane_in(self, lane: int) -> LaneIn | None:
        """Return a lane by its number."""
        return one(self._sql, IN_AT, (lane,), _in)

    def lanes_in(self) -> list[LaneIn]:
        """Return all of them, the one of the store to itself too."""
        return sound(self._sql, _IN_ALL, (), _in)

    def newest_epoch(self, store: str) -> int:
        """Return the newest epoch of a caller's store that was heard of; 0 for none."""
        return next((epoch for (epoch,) in self._sql.execute(NEWEST, (store,)).fetchall()), 0)

    def hear_epoch(self, store: str, epoch: int) -> None:
        """Remember that a caller's store lives in this epoch now; an older one than is known changes nothing."""
        self._sql.execute(_HEAR, (store, epoch))

    def open_lane_in(self, caller: Identity, service: str) -> LaneIn:
        """Make the lane of a caller's store and epoch."""
        [[newest]] = self._sql.execute("SELECT max(lane) FROM posthouse_lanes_in")
        _must_be_new(self._sql, "lane in", _SAME_IN, (caller.id, caller.epoch))
        self.hear_epoch(caller.id, caller.epoch)
        sum = seal(newest + 1, caller.id, caller.epoch, service, 0, 0, NONE, 0)
        self._sql.execute(_OPEN_IN, (newest + 1, caller.id, caller.epoch, service, NONE, sum))
        return LaneIn(lane=newest + 1, caller=caller, service=service)

    def save_lane_in(self, lane: LaneIn) -> None:
        """Write a lane as it is now."""
        over, caller = lane.over, lane.caller
        values = (lane.service, lane.next, over.floor, _packed(over), int(lane.closed))
        self._sql.execute(SAVE_IN, (*values, seal(lane.lane, caller.id, caller.epoch, *values), lane.lane))

    def floors_at(self, epoch: int) -> dict[int, Numbers]:
        """Return, by lane in, which numbers were known to be over when a life of ours began; nothing for the first."""
        return dict(sound(self._sql, FLOORS_AT, (epoch,), _floor))


def _floor(row: Sequence[Any]) -> tuple[int, Numbers]:
    must_be_sealed("floor of a life", row)
    _, lane, floor, ranges, _ = row
    return lane, _numbers(floor, ranges)


def _packed(numbers: Numbers) -> bytes:
    return pack_ranges(numbers.ranges) if numbers.ranges else NONE


def _numbers(floor: int, ranges: bytes) -> Numbers:
    return Numbers(floor, unpack_ranges(ranges) if ranges != NONE else [])


def _must_be_new(sql: Sql, what: str, statement: str, values: Sequence[Any]) -> None:
    """See that a lane that was not found by its index is not there: else a bit of the index has turned."""
    for row in remains(sql, statement, values):
        raise broken(what, row)


def _out(row: Sequence[Any]) -> LaneOut:
    must_be_sealed("lane out", row)
    lane, service, epoch, store, life, following, floor, ranges, pending, waiting, acked, closed, _ = row
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
    must_be_sealed("lane in", row)
    lane, store, epoch, service, following, floor, ranges, closed, _ = row
    return LaneIn(lane, Identity(store, epoch), service, following, _numbers(floor, ranges), closed == 1)
