"""A store in memory, for tests and simulations: what several instances of a service share within a process.

It is the same database and the same code, without files, threads and chance. A `MemoryDisk` is what the
stores of one name lie on. It is there for as long as one of them is open, or a test holds it; and it can do what
a real one does only once in a while: lose, in a power cut, what was committed and not flushed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, final
from weakref import WeakValueDictionary

import apsw

from posthouse.backends.sqlite.store.identity import Whereabouts
from posthouse.backends.sqlite.store.rows import UserSql

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncGenerator, Callable
    from concurrent.futures import Executor

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.store.engine import Connection
    from posthouse.backends.sqlite.store.processes import Process
    from posthouse.clock import Seconds


@final
class MemoryDatabase:
    """The database of one service: one connection, which its instances use in turn.

    Attributes:
        dead: instances whose process is seen to be dead; for tests.
        users: the engines that have it open.
    """

    def __init__(self, *, remember: bool) -> None:
        self.connection = _connection()
        self.dead: set[str] = set()
        self.users: list[MemoryEngine] = []
        self.waiting: deque[Future[None]] = deque()
        self.taken = False
        self._remember = remember
        self._flushed: bytes | None = None

    def enter(self) -> bool:
        """Take the slot if it is free, and nobody waits for it."""
        if self.taken:
            return False
        self.taken = True
        return True

    def leave(self) -> None:
        """Hand the slot to the one who waits longest."""
        self.taken = False
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                self.taken = True
                waiter.set_result(None)
                return

    def flush(self) -> None:
        """What is committed outlives a power cut from now on."""
        if self._remember:
            self._flushed = self.connection.serialize("main")

    def power_cut(self) -> None:
        """Put back what was flushed; all who have it open are gone."""
        for engine in list(self.users):
            engine.abandon()
        self.connection.close()
        self.connection = _connection(self._flushed)
        self.taken = False
        self.waiting.clear()


@final
class MemoryDisk:
    """What the stores of one name lie on.

    Args:
        name: as in the URL `memory:NAME`.
        power_cuts: remember at each flush what was flushed, so that the power can be cut.
    """

    def __init__(self, name: str = "", *, power_cuts: bool = False) -> None:
        self.name = name
        self._power_cuts = power_cuts
        self._databases: dict[str, MemoryDatabase] = {}

    def database(self, service: str) -> MemoryDatabase:
        """Return the database of a service."""
        found = self._databases.get(service)
        if found is None:
            found = self._databases[service] = MemoryDatabase(remember=self._power_cuts)
        return found

    def power_cut(self, service: str) -> None:
        """Cut the power under a service: its instances die, and what its store has not flushed is lost."""
        self.database(service).power_cut()

    def __enter__(self) -> MemoryDisk:
        _disks[self.name] = self
        return self

    def __exit__(self, *_: object) -> None:
        if _disks.get(self.name) is self:
            del _disks[self.name]


_disks: Final[WeakValueDictionary[str, MemoryDisk]] = WeakValueDictionary()


def disk_named(name: str) -> MemoryDisk:
    """Return the disk of this name; it is there for as long as anybody refers to it."""
    disk = _disks.get(name)
    if disk is None:
        disk = _disks[name] = MemoryDisk(name)
    return disk


@final
class MemoryEngine:
    """The database of a service on a disk in memory, as one instance has it open.

    Args:
        disk: where it lies.
        service: whose it is.
    """

    def __init__(self, disk: MemoryDisk, *, service: str) -> None:
        self.path = Path(f"memory:{disk.name}") / service
        self.connection: Connection
        self.sql: Sql
        self.theirs: UserSql
        self.reader: Sql | None = None  # a second connection would not see what the first one has not committed
        self.thread: Executor | None = None
        self.has_processes = False
        self.on_abandon: Callable[[], None] | None = None
        self._disk = disk
        self._service = service
        self._database = disk.database(service)

    async def open(self, prepare: Callable[[Sql, UserSql, Whereabouts], None]) -> None:
        """Connect, and prepare what is not there."""
        self._database = database = self._disk.database(self._service)
        if not database.enter():
            await self.wait(float("inf"))
        try:
            self.connection = database.connection
            self.sql = sql = self.connection.cursor()
            self.theirs = UserSql(self.connection)
            sql.execute("BEGIN IMMEDIATE")
            try:
                prepare(sql, self.theirs, Whereabouts("memory"))
                sql.execute("COMMIT")
            except BaseException:
                sql.execute("ROLLBACK")
                raise
            database.flush()
        finally:
            database.leave()
        database.users.append(self)

    async def close(self) -> None:
        """Let go of it."""
        if self in self._database.users:
            self._database.users.remove(self)

    def abandon(self) -> None:
        """Stop in the middle, as a process does that dies."""
        if self in self._database.users:
            self._database.users.remove(self)
            if self.on_abandon is not None:
                self.on_abandon()

    def enter(self) -> bool:
        """Take the slot if it is free."""
        return self._database.enter()

    async def wait(self, limit: Seconds) -> bool:
        """Wait for the slot, first come, first served; a holder in this process always leaves."""
        waiter: Future[None] = asyncio.get_running_loop().create_future()
        self._database.waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._database.leave()  # it was handed over in this very moment
            raise
        return True

    def leave(self) -> None:
        """Let the next one have the slot."""
        self._database.leave()

    def flush(self) -> None:
        """Flush what was committed."""
        self._database.flush()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[UserSql]:
        """Give a copy of what is committed at this moment."""
        if not self.enter():
            await self.wait(float("inf"))
        try:
            image = self.connection.serialize("main")
        finally:
            self.leave()
        copy = _connection(image)
        copy.execute("PRAGMA query_only = ON")
        try:
            yield UserSql(copy)
        finally:
            copy.close()

    def gone(self, instance: str, process: Process) -> bool:
        """Say whether a test has said so."""
        return instance in self._database.dead


def _connection(image: bytes | None = None) -> Connection:
    connection = cast("Connection", apsw.Connection(":memory:", statementcachesize=200))
    if image is not None:
        connection.deserialize("main", image)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
