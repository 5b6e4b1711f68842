"""A store that is only looked at: its file is read, and nothing about it changes.

Who looks is no instance: it makes no file, brings none up to date, enters no member, and begins no life,
wherever the file lies. Each step sees the file as it is at one moment, in a thread of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar, cast, final

import apsw

from posthouse.backends.sqlite.faults import check_engine
from posthouse.backends.sqlite.store.books import SqliteBooks
from posthouse.backends.sqlite.store.faults import FAILURES, told
from posthouse.backends.sqlite.store.identity import Whereabouts
from posthouse.backends.sqlite.store.processes import Process, is_gone, machine_id
from posthouse.backends.sqlite.store.tables import APPLICATION, VERSION
from posthouse.errors import StorageError, UnavailableError
from posthouse.protocol.epoch import Identity

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable
    from pathlib import Path

    from posthouse.backends.sqlite.store.connection import Connection

T = TypeVar("T")

_BUSY: Final = 5000


@final
class Looking:
    """The file of a store, opened to be read.

    Attributes:
        identity: which store it is.
        is_elsewhere: it lies where it did not lie when it was last open.
    """

    def __init__(self, path: Path) -> None:
        self.identity = Identity()
        self.is_elsewhere = False
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="posthouse looks at a store")
        self._connection: Connection | None = None

    async def open(self) -> None:
        """Open the file.

        Raises:
            UnsafeEngineError: this SQLite can lose data.
            StorageError: there is none, it is no store, or one of another version.
        """
        check_engine(apsw.sqlite_lib_version())
        try:
            await self._in_thread(self._open)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._in_thread(connection.close)
        self._thread.shutdown(wait=False)

    def read(self, step: Callable[[SqliteBooks], T]) -> Future[T]:
        """Run a step that reads."""
        return self._in_thread(lambda: self._read(step))

    def _in_thread(self, function: Callable[[], T]) -> Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _open(self) -> None:
        path = self._path
        try:
            found = path.stat()
        except FileNotFoundError:
            raise StorageError(f"there is no store {path}") from None
        except OSError as error:
            raise StorageError(f"{path} cannot be looked into: {error.strerror}") from error
        try:
            self._connection = connection = cast("Connection", apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY))
            connection.set_busy_timeout(_BUSY)
            self._must_be_readable(connection)
            [[id, epoch, *before]] = connection.execute(
                "SELECT id, epoch, machine, device, inode FROM posthouse_store"
            ).fetchall()
        except FAILURES as error:
            raise told(error, path) from error
        self.identity = Identity(id, epoch)
        self.is_elsewhere = Whereabouts(*before) != Whereabouts(machine_id(), found.st_dev, found.st_ino)

    def _must_be_readable(self, connection: Connection) -> None:
        [[application]] = connection.execute("PRAGMA application_id").fetchall()
        [[version]] = connection.execute("PRAGMA user_version").fetchall()
        if application != APPLICATION:
            raise StorageError(f"{self._path} is a database of another program, or no store")
        if version != VERSION:
            which = "a newer" if version > VERSION else "an older"
            hint = "Upgrade this posthouse." if version > VERSION else "Start its service once with this posthouse."
            raise StorageError(
                f"{self._path} was written by {which} posthouse (format {version}; this one knows {VERSION})", hint=hint
            )

    def _read(self, step: Callable[[SqliteBooks], T]) -> T:
        connection = self._opened()
        try:
            connection.execute("BEGIN")
            try:
                return step(SqliteBooks(connection.cursor(), self.identity, process=Process(), gone=_is_gone))
            finally:
                connection.execute("ROLLBACK")
        except FAILURES as error:
            raise told(error, self._path) from error

    def _opened(self) -> Connection:
        if self._connection is None:
            raise UnavailableError(f"{self._path} was closed")
        return self._connection


def _is_gone(instance: str, process: Process) -> bool:
    return is_gone(process)
