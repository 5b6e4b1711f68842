"""Reads whole rows, one of which may be damaged so that a text in it is no text any more.

SQLite hands over a text as it lies there, and what cannot be decoded fails the whole statement. Which row it is, and
what else it holds, is found by reading the texts as bytes.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from posthouse.backends.sqlite.store.sums import damaged
from posthouse.errors import StoreDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from posthouse.backends.sqlite.sql import Sql

T = TypeVar("T")

_log: Final = logging.getLogger("posthouse.store")

_PARTS: Final = re.compile(r"\s*SELECT (.*?)\s+FROM (\w+)(.*)", re.DOTALL)
_KINDS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "posthouse_calls": ("call", frozenset({"id", "service", "operation", "key", "owner"})),
    "posthouse_requests": ("request", frozenset({"id", "operation", "instance", "reply_to"})),
    "posthouse_dead": (
        "dead letter",
        frozenset({"id", "operation", "state", "code", "reason", "detail", "cause"}),
    ),
    "posthouse_events": ("event", frozenset({"id"})),
    "posthouse_lanes_out": ("lane out", frozenset({"service", "peer_store"})),
    "posthouse_lanes_in": ("lane in", frozenset({"caller_store", "service"})),
    "posthouse_feeds": ("feed", frozenset({"publisher_store", "subscription", "topic"})),
    "posthouse_streams": ("stream", frozenset({"topic"})),
    "posthouse_subscriptions": ("subscription", frozenset({"name", "topic"})),
    "posthouse_keys": ("key", frozenset({"scope", "key", "reference"})),
    "posthouse_epoch_floors": ("floor of a life", frozenset()),
    "posthouse_store": ("identity", frozenset({"id"})),
}
"""What a row of a table is called, and which of its columns are texts."""


def read(
    sql: Sql, statement: str, values: Mapping[str, Any] | Sequence[Any], row_of: Callable[[Sequence[Any]], T]
) -> list[T]:
    """Return what a SELECT of whole rows finds.

    Args:
        sql: a cursor.
        statement: names its columns, and one of our tables.
        values: of the statement.
        row_of: makes of a row what it stands for.

    Raises:
        StoreDamagedError: a row is damaged.
    """
    try:
        return list(map(row_of, sql.execute(statement, values).fetchall()))
    except UnicodeDecodeError as error:
        raise _unreadable(sql, statement, values) from error


def sound(
    sql: Sql, statement: str, values: Mapping[str, Any] | Sequence[Any], row_of: Callable[[Sequence[Any]], T]
) -> list[T]:
    """Return what a SELECT of whole rows finds, as `read` does, without the damaged rows, which are logged."""
    found: list[T] = []
    for row in remains(sql, statement, values):
        try:
            found.append(row_of(row))
        except StoreDamagedError as error:
            _log.error("%s; it is left out (%s)", error, error.code)
    return found


def remains(sql: Sql, statement: str, values: Mapping[str, Any] | Sequence[Any]) -> list[Sequence[Any]]:
    """Return the rows that a SELECT finds, with what is left of their texts."""
    try:
        return cast("list[Sequence[Any]]", sql.execute(statement, values).fetchall())
    except UnicodeDecodeError:
        return [row for row, _is_sound in _by_bytes(sql, statement, values)]


def faults(sql: Sql, statement: str, row_of: Callable[[Sequence[Any]], object]) -> Iterator[str]:
    """Yield what is said of each damaged row that a SELECT without values finds."""
    for row, is_sound in _by_bytes(sql, statement, ()):
        try:
            if not is_sound:
                raise _named(statement, row)
            row_of(row)
        except StoreDamagedError as error:
            yield str(error)


def _unreadable(sql: Sql, statement: str, values: Mapping[str, Any] | Sequence[Any]) -> StoreDamagedError:
    return next(_named(statement, row) for row, is_sound in _by_bytes(sql, statement, values) if not is_sound)


def _named(statement: str, row: Sequence[Any]) -> StoreDamagedError:
    parts = _PARTS.match(statement)
    return damaged(_KINDS[parts[2]][0] if parts else "row", row[0] if isinstance(row[0], int) else 0, _id_in(row))


def _id_in(row: Sequence[Any]) -> str:
    """Return the first text of a row: what is left of its id."""
    return next((value for value in row if isinstance(value, str)), "")


def _by_bytes(
    sql: Sql, statement: str, values: Mapping[str, Any] | Sequence[Any]
) -> Iterator[tuple[Sequence[Any], bool]]:
    """Yield each row, with what is left of its texts, and whether all of them are sound."""
    parts = _PARTS.match(statement)
    assert parts is not None  # noqa: S101 - a statement of ours
    columns = parts[1].split(", ")
    texts = _KINDS[parts[2]][1]
    asked = ", ".join(f"CAST({column} AS BLOB)" if column in texts else column for column in columns)
    for row in sql.execute(f"SELECT {asked} FROM {parts[2]}{parts[3]}", values):  # noqa: S608 - as above
        is_sound = True
        found: list[Any] = list(row)
        for index, column in enumerate(columns):
            if column in texts and isinstance(row[index], bytes):
                found[index] = row[index].decode(errors="replace")
                is_sound = is_sound and found[index].encode() == row[index]
        yield found, is_sound
