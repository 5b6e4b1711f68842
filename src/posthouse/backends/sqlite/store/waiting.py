"""Calls that wait for a number: in which order, and behind which other of their key.

They lie below all lanes, the oldest lowest. Those that stand first of their key, or have none, lie in the upper half;
those behind another one that waits lie in the lower half, as far below the place that they will have, and move up
one by one. So only those that may be next are looked through, however many wait behind one key that is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from posthouse.backends.sqlite.store.reading import read
from posthouse.backends.sqlite.store.sums import CALL, call_of, call_row, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.protocol.outbox import Call

HALF: Final = 1 << 62
WHOLE: Final = f"{CALL}, sum, frame_sum, outcome_sum"
ADD: Final = f"INSERT INTO posthouse_calls ({WHOLE}) VALUES ({', '.join('?' * (WHOLE.count(',') + 1))})"  # noqa: S608 - names of columns

NEWEST_FIRST: Final = f"SELECT max(place) FROM posthouse_calls WHERE place BETWEEN {-HALF} AND -1"  # noqa: S608 - a number of ours
NEWEST_BEHIND: Final = f"SELECT max(place) FROM posthouse_calls WHERE place < {-HALF}"  # noqa: S608 - a number of ours
STANDS_BEHIND: Final = """
SELECT 1 FROM posthouse_calls INDEXED BY posthouse_calls_keyed
WHERE service = ? AND key = ? AND key <> '' AND state < 5 AND place < 0 LIMIT 1
"""
NEXT_BEHIND: Final = select(
    WHOLE,
    f"""
FROM posthouse_calls INDEXED BY posthouse_calls_keyed
WHERE service = ? AND key = ? AND key <> '' AND state < 5 AND place < {-HALF}
ORDER BY place LIMIT 1
""",
)
READY: Final = f"""
SELECT place FROM posthouse_calls AS one
WHERE service = ? AND place < 0 AND place >= {-HALF} AND (
  key = '' OR NOT EXISTS (
    SELECT 1 FROM posthouse_calls AS other INDEXED BY posthouse_calls_keyed
    WHERE other.service = one.service AND other.key = one.key AND other.key <> '' AND other.state < 5
      AND other.place < one.place AND other.place >= {-HALF}
  ) AND NOT EXISTS (
    SELECT 1 FROM posthouse_calls AS other INDEXED BY posthouse_calls_keyed
    WHERE other.service = one.service AND other.key = one.key AND other.key <> '' AND other.state < 5
      AND other.place > 0 AND other.state <> 3
  )
)
ORDER BY place LIMIT ?
"""  # noqa: S608 - a number of ours
AT: Final = select(WHOLE, "FROM posthouse_calls WHERE place = ?")
TAKE_OUT: Final = "DELETE FROM posthouse_calls WHERE place = ?"
DROP_WAITING: Final = "DELETE FROM posthouse_calls WHERE id = ? AND place < 0 RETURNING place, service, key"


class WaitingBooks:
    """What is kept of calls without a number."""

    _sql: Sql

    def add_waiting(self, calls: Sequence[Call]) -> None:
        """Store calls that have no number yet, in this order."""
        place = self._next_place()
        new: set[tuple[str, str]] = set()
        rows: list[tuple[Any, ...]] = []
        for index, call in enumerate(calls, place):
            whose = (call.service, call.key)
            is_behind = bool(call.key) and (whose in new or bool(self._sql.execute(STANDS_BEHIND, whose).fetchall()))
            new.add(whose)
            rows.append(call_row(call, index - HALF if is_behind else index))
        self._sql.executemany(ADD, rows)

    def take_waiting(self, service: str, limit: int) -> list[Call]:
        """Take out the oldest that may be numbered: those without a key, and the first of each key that is free."""
        sql = self._sql
        places = [place for (place,) in sql.execute(READY, (service, limit)).fetchall()]
        calls = [call for place in places for call in read(sql, AT, (place,), call_of)]
        sql.executemany(TAKE_OUT, [(place,) for place in places])
        for call in calls:
            if call.key:
                self._move_up(service, call.key)
        return calls

    def drop_waiting(self, id: str) -> None:
        """Forget one that waits."""
        for place, service, key in self._sql.execute(DROP_WAITING, (id,)).fetchall():
            if key and place >= -HALF:
                self._move_up(service, key)

    def _next_place(self) -> int:
        [[first]] = self._sql.execute(NEWEST_FIRST)
        [[behind]] = self._sql.execute(NEWEST_BEHIND)
        newest = [place for place in (first, None if behind is None else behind + HALF) if place is not None]
        return max(newest, default=-HALF - 1) + 1

    def _move_up(self, service: str, key: str) -> None:
        """Let the oldest that stands behind others of a key stand first: who stood first is gone."""
        for row in self._sql.execute(NEXT_BEHIND, (service, key)).fetchall():
            self._sql.execute(TAKE_OUT, (row[0],))
            self._sql.execute(ADD, call_row(call_of(row), row[0] + HALF))
