"""A store in a file of the data directory, for all processes of its service.

It makes and looks at the directory and the file, holds the turnstile before the write slot, and flushes.
What is in the tables is known elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

import apsw

from posthouse.backends.sqlite.faults import check_engine
from posthouse.backends.sqlite.identity import stands
from posthouse.backends.sqlite.place import make_directory, make_file
from posthouse.backends.sqlite.store.faults import FAILURES, told
from posthouse.backends.sqlite.store.identity import Whereabouts
from posthouse.backends.sqlite.store.processes import Process, is_gone, machine_id
from posthouse.backends.sqlite.store.rows import UserSql
from posthouse.backends.sqlite.turnstile import Turnstile
from posthouse.errors import StorageError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.store.connection import Connection
    from posthouse.clock import Seconds

T = TypeVar("T")

FOLDER: Final = "stores"

SLOW_FLUSH: Final[Seconds] = 0.001
"""A flush that takes longer than this is not waited for on the loop."""

_PATIENCE: Final[Seconds] = 10.0
_BUSY_AT_OPEN: Final = 5000
_BUSY: Final = 250
_PAGES: Final = 1000
"""The WAL is copied back after so many pages, as that of a transport."""

_RETRY: Final[Seconds] = 0.0005
_RETRY_CAP: Final[Seconds] = 0.004
"""How long the loop is given back when another process writes: first, and at most."""

JUDGED: Final = 32
"""So many flushes say how quick the disk is now."""

_MUCH_SLOWER: Final = 4
"""So many times slower than is slow, and the loop waits for no flush any more."""

_SNAPSHOTS: Final = 8
"""So many idle connections for reading are kept."""


@final
class FileEngine:
    """The file of one service's store, as one process has it open.

    Args:
        directory: the data directory; made when it is not there.
        service: whose store it is.
        engine: the version of SQLite, for tests.
        slow_flush: a flush that takes longer goes to a thread, in seconds.
    """

    def __init__(self, directory: Path, *, service: str, engine: str = "", slow_flush: Seconds = SLOW_FLUSH) -> None:
        self.path = directory / FOLDER / f"{service}.db"
        self.connection: Connection
        self.sql: Sql
        self.theirs: UserSql
        self.reader: Sql | None = None
        self.thread: ThreadPoolExecutor | None = None
        self.flush_time: Seconds = 0.0
        self.has_processes = True
        self.on_abandon: Callable[[], None] | None = None
        self._directory = directory
        self._service = service
        self._version = engine or apsw.sqlite_lib_version()
        self._slow_flush = slow_flush
        self._flushes: deque[Seconds] = deque(maxlen=JUDGED)
        self._pool: ThreadPoolExecutor | None = None
        self._turnstile: Turnstile | None = None
        self._wal: int | None = None
        self._place = 0, 0
        self._opened: list[Connection] = []
        self._idle: list[tuple[Connection, UserSql]] = []

    async def open(self, prepare: Callable[[Sql, UserSql, Whereabouts], None]) -> None:
        """Open the file, and prepare it.

        Raises:
            UnsafeEngineError: this SQLite can lose data.
            StorageError: the directory, or the file, cannot be used; the hint says what to do.
            UnavailableError: the file is locked, or the disk fails.
        """
        check_engine(self._version)
        self.thread = self._pool = self._new_pool()
        try:
            await self._in_thread(self._open, prepare)
        except BaseException:
            await self.close()
            raise
        if self.flush_time <= self._slow_flush:
            self._leave_thread()

    async def close(self) -> None:
        """Close all connections."""
        thread = self.thread = self._pool or self._new_pool()
        try:
            await self._in_thread(self._close)
        finally:
            thread.shutdown(wait=False)
            self.thread = self._pool = None

    def enter(self) -> bool:
        """Pass the turnstile, if that takes no time; in a thread, `wait` does it."""
        return self.thread is None and self._gate.enter()

    async def wait(self, limit: Seconds) -> bool:
        """Wait at the turnstile."""
        if self.thread is not None:
            return await self._in_thread(self._gate.wait, limit)
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + limit, _RETRY
        while loop.time() < until:
            await asyncio.sleep(pause)
            if self._gate.enter(patience=0.0):
                return True
            pause = min(2 * pause, _RETRY_CAP)
        return False

    def leave(self) -> None:
        """Leave the turnstile to the next one."""
        self._gate.leave()

    def before_handlers(self) -> None:
        """Do nothing: SQLite lets others read meanwhile what was committed before."""

    def flush(self) -> None:
        """Flush the WAL.

        Raises:
            OSError: the disk failed, or the file is not at its path any more.
        """
        if self._wal is None:
            return
        begun = perf_counter()
        _flush(self._wal)
        self._flushes.append(perf_counter() - begun)
        if not stands(str(self.path), self._place):
            raise OSError(errno.ESTALE, "the file was replaced while it was open", str(self.path))

    def judge(self) -> None:
        """Go into the thread when flushes have become slow, and back onto the loop when they are quick.

        Between both limits it stays where it is, so that a disk in the middle does not make it go to and fro.
        """
        if len(self._flushes) < JUDGED:
            return
        usual = sorted(self._flushes)[JUDGED // 2]
        if self.thread is None and usual > _MUCH_SLOWER * self._slow_flush:
            self.thread = self._pool = self._new_pool()
        elif self.thread is not None and usual <= self._slow_flush:
            self._leave_thread()
        else:
            return
        self._flushes.clear()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[UserSql]:
        """Give a connection of its own, which sees the file as it is at this moment."""
        connection, rows = self._idle.pop() if self._idle else await self._do(self._second)
        try:
            await self._do(_begin_snapshot, connection)
            yield rows
        finally:
            await self._do(_end_snapshot, connection)
            if len(self._idle) < _SNAPSHOTS:
                self._idle.append((connection, rows))
            else:
                self._opened.remove(connection)
                await self._do(connection.close)

    def abandon(self) -> None:
        """Refuse: a process that is to die can be killed.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.path} is a file; only a store in memory can be abandoned")

    def gone(self, instance: str, process: Process) -> bool:
        """Say whether the process of an instance is known to have ended."""
        return is_gone(process)

    @property
    def _gate(self) -> Turnstile:
        if self._turnstile is None:
            raise UnavailableError(f"the store {self.path} is not open")
        return self._turnstile

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix=f"posthouse store {self._service}")

    def _leave_thread(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self.thread = self._pool = None

    async def _in_thread(self, function: Callable[..., T], *values: Any) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self.thread, function, *values)
        except RuntimeError:  # the interpreter ends, and starts nothing in threads any more
            return function(*values)
        return await running

    async def _do(self, function: Callable[..., T], *values: Any) -> T:
        return function(*values) if self.thread is None else await self._in_thread(function, *values)

    def _open(self, prepare: Callable[[Sql, UserSql, Whereabouts], None]) -> None:
        """Open all, in the thread."""
        make_directory(self._directory)
        make_directory(self.path.parent)
        make_file(self.path)
        try:
            self._turnstile = Turnstile(self.path.parent, prefix=f"{self._service}.")
        except OSError as error:
            raise StorageError(f"the directory {self.path.parent} cannot be used: {error}") from error
        if not self._turnstile.wait(_PATIENCE):
            raise UnavailableError(f"another process has been writing to {self.path} for more than {_PATIENCE:.0f} s")
        try:
            self._connect(prepare)
        except FAILURES as error:
            raise told(error, self.path) from error
        finally:
            self._turnstile.leave()

    def _connect(self, prepare: Callable[[Sql, UserSql, Whereabouts], None]) -> None:
        self.connection = connection = self._connection(apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(_BUSY_AT_OPEN)
        self.sql = sql = connection.cursor()
        self.theirs = UserSql(connection)
        sql.execute("PRAGMA journal_mode = WAL").fetchall()
        sql.execute("PRAGMA synchronous = NORMAL")  # what must be flushed, we flush
        sql.execute("PRAGMA temp_store = MEMORY")  # savepoints write nothing to the disk
        sql.execute("PRAGMA foreign_keys = ON")  # the user's
        sql.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}").fetchall()
        found = self.path.stat()
        self._place = found.st_dev, found.st_ino
        sql.execute("BEGIN IMMEDIATE")
        try:
            prepare(sql, self.theirs, Whereabouts(machine_id(), found.st_dev, found.st_ino))
            sql.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                sql.execute("ROLLBACK")
            raise
        # there as long as a connection is open; SQLite takes no locks on it that closing it could drop
        self._wal = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        for directory in (self._directory, self.path.parent):
            _flush_names(directory)
        _flush(self._wal)
        self.flush_time = _flush_time(sql, self._wal, enough=self._slow_flush / 2)
        connection.set_busy_timeout(_BUSY)
        second = self._connection(apsw.SQLITE_OPEN_READONLY)
        second.set_busy_timeout(_BUSY)
        self.reader = second.cursor()

    def _connection(self, flags: int) -> Connection:
        connection = cast("Connection", apsw.Connection(str(self.path), flags, statementcachesize=200))
        self._opened.append(connection)
        # A plan must not depend on the values that are bound, or a statement with `LIMIT ?` is prepared
        # anew for each.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        return connection

    def _second(self) -> tuple[Connection, UserSql]:
        connection = self._connection(apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(_BUSY)
        return connection, UserSql(connection)

    def _close(self) -> None:
        """Close all that is open, in the thread."""
        if self._wal is not None:
            os.close(self._wal)
            self._wal = None
        for connection in reversed(self._opened):
            connection.close()
        self._opened.clear()
        self._idle.clear()
        if self._turnstile is not None:
            self._turnstile.close()
            self._turnstile = None


def _begin_snapshot(connection: Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("SELECT one FROM posthouse_store").fetchall()  # only now the moment is fixed


def _end_snapshot(connection: Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _flush(file: int) -> None:
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
    sync(file)


def _flush_names(directory: Path) -> None:
    """Have the names of new files on the disk: what is flushed and cannot be found is lost all the same."""
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
            sql.execute("UPDATE posthouse_store SET probe = probe + 1")
        except apsw.FullError:
            return 0.0  # what is there can be read all the same
        _flush(wal)
        times.append(perf_counter() - begun)
        if times[-1] <= enough:
            break  # quick enough; no start waits to know it better
    return min(times)
