"""The caller's side of a store: the calls that it made, with a number or still waiting for one.

A call that waits lies at a place below 0, below every lane (see waiting.py). So all calls are in one table, and
"has it a number" is one comparison.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import apsw

from posthouse.backends.sqlite.store.forgetting import forget
from posthouse.backends.sqlite.store.many import insert
from posthouse.backends.sqlite.store.reading import read, sound
from posthouse.backends.sqlite.store.sums import CALL_STATES, WANTS, call_of, call_row, select, sum_of
from posthouse.backends.sqlite.store.waiting import ADD, HALF, WHOLE, WaitingBooks
from posthouse.contracts.store import Standing
from posthouse.errors import UsageError
from posthouse.protocol.lane import number_of, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from posthouse.clock import Instant
    from posthouse.contracts.store import LaneOut
    from posthouse.protocol.outbox import Call, CallState

STANDINGS: Final = """
SELECT place, state, wants, work, parked, outcome_epoch FROM posthouse_calls WHERE place BETWEEN ? AND ?
"""
SET: Final = """
UPDATE posthouse_calls SET state = ?, outcome = ?, outcome_sum = ?, outcome_epoch = ?, parked = ? WHERE place = ?
"""
SET_FRAME: Final = "UPDATE posthouse_calls SET frame = ?, frame_sum = ?, owner = ? WHERE place = ?"
AT: Final = select(WHOLE, "FROM posthouse_calls WHERE place = ?")
UNSETTLED: Final = select(
    WHOLE, "FROM posthouse_calls WHERE place BETWEEN ? AND ? AND state < 5 ORDER BY place LIMIT ?"
)
REDRIVE: Final = "UPDATE posthouse_calls SET state = 4 WHERE place BETWEEN ? AND ? AND state = 5 RETURNING place"
FIRST: Final = "SELECT min(place) FROM posthouse_calls WHERE place BETWEEN ? AND ?"
OWNERS: Final = "SELECT DISTINCT owner FROM posthouse_calls WHERE place BETWEEN ? AND ? AND state < 5"
BY_ID: Final = select(WHOLE, "FROM posthouse_calls WHERE id = ? ORDER BY place LIMIT 1")
BY_WORK: Final = select(WHOLE, "FROM posthouse_calls WHERE work = ? AND work <> 0")
_LISTED: Final = select(
    WHOLE,
    """
FROM posthouse_calls
WHERE (:service = '' OR service = :service) AND (:final IS NULL OR (state >= 5) = :final)
  AND (:state IS NULL OR state = :state)
ORDER BY id DESC LIMIT :limit
""",
)
KEYED: Final = """
SELECT 1 FROM posthouse_calls WHERE service = ? AND key = ? AND key <> '' AND state < 5 AND state <> 3 LIMIT 1
"""
# The first of those that have a number, else the oldest of those that wait.
KEY_HOLDER: Final = select(
    WHOLE,
    f"""
