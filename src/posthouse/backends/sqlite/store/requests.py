"""The replier's side of a store: the requests that it was asked, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw

from posthouse.backends.sqlite.store.many import insert
from posthouse.backends.sqlite.store.reading import read, remains, sound
from posthouse.backends.sqlite.store.sums import (
    REQUEST,
    REQUEST_STATES,
    remains_of,
    request_of,
    request_row,
    select,
    sum_of,
)
from posthouse.errors import UsageError
from posthouse.protocol.inbox import Known, Request, RequestState
from posthouse.protocol.lane import SELF, place_of
from posthouse.protocol.stream import FEEDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant
    from posthouse.protocol.epoch import Identity

_WHOLE: Final = f"{REQUEST}, sum, frame_sum, outcome_sum"
_ADD: Final = f"INSERT INTO posthouse_requests ({_WHOLE}) VALUES ({', '.join('?' * (_WHOLE.count(',') + 1))})"  # noqa: S608 - names of columns

KNOWN: Final = "SELECT place, state, digest, asked, asker FROM posthouse_requests WHERE place BETWEEN ? AND ?"
AT: Final = select(_WHOLE, "FROM posthouse_requests WHERE place = ?")
_BY_ID: Final = select(_WHOLE, "FROM posthouse_requests WHERE id = ? ORDER BY place LIMIT 1")
CLAIMABLE: Final = select(
    _WHOLE,
    """
FROM posthouse_requests
WHERE operation = ? AND state IN (1, 3) AND due <= ? AND (deaths > 0) = ? ORDER BY due, place LIMIT ?
""",
)
NEXT_DUE: Final = "SELECT min(due) FROM posthouse_requests WHERE operation = ? AND state IN (1, 3)"
WAITING: Final = "SELECT operation, count(*) FROM posthouse_requests WHERE state IN (1, 3) GROUP BY operation"
CLAIM: Final = """
UPDATE posthouse_requests SET state = 2, instance = ?, attempt = attempt + 1 WHERE place = ? AND state IN (1, 3)
"""
DECIDE: Final = """
UPDATE posthouse_requests SET state = ?, instance = '', outcome = ?, outcome_sum = ?
WHERE place = ? AND state = 2 AND instance = ? AND attempt = ?
"""
DECIDE_FRAME: Final = """
UPDATE posthouse_requests SET state = ?, instance = '', outcome = ?, outcome_sum = ?, frame = ?, frame_sum = ?
WHERE place = ? AND state = 2 AND instance = ? AND attempt = ?
"""
PUT_BACK: Final = """
UPDATE posthouse_requests SET state = ?, instance = '', due = ?, failures = ?, deaths = ?
WHERE place = ? AND state = 2 AND instance = ? AND attempt = ?
"""
REVIVE: Final = """
UPDATE posthouse_requests SET state = 1, due = ?, failures = 0, deaths = min(deaths, 1)
WHERE place = ? AND state = 4 AND (asked >= ? OR place NOT BETWEEN ? AND ?)
RETURNING place
"""
SET: Final = "UPDATE posthouse_requests SET state = ?, due = ?, outcome = ?, outcome_sum = ? WHERE place = ?"
# What was undecided when the present life began has waited for this; one that rests is run anew, with what it was told.
ASK_AGAIN: Final = """
UPDATE posthouse_requests SET
  due = CASE WHEN state IN (1, 3) AND asked < :asked THEN :now ELSE due END,
  state = CASE WHEN state = 3 AND asked < :asked THEN 1 ELSE state END,
  asked = :asked, asker = :asker, reply_to = :reply_to
WHERE place = :place
"""
HOLD: Final = """
UPDATE posthouse_requests SET
  state = CASE state WHEN 2 THEN 1 ELSE state END, instance = '', due = 9e999, asked = 0
WHERE place BETWEEN ? AND ? AND state IN (1, 2, 3, 4)
"""
HELD: Final = select(
    REQUEST.replace(" frame,", " x'' AS frame,"),
    ", sum, 0, outcome_sum FROM posthouse_requests WHERE state = 2 AND instance = ? ORDER BY place",
)
HOLDERS: Final = "SELECT DISTINCT instance FROM posthouse_requests WHERE state = 2"
FORGET: Final = "DELETE FROM posthouse_requests WHERE place BETWEEN ? AND ?"
_LISTED: Final = select(
    _WHOLE,
    """
FROM posthouse_requests
WHERE (:operation = '' OR operation = :operation) AND (:decided IS NULL OR (state >= 5) = :decided)
  AND (:state IS NULL OR state = :state) AND place BETWEEN :first AND :last
