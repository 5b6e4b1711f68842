"""What people ask of a store: by an id or its beginning, how many, how old. Some of it looks at everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.backends.sqlite.store.damage import damaged_rows
from posthouse.backends.sqlite.store.reading import sound
from posthouse.backends.sqlite.store.sums import (
    CALL_STATES,
    REQUEST,
    REQUEST_STATES,
    request_of,
    select,
)
from posthouse.contracts.store import CallTally, Life, RequestTally
from posthouse.protocol.lane import NUMBER_BITS

if TYPE_CHECKING:
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant
    from posthouse.protocol.inbox import Request

_SUMS: Final = "sum, frame_sum, outcome_sum"
_IDS: Final = """
SELECT id FROM posthouse_calls WHERE id >= :first AND id < :end
UNION SELECT id FROM posthouse_requests WHERE id >= :first AND id < :end
UNION SELECT id FROM posthouse_dead WHERE id >= :first AND id < :end
UNION SELECT id FROM posthouse_events WHERE id >= :first AND id < :end
UNION SELECT key FROM posthouse_keys WHERE scope = 'deposit' AND key >= :first AND key < :end
ORDER BY 1 LIMIT :limit
"""
_REQUESTS_NAMED: Final = select(f"{REQUEST}, {_SUMS}", "FROM posthouse_requests WHERE id = ? ORDER BY place")
_CALL_TALLIES: Final = """
SELECT service, state, parked, count(*), min(created) FROM posthouse_calls GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_REQUEST_TALLIES: Final = f"""
SELECT operation, state, place >> {NUMBER_BITS}, count(*), min(place), min(due) FROM posthouse_requests
WHERE state < 5 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""  # noqa: S608 - a number of ours
_LIVES: Final = "SELECT epoch, reason, at FROM posthouse_epochs ORDER BY epoch"
_KEPT_SINCE: Final = "SELECT min(created) FROM posthouse_calls WHERE state >= 5"
_MOST_DAMAGE: Final = 20
_DAMAGE: Final = f"PRAGMA quick_check({_MOST_DAMAGE})"
_LAST: Final = "\U0010ffff"
"""Stands behind all that an id can go on with."""


class PeopleBooks:
    """What is found for people."""

    _sql: Sql

    def ids(self, prefix: str, limit: int) -> list[str]:
        """Return ids that begin so: of calls, requests, events, dead letters, adopted deposits; each once, in order."""
        asked = {"first": prefix, "end": prefix + _LAST, "limit": limit}
        return [id for (id,) in self._sql.execute(_IDS, asked).fetchall()]

    def requests_named(self, id: str) -> list[Request]:
        """Return all requests with an id: a request, and what was run here for its reply or its ack."""
        return sound(self._sql, _REQUESTS_NAMED, (id,), request_of)

    def call_tallies(self) -> list[CallTally]:
        """Count the calls by service, state and whether they are parked there."""
        return [
            CallTally(service=service, state=CALL_STATES[state], parked=parked == 1, count=count, oldest=oldest)
            for service, state, parked, count, oldest in self._sql.execute(_CALL_TALLIES).fetchall()
        ]

    def request_tallies(self) -> list[RequestTally]:
        """Count the undecided requests by operation, state and lane."""
        return [
            RequestTally(operation=operation, state=REQUEST_STATES[state], lane=lane, count=count, first=first, due=due)
            for operation, state, lane, count, first, due in self._sql.execute(_REQUEST_TALLIES).fetchall()
        ]

    def lives(self) -> list[Life]:
        """Return the lives of this store, oldest first."""
        return [Life(*row) for row in self._sql.execute(_LIVES).fetchall()]

    def kept_since(self) -> Instant | None:
        """Return when the oldest final call that is kept was stored; None when there is none."""
        [[oldest]] = self._sql.execute(_KEPT_SINCE)
        return oldest

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong in the file, and which rows are not as they were written."""
        found = [text for (text,) in self._sql.execute(_DAMAGE).fetchall() if text != "ok"]
        return found or damaged_rows(self._sql, most=_MOST_DAMAGE)