FROM posthouse_calls WHERE place = coalesce(
  (
    SELECT place FROM posthouse_calls INDEXED BY posthouse_calls_keyed
    WHERE service = :service AND key = :key AND key <> '' AND state < 5 AND state <> 3 AND place > 0
    ORDER BY place LIMIT 1
  ), (
    SELECT place FROM posthouse_calls INDEXED BY posthouse_calls_keyed
    WHERE service = :service AND key = :key AND key <> '' AND state < 5 AND place < 0 AND place >= {-HALF}
    ORDER BY place LIMIT 1
  )
)
""",  # noqa: S608 - a number of ours
)


class CallBooks(WaitingBooks):
    """What is kept of calls."""

    def add_calls(self, calls: Sequence[Call]) -> None:
        """Store calls that have a number.

        Raises:
            UsageError: a place is taken.
        """
        try:
            insert(self._sql, ADD, [call_row(call, call.place) for call in calls])
        except apsw.ConstraintError as error:
            raise UsageError(f"a call has a number that another one has: {error}") from error

    def standings(self, lane: int, first: int, last: int) -> dict[int, Standing]:
        """Return, by number, how the calls first..last of a lane stand."""
        base = place_of(lane, 0)
        return {
            place - base: Standing(place, CALL_STATES[state], WANTS[wants], work, parked == 1, epoch)
            for place, state, wants, work, parked, epoch in self._sql.execute(STANDINGS, (base + first, base + last))
        }

    def set_calls(self, rows: Iterable[tuple[CallState, bytes, int, bool, int]]) -> None:
        """Write (state, outcome, outcome_epoch, parked, place) of calls."""
        self._sql.executemany(
            SET,
            [(state, outcome, sum_of(outcome), epoch, parked, place) for state, outcome, epoch, parked, place in rows],
        )

    def set_frames(self, rows: Iterable[tuple[bytes, str, int]]) -> None:
        """Write (frame, owner, place) of calls that are sent anew."""
        self._sql.executemany(SET_FRAME, [(frame, sum_of(frame), owner, place) for frame, owner, place in rows])

    def calls_at(self, places: Sequence[int]) -> list[Call]:
        """Return the calls at these places, in order; those that are not there are left out."""
        sql = self._sql
        return [call for place in places for call in read(sql, AT, (place,), call_of)]

    def redrive(self, lane: int, first: int, last: int) -> list[int]:
        """Make the calls first..last of a lane that are done re-driving ones; return their numbers, rising."""
        rows = self._sql.execute(REDRIVE, (place_of(lane, first), place_of(lane, last))).fetchall()
        return sorted(number_of(place) for (place,) in rows)

    def first_call(self, lane: int) -> int | None:
        """Return the lowest number of a lane that is kept; None for none."""
        for (place,) in self._sql.execute(FIRST, (place_of(lane, 0), place_of(lane + 1, 0) - 1)).fetchall():
            return None if place is None else number_of(place)
        return None

    def unsettled(self, lane: LaneOut, *, after: int = -1, limit: int = 1000) -> list[Call]:
        """Return calls of a lane that are not final, those behind the number `after`, in order."""
        found: list[Call] = []
        for first, last in _open_ranges(lane, after):
            found += read(self._sql, UNSETTLED, (first, last, limit - len(found)), call_of)
            if len(found) >= limit:
                break
        return found

    def call(self, id: str) -> Call | None:
        """Return a call by its id, numbered or waiting."""
        return next(iter(read(self._sql, BY_ID, (id,), call_of)), None)

    def calls_of(self, work: int) -> list[Call]:
        """Return the calls that were made for a delivery, in the order in which they were made; final ones too."""
        calls = read(self._sql, BY_WORK, (work,), call_of)
        calls.sort(key=lambda call: (call.created, call.id))
        return calls

    def calls_listed(
        self, *, service: str = "", final: bool | None = None, state: CallState | None = None, limit: int = 100
    ) -> list[Call]:
        """Return calls for people, newest first."""
        asked = {"service": service, "final": final, "state": state, "limit": limit}
        return sound(self._sql, _LISTED, asked, call_of)

    def key_is_free(self, service: str, key: str) -> bool:
        """Say whether no call of this key towards a service waits, or is numbered and neither answered nor final."""
        return not self._sql.execute(KEYED, (service, key)).fetchall()

    def key_holder(self, service: str, key: str) -> Call | None:
        """Return the call that others of its key towards a service wait for; None when the key is free."""
        asked = {"service": service, "key": key}
        return next(iter(read(self._sql, KEY_HOLDER, asked, call_of)), None)

    def forget_calls(self, *, lane: int, below: int, before: Instant, keep_bytes: int) -> int:
        """Drop final calls below a number of a lane that are older, or beyond the newest `keep_bytes`."""
        return forget(self._sql, lane=lane, below=below, before=before, keep_bytes=keep_bytes)

    def owners(self, lanes: Sequence[LaneOut]) -> set[str]:
        """Return who sends the calls of these lanes that are not final."""
        return {
            owner
            for lane in lanes
            for bounds in _open_ranges(lane, -1)
            for (owner,) in self._sql.execute(OWNERS, bounds).fetchall()
        }


def _open_ranges(lane: LaneOut, after: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last places of each run of numbers of a lane that are not final, those behind `after`."""
    base = place_of(lane.lane, 0)
    edges: list[tuple[Any, Any]] = [(None, lane.final.floor - 1), *lane.final.ranges, (lane.next, None)]
    for (_, over), (following, _) in pairwise(edges):
        first, last = max(over, after) + 1, following - 1
        if first <= last:
            yield base + first, base + last
