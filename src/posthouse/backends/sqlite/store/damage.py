"""Looks for rows that are not as they were written: by reading all of them."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from posthouse.backends.sqlite.store.reading import faults
from posthouse.backends.sqlite.store.seals import SEALED, must_be_sealed
from posthouse.backends.sqlite.store.sums import CALL, LETTER, REQUEST, call_of, event_of, letter_of, request_of, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.sql import Sql

_SUMS: Final = "sum, frame_sum, outcome_sum"
_TABLES: Final[Sequence[tuple[str, Callable[[Sequence[Any]], object]]]] = (
    (select(f"{CALL}, {_SUMS}", "FROM posthouse_calls"), call_of),
    (select(f"{REQUEST}, {_SUMS}", "FROM posthouse_requests"), request_of),
    (select("place, at, id, sum, frame", "FROM posthouse_events"), event_of),
    (select(f"{LETTER}, sum", "FROM posthouse_dead"), letter_of),
    *((sealed.select(table), partial(must_be_sealed, sealed.what)) for table, sealed in SEALED.items()),
)


def damaged_rows(sql: Sql, *, most: int) -> list[str]:
    """Return what is said of damaged rows, at most so many sentences.

    Args:
        sql: a cursor; nobody uses it meanwhile.
        most: so many are enough.
    """
    found: list[str] = []
    for statement, row_of in _TABLES:
        found += islice(faults(sql, statement, row_of), most - len(found))
    return found
