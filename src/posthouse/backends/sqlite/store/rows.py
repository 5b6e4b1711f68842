"""The user's own SQL, in the same database as our tables: what it may touch, and what it is told.

SQLite asks the guard about all that a statement would touch, while it is prepared. The guard is there for
all statements and judges only the user's (to set it for each of theirs would have all of ours prepared
anew). Statements are kept prepared by their text; the user's are prepared with a flag that ours have not,
so that a text of theirs never finds one of ours.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import apsw

from posthouse.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from posthouse.backends.sqlite.store.connection import Connection

_OURS: Final = "posthouse_"
_SHOWN: Final = 200
_THEIRS: Final = apsw.SQLITE_PREPARE_PERSISTENT

_ROWS: Final = frozenset({apsw.SQLITE_READ, apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
"""Here the second word is a column's name, or nothing."""

_TRANSACTIONS: Final = frozenset({apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT})
_OTHER_FILES: Final = frozenset({apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH})
_TEMPORARY: Final = frozenset(
    {
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_VIEW,
    }
)
_HARMLESS: Final = frozenset(
    {
        "foreign_key_check",
        "foreign_key_list",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)

_HINT_TABLES: Final = "Choose other names for your tables: those that begin with posthouse_ are posthouse's own."
_HINT_TRANSACTION: Final = (
    "The transaction begins with ctx.transaction() and ends with the handler: it commits when the handler returns,"
    " and rolls back when it raises."
)


class Guard:
    """Says what the user's statements may touch.

    Attributes:
        judging: a statement of the user's is at work.
        why: what was refused last, and what to do instead.
    """

    __slots__ = ("judging", "why")

    def __init__(self) -> None:
        self.judging = False
        self.why: tuple[str, str] | None = None

    def __call__(self, action: int, one: str | None, two: str | None, *_: str | None) -> int:
        """Answer SQLite, which tells what a statement does to what."""
        if not self.judging:
            return apsw.SQLITE_OK
        self.why = self.why or _refusal(action, one or "", two or "")
        return apsw.SQLITE_DENY if self.why else apsw.SQLITE_OK


def _refusal(action: int, one: str, two: str) -> tuple[str, str] | None:
    if action in _TRANSACTIONS:
        return f"{one or 'this'} is not the handler's to say", _HINT_TRANSACTION
    if action in _OTHER_FILES:
        return "other files cannot be attached to the store", "Open them with a connection of your own."
    if action == apsw.SQLITE_PRAGMA:
        if one.lower() in _HARMLESS:
            return None
        return f"PRAGMA {one} may not be used here", "The settings of the store's database are posthouse's own."
    if action in _TEMPORARY:
        return "there are no temporary tables here", "They would be seen by other handlers. Make a table, and drop it."
    named = (one,) if action in _ROWS else (one, two)
    for name in named:
        if name.lower().startswith(_OURS):
            return f"{name} is posthouse's own", _HINT_TABLES
    return None


class _Cursor(Protocol):
    def execute(self, sql: str, values: Any, /, *, prepare_flags: int) -> _Cursor: ...
    def fetchall(self) -> list[tuple[Any, ...]]: ...


class UserSql:
    """Runs the user's statements on a connection.

    Args:
        connection: our own statements may run on it too, between these.
    """

    __slots__ = ("_connection", "_cursor", "_guard")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = cast("_Cursor", connection.cursor())
        self._guard = Guard()
        connection.authorizer = self._guard

    def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows.

        Raises:
            SqlError: it was refused.
            apsw.Error: the engine failed.
        """
        if ";" in sql.rstrip("; \n\t"):  # more than one, it seems; the first ones are not to stay when the last fails
            with self._all_or_none():
                return self._execute(sql, values)
        return self._execute(sql, values)

    def executemany(self, sql: str, values: Sequence[Mapping[str, Any]] | Sequence[tuple[Any, ...]]) -> None:
        """Run a statement for each set of values, for all or for none."""
        with self._all_or_none():
            for each in values:
                self._execute(sql, each)

    def check_deferred(self) -> None:
        """See that no constraint is left broken that is checked only at the commit, which others share.

        Raises:
            SqlError: one is.
        """
        if self._connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            raise SqlError(
                "FOREIGN KEY constraint failed: at the end of the transaction a row is missing that others refer to",
                constraint=True,
            )

    def _execute(self, sql: str, values: Any) -> list[tuple[Any, ...]]:
        guard = self._guard
        guard.judging, guard.why = True, None
        try:
            return self._cursor.execute(sql, values, prepare_flags=_THEIRS).fetchall()
        except _REFUSALS as error:
            raise self._told(error, sql) from error
        finally:
            guard.judging = False

    @contextmanager
    def _all_or_none(self) -> Generator[None]:
        self._connection.execute("SAVEPOINT whole")
        done = False
        try:
            yield
            done = True
        finally:
            if self._connection.in_transaction:  # else SQLite has rolled back everything
                if not done:
                    self._connection.execute("ROLLBACK TO whole")
                self._connection.execute("RELEASE whole")

    def _told(self, error: Exception, sql: str) -> SqlError:
        text = " ".join(sql.split())
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        if self._guard.why is not None:
            why, hint = self._guard.why
            return SqlError(f"{why} (in: {shown})", hint=hint)
        return SqlError(f"{error} (in: {shown})", constraint=isinstance(error, apsw.ConstraintError))


_REFUSALS: Final = (
    apsw.SQLError,
    apsw.ConstraintError,
    apsw.BindingsError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.TooBigError,
    apsw.AuthError,
    apsw.ReadOnlyError,
    TypeError,
    ValueError,
    OverflowError,
    KeyError,
)
"""What says that the statement, or a value of it, is wrong; all else says that the engine fails."""
