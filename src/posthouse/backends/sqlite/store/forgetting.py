"""Which final calls of a lane go: those that are old, and those beyond so many bytes.

A lane may keep a million of them, so they are not counted anew each time: when they come below the floor
they are counted once, in portions of some hundred, and a row says how many bytes a portion takes. Only
where a limit falls within a portion are its calls looked at one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.protocol.lane import place_of

if TYPE_CHECKING:
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant

PORTION: Final = 256
MOST: Final = 20 * PORTION
"""So many calls are counted, and so many dropped, at once: what else waits for the transaction waits for them."""

COUNTED: Final = "SELECT max(last) FROM posthouse_kept WHERE first BETWEEN ? AND ?"
SIZES: Final = """
SELECT place, length(frame) + length(outcome) FROM posthouse_calls WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?
"""
COUNT: Final = "INSERT INTO posthouse_kept VALUES (?, ?, ?)"
KEPT: Final = "SELECT first, last, bytes FROM posthouse_kept WHERE first BETWEEN ? AND ? ORDER BY first DESC"
UNCOUNT: Final = "DELETE FROM posthouse_kept WHERE first BETWEEN ? AND ?"
OLDEST: Final = "SELECT place, created FROM posthouse_calls WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?"
FORGET: Final = """
DELETE FROM posthouse_calls WHERE place BETWEEN ? AND ? AND state >= 5 AND NOT EXISTS (
  SELECT 1 FROM posthouse_requests AS request
  WHERE request.place = posthouse_calls.work AND posthouse_calls.work <> 0 AND request.state < 5
)
"""


def forget(sql: Sql, *, lane: int, below: int, before: Instant, keep_bytes: int) -> int:
    """Drop final calls as the contract says it, MOST at once, and return how many went.

    Args:
        sql: in a transaction.
        lane: whose.
        below: the number that none of them reaches.
        before: older ones go.
        keep_bytes: so many bytes of the newest stay, if they are not too old.
    """
    start, end = place_of(lane, 0), place_of(lane, below) - 1
    if end < start:
        return 0
    cut = _count(sql, start, end, keep_bytes)
    stop = start
    for place, created in sql.execute(OLDEST, (start, end, MOST)).fetchall():
        if place >= cut and created >= before:
            break
        stop = place + 1
    if stop == start:
        return 0
    sql.execute(FORGET, (start, stop - 1))
    dropped = sql.connection.changes()
    _uncount(sql, start, stop, end)
    return dropped


def _count(sql: Sql, start: int, end: int, keep_bytes: int) -> int:
    """Count what was not counted yet; return the place below which all goes because of its size."""
    [[counted]] = sql.execute(COUNTED, (start, end))
    fresh = sql.execute(SIZES, (start if counted is None else counted + 1, end, MOST)).fetchall()
    whole = len(fresh) - len(fresh) % PORTION
    for first in range(0, whole, PORTION):
        portion = fresh[first : first + PORTION]
        sql.execute(COUNT, (portion[0][0], portion[-1][0], sum(size for _, size in portion)))
    if len(fresh) == MOST:
        return start  # the newest are not counted yet: nobody knows how many bytes there are
    kept, cut = _cut_within(fresh[whole:], 0, keep_bytes)
    if cut is not None:
        return cut
    for first, last, size in sql.execute(KEPT, (start, end)).fetchall():
        if kept + size > keep_bytes:
            _, cut = _cut_within(sql.execute(SIZES, (first, last, PORTION)).fetchall(), kept, keep_bytes)
            return first if cut is None else cut
        kept += size
    return start


def _cut_within(rows: list[tuple[int, int]], kept: int, keep_bytes: int) -> tuple[int, int | None]:
    """Go from the newest back; return the bytes that stay, and the place below which the limit is passed."""
    for place, size in reversed(rows):
        if kept + size > keep_bytes:
            return kept, place + 1
        kept += size
    return kept, None


def _uncount(sql: Sql, start: int, stop: int, end: int) -> None:
    """Take what went, start to before `stop`, out of what was counted."""
    portions = sql.execute(KEPT, (start, stop - 1)).fetchall()
    if not portions:
        return
    sql.execute(UNCOUNT, (start, stop - 1))
    _, last, _ = portions[0]  # the newest of them, which may have been cut in two
    rest = sql.execute(SIZES, (stop, last, PORTION)).fetchall() if last >= stop else []
    if rest:
        sql.execute(COUNT, (rest[0][0], rest[-1][0], sum(size for _, size in rest)))