ORDER BY place DESC LIMIT :limit
""",
)

_LAST: Final = (1 << 63) - 1
PEERS: Final = place_of(SELF + 1, 0), place_of(FEEDS, 0) - 1
"""The first place, and the last one, of what others have asked."""


class RequestBooks:
    """What is kept of requests."""

    identity: Identity
    _sql: Sql

    def known(self, lane: int, first: int, last: int) -> dict[int, Known]:
        """Return, by number, what is known of the requests first..last of a lane."""
        base = place_of(lane, 0)
        return {
            place - base: Known(REQUEST_STATES[state], digest, asked, asker)
            for place, state, digest, asked, asker in self._sql.execute(KNOWN, (base + first, base + last))
        }

    def add_requests(self, requests: Sequence[Request]) -> None:
        """Store requests.

        Raises:
            UsageError: a place is taken.
        """
        try:
            insert(self._sql, _ADD, [request_row(request) for request in requests])
        except apsw.ConstraintError as error:
            raise UsageError(f"a request has a place that another one has: {error}") from error

    def requests_at(self, places: Sequence[int]) -> list[Request]:
        """Return the requests at these places, in order; those that are not there are left out."""
        sql = self._sql
        return [request for place in places for request in read(sql, AT, (place,), request_of)]

    def remains(self, place: int) -> Request | None:
        """Return a request as it lies there, damaged or not."""
        return next(map(remains_of, remains(self._sql, AT, (place,))), None)

    def request(self, id: str) -> Request | None:
        """Return a request by its id; looks at all of them."""
        return next(iter(read(self._sql, _BY_ID, (id,), request_of)), None)

    def claimable(self, operation: str, now: Instant, limit: int, *, suspects: bool = False) -> list[Request]:
        """Return received and suspended requests of an operation that are due, the one that is due first first."""
        return read(self._sql, CLAIMABLE, (operation, now, suspects, limit), request_of)

    def next_due(self, operation: str) -> Instant | None:
        """Return when the next received or suspended request of an operation is due; None when there is none."""
        [[due]] = self._sql.execute(NEXT_DUE, (operation,))
        return due

    def waiting_requests(self) -> dict[str, int]:
        """Return how many received and suspended requests there are, by operation; walks through the index of them."""
        return dict(self._sql.execute(WAITING).fetchall())

    def claim(self, instance: str, places: Sequence[int]) -> None:
        """Make received or suspended requests running ones of an instance, each with one attempt more."""
        self._sql.executemany(CLAIM, [(instance, place) for place in places])

    def decide(
        self, place: int, *, instance: str, attempt: int, state: RequestState, outcome: bytes, frame: bytes | None
    ) -> bool:
        """Decide a request that runs, if this attempt of this instance still holds it; return whether it did."""
        sql = self._sql
        if frame is None:
            sql.execute(DECIDE, (state, outcome, sum_of(outcome), place, instance, attempt))
        else:
            values = (state, outcome, sum_of(outcome), frame, sum_of(frame), place, instance, attempt)
            sql.execute(DECIDE_FRAME, values)
        return sql.connection.changes() == 1

    def put_back(
        self, place: int, *, instance: str, attempt: int, state: RequestState, due: Instant, failures: int, deaths: int
    ) -> bool:
        """Take a request from running to RECEIVED, SUSPENDED or PARKED, if this attempt still holds it."""
        self._sql.execute(PUT_BACK, (state, due, failures, deaths, place, instance, attempt))
        return self._sql.connection.changes() == 1

    def set_requests(self, rows: Iterable[tuple[RequestState, Instant, bytes, int]]) -> None:
        """Write (state, due, outcome, place) of requests that do not run."""
        self._sql.executemany(
            SET, [(state, due, outcome, sum_of(outcome), place) for state, due, outcome, place in rows]
        )

    def ask_again(self, rows: Iterable[tuple[int, int, str, int]], now: Instant) -> None:
        """Write (asked, asker, reply_to, place) of requests that their caller asked for again.

        Those that were undecided when the present life began, and not asked for since, may run from now on.
        """
        values = [
            {"asked": asked, "asker": asker, "reply_to": reply_to, "place": place, "now": now}
            for asked, asker, reply_to, place in rows
        ]
        self._sql.executemany(ASK_AGAIN, values)

    def hold(self, lane: int) -> None:
        """Let the undecided requests of a lane wait until they are asked for again; the claims on them are void."""
        self._sql.execute(HOLD, (place_of(lane, 0), place_of(lane + 1, 0) - 1))

    def held_by(self, instance: str) -> list[Request]:
        """Return the requests that an instance runs, without their frames."""
        return read(self._sql, HELD, (instance,), request_of)

    def forget_requests(self, lane: int, *, below: int, ranges: Sequence[tuple[int, int]] = ()) -> None:
        """Drop the rows of a lane below a number, and those in ranges."""
        base = place_of(lane, 0)
        self._sql.execute(FORGET, (base, base + below - 1))
        for first, last in ranges:
            self._sql.execute(FORGET, (base + first, base + last))

    def revive(self, places: Sequence[int], due: Instant) -> list[int]:
        """Make parked requests received again, with all their attempts before them; return which were.

        Nothing happens to others, nor to those that their caller has not asked for in the present life.
        """
        values = [(due, place, self.identity.epoch, *PEERS) for place in places]
        return [place for (place,) in self._sql.executemany(REVIVE, values).fetchall()]

    def requests_listed(
        self,
        *,
        operation: str = "",
        decided: bool | None = None,
        state: RequestState | None = None,
        lane: int | None = None,
        limit: int = 100,
    ) -> list[Request]:
        """Return requests for people, the newest of each lane first."""
        first, last = (0, _LAST) if lane is None else (place_of(lane, 0), place_of(lane + 1, 0) - 1)
        places = {"first": first, "last": last, "limit": limit}
        asked = {"operation": operation, "decided": decided, "state": state, **places}
        return sound(self._sql, _LISTED, asked, request_of)

    def holders(self) -> set[str]:
        """Return who runs requests."""
        return {instance for (instance,) in self._sql.execute(HOLDERS).fetchall()}
