"""The file of one data directory, as one process has it open: shared by its transport and its registry.

It opens and closes what they need together (directory, file, turnstile, bell), takes their operations
to the group commit, rings after it, and once a second looks whether another process has died: the safety
net below everything that is rung. What is in the tables is known by those who bring the operations.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, final

import apsw

from posthouse.backends.sqlite import peers
from posthouse.backends.sqlite.bells import Bells, is_alive, remove_sockets, remove_stale
from posthouse.backends.sqlite.commits import Call, Commits, flush
from posthouse.backends.sqlite.faults import check_engine, ours
from posthouse.backends.sqlite.place import (
    DATABASE,
    make_directory,
    make_file,
    make_socket_directory,
    remove_socket_directory,
)
from posthouse.backends.sqlite.schema import bring_up_to_date
from posthouse.backends.sqlite.turnstile import Turnstile
from posthouse.backends.sqlite.waiting import REGISTRY, noted
from posthouse.errors import StorageError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from posthouse.backends.sqlite.commits import Operation
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.waiting import Ring
    from posthouse.clock import Clock, Seconds

T = TypeVar("T")

Flush = Literal["full", "normal"]

SLOW_FLUSH: Final[Seconds] = 0.001
"""A flush that takes longer than this is not waited for on the loop."""

POLL: Final[Seconds] = 1.0
"""How often we look for what no bell has told us."""

_PATIENCE: Final[Seconds] = 10.0
_BUSY_AT_OPEN: Final = 5000
_BUSY: Final = 250
_FRESH: Final[Seconds] = 60.0

_PAGES: Final = 1000
"""The WAL is copied back after so many pages. A WAL that grows makes commits slower, measured (p50 494 to 778 us)."""


@final
class Database:
    """The database of a data directory. One for each process and directory; open and close count.

    Args:
        directory: the data directory; made when it is not there.
        clock: tells the time that leases and delays are measured by.
        flush: "full" flushes what is confirmed before it is confirmed; "normal" may lose the last
            moments before a power cut, and nothing when a process dies.
        engine: the version of SQLite, for tests.
        slow_flush: a flush that takes longer goes to a thread, in seconds.
    """

    __slots__ = (
        "_clock",
        "_commits",
        "_connection",
        "_engine",
        "_flush",
        "_has_sockets",
        "_heard",
        "_opening",
        "_polling",
        "_slow_flush",
        "_thread",
        "_turnstile",
        "_users",
        "_wal",
        "bells",
        "directory",
        "flush_time",
        "path",
        "peer",
        "polls",
        "queue_rung",
        "registry_rung",
        "sockets",
    )

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        flush: Flush = "full",
        engine: str = "",
        slow_flush: Seconds = SLOW_FLUSH,
    ) -> None:
        self.directory = directory
        self.path = directory / DATABASE
        self.sockets = directory / "run"
        self.peer = secrets.token_hex(8)  # the transport says what it is; without one any will do
        self.polls: list[Callable[[], None]] = []
        self.queue_rung: Callable[[int, int], None] | None = None
        self.registry_rung: Callable[[], None] | None = None
        self.bells: Bells | None = None
        self.flush_time: Seconds = 0.0
        self._clock = clock
        self._flush: Flush = flush
        self._engine = engine or apsw.sqlite_lib_version()
        self._slow_flush = slow_flush
        self._users = 0
        self._opening = asyncio.Lock()
        self._connection: apsw.Connection | None = None
        self._wal: int | None = None  # open, to be flushed
        self._turnstile: Turnstile | None = None
        self._commits: Commits | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._polling: asyncio.TimerHandle | None = None
        self._heard: list[int] = []
        self._has_sockets = False

    async def open(self) -> None:
        """Open the file, or count one more that has it open.

        Raises:
            UnsafeEngineError: this SQLite can lose data.
            StorageError: the directory, or a file in it, cannot be used; the hint says what to do.
            UnavailableError: the file is locked, or the disk fails.
        """
        async with self._opening:
            if self._users == 0:
                check_engine(self._engine)
                loop = asyncio.get_running_loop()
                self._thread = ThreadPoolExecutor(1)
                try:
                    await loop.run_in_executor(self._thread, self._open)
                    self._begin(loop)
                except BaseException:
                    await self._close_in(self._thread or ThreadPoolExecutor(1))
                    raise
            self._users += 1

    async def close(self) -> None:
        """Count one less; the last one gives back what this process holds and closes the file."""
        async with self._opening:
            self._users -= 1
            if self._users:
                return
            if self._polling is not None:
                self._polling.cancel()
            commits = self._started()
            try:
                self.ring(await self.call(lambda sql: peers.leave(sql, self.peer, self._clock.now())))
            finally:
                await commits.drain()
                self._commits = None
                if self.bells is not None:
                    self.bells.close()
                    self.bells = None
                await self._close_in(self._thread or ThreadPoolExecutor(1))

    async def _close_in(self, thread: ThreadPoolExecutor) -> None:
        try:
            closing = asyncio.get_running_loop().run_in_executor(thread, self._close)
        except RuntimeError:  # the interpreter ends, and starts nothing in threads any more
            self._close()
        else:
            await closing
        finally:
            thread.shutdown(wait=False)
            self._thread = None

    def submit(self, operation: Operation) -> None:
        """Let an operation run in the next transaction.

        Raises:
            UnavailableError: the database is not open.
        """
        self._started().submit(operation)

    def call(self, function: Callable[[Sql], T], *, flush: bool = False, reads: bool = False) -> asyncio.Future[T]:
        """Run a function in the next transaction, and return its result.

        Args:
            function: is given the cursor; may run in a thread.
            flush: what it does must be on the disk before it is confirmed.
            reads: it only reads.

        Raises:
            UnavailableError: the database is not open, or (when awaited) it failed.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(Call(function, future, flush=flush, reads=reads))
        return future

    def ring(self, rings: Iterable[Ring]) -> None:
        """Ring these, each once for all that it is about."""
        numbers: dict[str, list[int]] = {}
        for peer, number in rings:
            numbers.setdefault(peer, []).append(number)
        for peer, some in numbers.items():
            if peer == self.peer:
                self._rung(some)
            elif self.bells is not None and not self.bells.ring(peer, some):
                self._pass_on(peer, some)

    def bury(self, peer: str) -> None:
        """Clean up after a process, if it is dead: what it held comes back."""
        if self.bells is None or self._commits is None or self.bells.alive(peer):
            return
        burial = self.call(lambda sql: peers.bury(sql, peer, self._clock.now()))
        burial.add_done_callback(self._buried)

    def _buried(self, burial: asyncio.Future[list[Ring]]) -> None:
        if not burial.cancelled() and burial.exception() is None:  # else the next poll finds the dead again
            self.ring(burial.result())

    def _open(self) -> None:
        """Open all, in the thread."""
        make_directory(self.directory)
        make_file(self.path)
        self.sockets = make_socket_directory(self.directory)
        try:
            remove_stale(self.sockets, older_than=time() - _FRESH)
            if not is_alive(self.sockets, self.peer):
                remove_sockets(self.sockets, self.peer)  # left by a dead process of our name
            self._turnstile = Turnstile(self.directory)
        except OSError as error:
            raise StorageError(f"the data directory {self.directory} cannot be used: {error}") from error
        try:
            self._connect()
        except apsw.Error as error:
            raise ours(error, self.path) from error

    def _connect(self) -> None:
        turnstile = self._turnstile
        assert turnstile is not None  # noqa: S101 - tells the type checker what _open has just done
        if not turnstile.wait(_PATIENCE):
            raise UnavailableError(f"another process has been writing to {self.path} for more than {_PATIENCE:.0f} s")
        try:
            self.sockets = make_socket_directory(self.directory)  # the last to leave may have removed it just now
            self.bells = Bells(self.sockets, self.peer)
            self._has_sockets = True
            self._connection = connection = apsw.Connection(str(self.path), statementcachesize=200)
            connection.set_busy_timeout(_BUSY_AT_OPEN)
            # A plan must not depend on the values that are bound, or a statement with `LIMIT ?` is prepared
            # anew for each: 40 us instead of 3 (measured, SQLite 3.54).
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            sql = cast("Sql", connection.cursor())
            sql.execute("PRAGMA journal_mode = WAL").fetchall()
            sql.execute("PRAGMA synchronous = NORMAL")  # what must be flushed, the commits flush
            sql.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}").fetchall()
            with connection:
                bring_up_to_date(sql, self.path)
                peers.join(sql, self.peer, self._clock.now())
            if self._flush == "full":
                # there as long as a connection is open; SQLite takes no locks on it that closing it could drop
                self._wal = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
                _flush_names(self.directory)
                self.flush_time = _flush_time(sql, self._wal, enough=self._slow_flush / 2)
            connection.set_busy_timeout(_BUSY)
        finally:
            turnstile.leave()

    def _close(self) -> None:
        """Close all that is open, in the thread."""
        if self._wal is not None:
            os.close(self._wal)
            self._wal = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self.bells is not None:
            self.bells.close()
            self.bells = None
        if self._has_sockets:
            remove_sockets(self.sockets, self.peer)
            self._has_sockets = False
        if self._turnstile is not None:
            if self._turnstile.enter():  # nobody makes it, or hangs a bell in it, meanwhile
                remove_socket_directory(self.sockets, self.directory)
                self._turnstile.leave()
            self._turnstile.close()
            self._turnstile = None

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        connection, turnstile, bells, thread = self._connection, self._turnstile, self.bells, self._thread
        assert connection is not None and turnstile is not None and bells is not None and thread is not None  # noqa: S101, PT018 - _open made them
        if self.flush_time <= self._slow_flush:
            thread.shutdown(wait=False)
            self._thread = None
        self._commits = Commits(
            connection, self.path, turnstile, wal=self._wal, thread=self._thread, ring=self.ring, settled=self._settled
        )
        bells.listen(loop, self._rung)
        self._polling = loop.call_later(POLL, self._poll)

    def _started(self) -> Commits:
        if self._commits is None:
            raise UnavailableError(f"the transport at {self.directory} is not open")
        return self._commits

    def _settled(self) -> None:
        """The ends of a group have been told: hear what was rung meanwhile."""
        if self._heard:
            heard, self._heard = self._heard, []
            self._rung(heard)

    def _pass_on(self, dead: str, numbers: Sequence[int]) -> None:
        """Ring another one instead of a dead one, who was taken out of the waiting for it."""
        self.bury(dead)
        for number in numbers:
            if number != REGISTRY and self.queue_rung is not None:
                self.queue_rung(*noted(number))

    def _rung(self, numbers: Sequence[int]) -> None:
        if self._commits is not None and self._commits.running:
            self._heard += numbers  # it may be meant for one whose end was not told yet, and who will wait then
            return
        for number in numbers:
            if number == REGISTRY:
                if self.registry_rung is not None:
                    self.registry_rung()
            elif self.queue_rung is not None:
                self.queue_rung(*noted(number))

    def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        self._polling = loop.call_later(POLL, self._poll)
        if self.bells is not None:
            self.bells.rehang()
        self.call(peers.entered, reads=True).add_done_callback(self._look_after)
        for poll in self.polls:
            poll()

    def _look_after(self, entered: asyncio.Future[list[str]]) -> None:
        if entered.cancelled() or entered.exception() is not None or self._commits is None:
            return  # the next poll looks again
        if self.peer not in entered.result():  # taken for dead: who is not entered is buried by nobody when it dies
            self.call(lambda sql: peers.join(sql, self.peer, self._clock.now())).add_done_callback(heed)
        for peer in entered.result():
            if peer != self.peer:
                self.bury(peer)


def heed(done: asyncio.Future[Any]) -> None:
    """Take note of a failure that changes nothing, as the net below catches what was not done."""
    if not done.cancelled():
        done.exception()


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
