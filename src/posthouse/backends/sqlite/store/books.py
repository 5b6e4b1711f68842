"""The books of a store: all that a step may read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.backends.sqlite.store.calls import CallBooks
from posthouse.backends.sqlite.store.feeds import FeedBooks
from posthouse.backends.sqlite.store.lanes import LaneBooks
from posthouse.backends.sqlite.store.letters import KeyBooks, LetterBooks
from posthouse.backends.sqlite.store.members import MemberBooks
from posthouse.backends.sqlite.store.people import PeopleBooks
from posthouse.backends.sqlite.store.requests import RequestBooks
from posthouse.backends.sqlite.store.streams import PublisherBooks
from posthouse.contracts.store import Counts
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.outbox import CallState

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.store.processes import Process
    from posthouse.clock import Instant
    from posthouse.protocol.epoch import Identity

_CALLS: Final = "SELECT service, state, count(*) FROM posthouse_calls GROUP BY service, state"
_REQUESTS: Final = "SELECT operation, state, count(*) FROM posthouse_requests GROUP BY operation, state"
_SIZES: Final = """
SELECT
  (SELECT count(*) FROM posthouse_lanes_out),
  (SELECT count(*) FROM posthouse_lanes_in),
  (SELECT count(*) FROM posthouse_dead),
  (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)
"""


class SqliteBooks(
    MemberBooks,
    LaneBooks,
    CallBooks,
    RequestBooks,
    PublisherBooks,
    FeedBooks,
    LetterBooks,
    KeyBooks,
    PeopleBooks,
):
    """The books, inside a transaction of whoever calls.

    Args:
        sql: a cursor; nobody else uses it in the middle of a method.
        identity: which store it is.
        process: ours.
        gone: says whether an instance's process is known to have ended.
    """

    def __init__(self, sql: Sql, identity: Identity, *, process: Process, gone: Callable[[str, Process], bool]) -> None:
        self._sql = sql
        self.identity = identity
        self.process = process
        self.gone = gone

    def dead(self, now: Instant) -> list[str]:
        """Return the instances that are gone: lease over, process seen to be dead, or left with rows of theirs."""
        judged = self.judged(now)
        left = (self.owners(self.lanes_out()) | self.holders()) - judged.keys() - {""}
        return sorted({instance for instance, is_gone in judged.items() if is_gone} | left)

    def counts(self) -> Counts:
        """Count what is there; looks at everything."""
        calls: dict[str, dict[str, int]] = {}
        for service, state, count in self._sql.execute(_CALLS).fetchall():
            calls.setdefault(service, {})[CallState(state).name.lower()] = count
        requests: dict[str, dict[str, int]] = {}
        for operation, state, count in self._sql.execute(_REQUESTS).fetchall():
            requests.setdefault(operation, {})[RequestState(state).name.lower()] = count
        [[lanes_out, lanes_in, dead, size]] = self._sql.execute(_SIZES)
        return Counts(calls=calls, requests=requests, lanes_out=lanes_out, lanes_in=lanes_in, dead=dead, bytes=size)
