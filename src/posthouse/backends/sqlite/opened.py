"""The database file as this process has it open, and whether it still is the one at its path.

SQLite reaches three files by one path: the database, its WAL, and the WAL's index (-shm). In WAL mode it does
not notice when somebody deletes or replaces them under it: this process would go on with files that nobody
else can see. So we remember which files they are, and compare.

A database without its own WAL and index is damaged, whatever is left of it: who finds that, deletes the rest,
so that all processes end up with the same new file. Who decides when to look, and what follows, is elsewhere.

To open and to abandon blocks, and is done by one process at a time, inside the turnstile.
"""

from __future__ import annotations

import os
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Final, cast, final

import apsw

from posthouse.backends.sqlite.commits import flush
from posthouse.backends.sqlite.faults import ours
from posthouse.backends.sqlite.identity import identity, stands
from posthouse.backends.sqlite.place import make_file
from posthouse.backends.sqlite.schema import bring_up_to_date
from posthouse.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from posthouse.backends.sqlite.identity import Identity
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Seconds

_BUSY_AT_OPEN: Final = 5000
_BUSY: Final = 250

_PAGES: Final = 1000
"""The WAL is copied back after so many pages. A WAL that grows makes commits slower, measured (p50 494 to 778 us)."""


class MovedError(UnavailableError):
    """The file was deleted or replaced while it was opened, so the next try finds another one."""


@final
class OpenFile:
    """The three files, open.

    Args:
        path: of the database.
        store: which file was there before it was opened.
        connection: to it.
        wal: a descriptor of its WAL, to be flushed; None when nothing is.
        flush_time: how long a commit that is flushed takes.

    Raises:
        MovedError: they are not there any more.
    """

    __slots__ = ("_index", "_names", "_store", "_wal", "connection", "flush_time", "wal")

    def __init__(
        self, path: Path, store: Identity | None, connection: apsw.Connection, *, wal: int | None, flush_time: Seconds
    ) -> None:
        self.connection = connection
        self.wal = wal
        self.flush_time = flush_time
        self._names = _names(path)
        found = [identity(name) for name in self._names]
        if None in found or found[0] != store:
            raise _moved(path)
        self._store, self._wal, self._index = cast("list[Identity]", found)

    def stands(self) -> bool:
        """Return whether the database and its WAL are the ones at their paths; some microseconds.

        Asked before anything is confirmed. (Two calls of lstat: 4 us beside a flush of some 300, measured.)
        """
        store, wal, _ = self._names
        return stands(store, self._store) and stands(wal, self._wal)

    def stands_whole(self) -> bool:
        """Return whether all three files are; asked once a second, and when something has failed."""
        return self.stands() and stands(self._names[2], self._index)

    def abandon(self) -> None:
        """Let go of files that do not stand, and delete what is left of them."""
        for name, file in zip(self._names, (self._store, self._wal, self._index), strict=True):
            if stands(name, file):  # another program would take an old WAL for that of the new database
                with suppress(FileNotFoundError):
                    os.unlink(name)
        with suppress(apsw.Error):
            self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # there is nothing to be saved
        with suppress(apsw.Error):
            self.close()

    def close(self) -> None:
        """Close them."""
        if self.wal is not None:
            os.close(self.wal)
            self.wal = None
        self.connection.close()


def open_file(path: Path, *, flushes: bool, enough: Seconds, enter: Callable[[Sql], None]) -> OpenFile:
    """Open the database at a path, or make it.

    Args:
        path: of the database.
        flushes: what is confirmed is flushed.
        enough: a flush that takes so long is quick enough, and is not measured again.
        enter: what this process does in it first.

    Raises:
        MovedError: somebody deleted it meanwhile.
        StorageError: it cannot be used.
        UnavailableError: it is locked, or the disk fails.
    """
    make_file(path)
    name, *others = _names(path)
    store = identity(name)
    try:
        if not path.stat().st_size:  # a new one: what lies beside it belonged to one that was deleted
            for other in others:
                with suppress(FileNotFoundError):
                    os.unlink(other)
        connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=200)
        wal: int | None = None
        try:
            wal, flush_time = _begin(path, connection, flushes=flushes, enough=enough, enter=enter)
            return OpenFile(path, store, connection, wal=wal, flush_time=flush_time)
        except BaseException:
            if wal is not None:
                os.close(wal)
            connection.close()
            raise
    except (apsw.Error, FileNotFoundError) as error:
        if identity(name) != store or isinstance(error, FileNotFoundError):
            raise _moved(path) from error
        raise ours(error, path) from error


def _begin(
    path: Path, connection: apsw.Connection, *, flushes: bool, enough: Seconds, enter: Callable[[Sql], None]
) -> tuple[int | None, Seconds]:
    """Make a connection ready; return the open WAL, and how long a commit that is flushed takes."""
    connection.set_busy_timeout(_BUSY_AT_OPEN)
    # A plan must not depend on the values that are bound, or a statement with `LIMIT ?` is prepared
    # anew for each: 40 us instead of 3 (measured, SQLite 3.54).
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    sql = cast("Sql", connection.cursor())
    sql.execute("PRAGMA journal_mode = WAL").fetchall()
    sql.execute("PRAGMA synchronous = NORMAL")  # what must be flushed, the commits flush
    sql.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}").fetchall()
    with connection:
        bring_up_to_date(sql, path)
        enter(sql)
    wal: int | None = None
    flush_time: Seconds = 0.0
    if flushes:
        # there as long as a connection is open; SQLite takes no locks on it that closing it could drop
        wal = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _flush_names(path.parent)
            flush_time = _flush_time(sql, wal, enough=enough)
        except BaseException:
            os.close(wal)
            raise
    connection.set_busy_timeout(_BUSY)
    return wal, flush_time


def _moved(path: Path) -> MovedError:
    return MovedError(f"{path} was deleted while it was opened")


def _names(path: Path) -> tuple[str, str, str]:
    return str(path), f"{path}-wal", f"{path}-shm"


def _flush_names(directory: Path) -> None:
    """Have the names of new files on the disk: a WAL that is flushed and cannot be found is lost all the same."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _flush_time(sql: Sql, wal: int, *, enough: Seconds) -> Seconds:
    """Return how long a commit that is flushed takes, the best of four: the others tell who else used the disk."""
    times: list[Seconds] = []
    for _ in range(4):
        begun = perf_counter()
        try:
            sql.execute("UPDATE changes SET probe = probe + 1")
        except apsw.FullError:
            return 0.0  # what is there can be read and settled all the same
        flush(wal)
        times.append(perf_counter() - begun)
        if times[-1] <= enough:
            break  # quick enough; no start waits to know it better
    return min(times)
