"""A store in memory, for tests and simulations: what several instances of a service share within a process.

It is the same database and the same code, without files, threads and chance. A `MemoryDisk` is what the
stores of one name lie on; it can do what a real one does only once in a while: lose, in a power cut, what was
committed and not flushed. A store is there for as long as somebody has it open, or a test holds its disk.
An instance that dies (`abandon`) leaves it there.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, final

import apsw

from posthouse.backends.sqlite.store.identity import Whereabouts
from posthouse.backends.sqlite.store.rows import UserSql
from posthouse.backends.sqlite.store.slots import Slot
from posthouse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from concurrent.futures import Executor

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.store.connection import Connection
    from posthouse.backends.sqlite.store.processes import Process
    from posthouse.clock import Seconds


class MemoryDatabase:
    """The database of one service: one connection, which its instances use in turn.

    Args:
        name: of it, for errors.
        remember: what is flushed, so that the power can be cut.

    Attributes:
        connection: to it.
        theirs: runs the user's statements on it.
        slot: who writes.
        dead: instances that tests say are dead.
        is_left: instances died, and nobody has opened it since.
    """

    def __init__(self, name: str, *, remember: bool) -> None:
        self.connection = _connection()
        self.theirs = UserSql(self.connection)
        self.slot = Slot()
        self.dead: set[str] = set()
        self.is_left = False
        self._name = name
        self._remember = remember
        self._flushed: bytes | None = None
        self._before = b""
        self._users: list[MemoryEngine] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_used(self) -> bool:
        """Whether somebody has it open, or may come back to it."""
        return bool(self._users) or self.is_left

    @property
    def has_ended(self) -> bool:
        """Whether those who used it ended with their loop, and never closed it."""
        return self._loop is not None and self._loop.is_closed()

    def join(self, user: MemoryEngine) -> None:
        """Count a user in.

        Raises:
            UsageError: it is open in another loop.
        """
        loop = asyncio.get_running_loop()
        if self._users and self._loop is not loop:
            if not self.has_ended:
                raise UsageError(f"{self._name} is open in another event loop; each loop needs a name of its own")
            for each in list(self._users):
                each.abandon()
        self._loop = loop
        self._users.append(user)
        self.is_left = False

    def quit(self, user: MemoryEngine) -> None:
        """Count a user out."""
        if user in self._users:
            self._users.remove(user)

    def before_handlers(self) -> None:
        """Keep what is committed: while a handler writes it cannot be told from what is not."""
        self._before = self.connection.serialize("main")

    def committed(self) -> bytes:
        """Return what is committed at this moment."""
        return self._before if self.connection.in_transaction else self.connection.serialize("main")

    def flush(self) -> None:
        """Have what is committed outlive a power cut."""
        if self._remember:
            self._flushed = self.connection.serialize("main")

    def power_cut(self) -> None:
        """Put back what was flushed; all who have it open are gone."""
        for user in list(self._users):
            user.abandon()
        self.connection.close()
        self.connection = _connection(self._flushed)
        self.theirs = UserSql(self.connection)


class MemoryDisk:
    """What the stores of one name lie on; who holds it (`with`) has them outlive those who open them.

    Args:
        name: as in the URL `memory:NAME`.
        power_cuts: remember at each flush what was flushed, so that the power can be cut.
    """

    def __init__(self, name: str = "", *, power_cuts: bool = False) -> None:
        self.name = name
        self._power_cuts = power_cuts
        self._held = False
        self._databases: dict[str, MemoryDatabase] = {}

    def database(self, service: str) -> MemoryDatabase:
        """Return the database of a service."""
        found = self._databases.get(service)
        if found is None or (found.has_ended and not self._held):
            name = f"memory:{self.name} ({service})"
            found = self._databases[service] = MemoryDatabase(name, remember=self._power_cuts)
        return found

    def let_go(self, service: str) -> None:
        """Forget the store of a service when nobody uses it, and nobody can come back to it."""
        database = self._databases.get(service)
        if database is None or database.is_used or self._held:
            return
        del self._databases[service]
        if not self._databases and _disks.get(self.name) is self:
            del _disks[self.name]

    def power_cut(self, service: str) -> None:
        """Cut the power under a service: its instances die, and what its store has not flushed is lost.

        Raises:
            UsageError: the disk was not told to remember what was flushed.
        """
        if not self._power_cuts:
            raise UsageError("this disk does not know what was flushed: make it with power_cuts=True")
        self.database(service).power_cut()

    @property
    def is_used(self) -> bool:
        """Whether somebody needs it still."""
        databases = self._databases.values()
        return self._held or any(database.is_used and not database.has_ended for database in databases)

    def __enter__(self) -> MemoryDisk:
        if self.name in _disks and _disks[self.name].is_used:
            raise UsageError(f"there is a disk of the name {self.name!r} already, and it is used")
        _disks[self.name] = self
        self._held = True
        return self

    def __exit__(self, *_: object) -> None:
        self._held = False
        for service in list(self._databases):
            self._databases[service].is_left = False
            self.let_go(service)
        if not self._databases:
            _disks.pop(self.name, None)


_disks: Final[dict[str, MemoryDisk]] = {}


def disk_named(name: str) -> MemoryDisk:
    """Return the disk of this name."""
    return _disks.setdefault(name, MemoryDisk(name))


@final
class MemoryEngine:
    """The database of a service on a disk in memory, as one instance has it open.

    Args:
        location: the name of the disk.
        service: whose it is.
    """

    def __init__(self, location: str, *, service: str) -> None:
        self.path = Path(f"memory:{location}") / service
        self.connection: Connection
        self.sql: Sql
        self.theirs: UserSql
        self.reader: Sql | None = None  # in memory nobody can see the past while somebody writes
        self.thread: Executor | None = None
        self.has_processes = False
        self.on_abandon: Callable[[], None] | None = None
        self._location = location
        self._service = service
        self._disk: MemoryDisk | None = None
        self._database: MemoryDatabase
        self._tokens: set[object] = {self}  # for the slot: ourselves for the groups, others for what is rare

    async def open(self, prepare: Callable[[Sql, UserSql, Whereabouts], None]) -> None:
        """Connect, and prepare what is not there."""
        self._disk = disk_named(self._location)
        self._database = self._disk.database(self._service)
        self._database.join(self)
        try:
            async with self._slot():
                self._connect(prepare)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of it."""
        if self._disk is not None:
            self._database.quit(self)
            self._disk.let_go(self._service)
            self._disk = None

    def abandon(self) -> None:
        """Stop in the middle, as a process does that dies."""
        if self._disk is None:
            return
        self._disk = None
        if self.on_abandon is not None:
            self.on_abandon()
        database = self._database
        database.is_left = True
        database.quit(self)
        for token in self._tokens:
            if database.slot.holder is token and database.connection.in_transaction:
                database.connection.execute("ROLLBACK")
            database.slot.forget(token)

    def enter(self) -> bool:
        """Take the slot if it is free."""
        return self._database.slot.enter(self)

    async def wait(self, limit: Seconds) -> bool:
        """Wait for the slot; who holds it in this process always leaves it."""
        await self._database.slot.wait(self)
        return True

    def leave(self) -> None:
        """Let the next one have the slot."""
        self._database.slot.leave(self)

    def before_handlers(self) -> None:
        """Keep what is committed, for those who read meanwhile."""
        self._database.before_handlers()

    def flush(self) -> None:
        """Flush what was committed."""
        self._database.flush()

    def judge(self) -> None:
        """Stay on the loop: nothing takes long here."""

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[UserSql]:
        """Give a copy of what is committed at this moment."""
        copy = _connection(self._database.committed())
        copy.execute("PRAGMA query_only = ON")
        try:
            yield UserSql(copy)
        finally:
            copy.close()

    def gone(self, instance: str, process: Process) -> bool:
        """Say whether a test has said so."""
        return instance in self._database.dead

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None]:
        slot, token = self._database.slot, object()
        self._tokens.add(token)
        try:
            if not slot.enter(token):
                await slot.wait(token)
            yield
        finally:
            self._tokens.discard(token)
            slot.leave(token)

    def _connect(self, prepare: Callable[[Sql, UserSql, Whereabouts], None]) -> None:
        self.connection = self._database.connection
        self.theirs = self._database.theirs
        self.sql = self.connection.cursor()
        self.sql.execute("BEGIN IMMEDIATE")
        try:
            prepare(self.sql, self.theirs, Whereabouts("memory"))
            self.sql.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.sql.execute("ROLLBACK")
            raise
        self.flush()


def _connection(image: bytes | None = None) -> Connection:
    connection = cast("Connection", apsw.Connection(":memory:", statementcachesize=200))
    if image is not None:
        connection.deserialize("main", image)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
