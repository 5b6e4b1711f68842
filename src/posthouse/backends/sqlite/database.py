"""The file of one data directory, as one process has it open: shared by its transport and its registry.

It opens and closes what they need together (directory, file, turnstile, bell), takes their operations
to the group commit, rings after it, and once a second looks whether another process has died: the safety
net below everything that is rung. What is in the tables is known by those who bring the operations.

The file may be deleted under us, as it is disposable. That is noticed at that look, before anything is
confirmed, and when something has failed. Then the commits halt, we let go of the old file, open the one that is
at the path now (or make it), tell those who asked to be told, and go on. Messages in the old file are lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, final

import apsw

from posthouse.backends.sqlite import peers
from posthouse.backends.sqlite.bells import Bells, hung, remove_sockets
from posthouse.backends.sqlite.commits import Call, Commits
from posthouse.backends.sqlite.faults import check_engine
from posthouse.backends.sqlite.holdings import Holdings
from posthouse.backends.sqlite.waiting import MOVED, REGISTRY, noted
from posthouse.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from posthouse.backends.sqlite.commits import Operation
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.waiting import Ring
    from posthouse.clock import Clock, Seconds

T = TypeVar("T")

_log: Final = logging.getLogger("posthouse.sqlite")

Flush = Literal["full", "normal"]

SLOW_FLUSH: Final[Seconds] = 0.001
"""A flush that takes longer than this is not waited for on the loop."""

POLL: Final[Seconds] = 1.0
"""How often we look for what no bell has told us."""


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

    Attributes:
        peer: the id of this process.
        polls: called once a second.
        resets: called when the file was deleted and another one is open, before anything is done in that.
        queue_rung: called when there is something in a queue.
        registry_rung: called when the registry has changed.
        bells: this process's bell, while it is open.
        flush_time: how long a flush took at the opening.
    """

    __slots__ = (
        "_clock",
        "_commits",
        "_engine",
        "_finding",
        "_has_sockets",
        "_heard",
        "_holdings",
        "_is_lost",
        "_opening",
        "_polling",
        "_slow_flush",
        "_thread",
        "_users",
        "bells",
        "directory",
        "flush_time",
        "peer",
        "polls",
        "queue_rung",
        "registry_rung",
        "resets",
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
        self.peer = secrets.token_hex(8)  # the transport says what it is; without one any will do
        self.polls: list[Callable[[], None]] = []
        self.resets: list[Callable[[], None]] = []
        self.queue_rung: Callable[[int, int], None] | None = None
        self.registry_rung: Callable[[], None] | None = None
        self.bells: Bells | None = None
        self.flush_time: Seconds = 0.0
        self._clock = clock
        self._engine = engine or apsw.sqlite_lib_version()
        self._slow_flush = slow_flush
        self._users = 0
        self._opening = asyncio.Lock()
        self._holdings = Holdings(
            directory,
            flushes=flush == "full",
            enough=slow_flush / 2,
            enter=lambda sql: peers.join(sql, self.peer, clock.now()),
        )
        self._finding: asyncio.Task[None] | None = None  # while the file was deleted, and we look for another one
        self._is_lost = False  # it was deleted, and we have not found another one yet
        self._commits: Commits | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._polling: asyncio.TimerHandle | None = None
        self._heard: list[int] = []
        self._has_sockets = False

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._holdings.path

    @property
    def sockets(self) -> Path:
        """Where the sockets are, while it is open."""
        return self._holdings.sockets

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
                if not self._is_lost:
                    self.ring(await self.call(lambda sql: peers.leave(sql, self.peer, self._clock.now())))
            finally:
                if self._finding is not None:
                    await asyncio.wait({self._finding})
                if self._is_lost:
                    commits.refuse(UnavailableError(f"{self.path} was deleted, and there is no other one"))
                await commits.drain()
                self._commits = None
                self._is_lost = False
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

    def call(
        self, function: Callable[[Sql], T], *, flush: bool = False, reads: bool = False, held: bool = False
    ) -> asyncio.Future[T]:
        """Run a function in the next transaction, and return its result.

        Args:
            function: is given the cursor; may run in a thread.
            flush: what it does must be on the disk before it is confirmed.
            reads: it only reads.
            held: it is about what this very file holds: it fails if that was deleted meanwhile.

        Raises:
            UnavailableError: the database is not open, or (when awaited) it failed.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(Call(function, future, flush=flush, reads=reads, held=held))
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
        self._holdings.open(self.peer, self._hang_bell)

    def _hang_bell(self, sockets: Path) -> None:
        self.bells = Bells(sockets, self.peer)
        self._has_sockets = True

    def _close(self) -> None:
        """Close all that is open, in the thread."""
        self._holdings.close()
        if self.bells is not None:
            self.bells.close()
            self.bells = None
        if self._has_sockets:
            remove_sockets(self.sockets, self.peer)
            self._has_sockets = False
        self._holdings.leave()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        file, turnstile, bells, thread = self._holdings.file, self._holdings.turnstile, self.bells, self._thread
        assert file is not None and turnstile is not None and bells is not None and thread is not None  # noqa: S101, PT018 - _open made them
        self.flush_time = file.flush_time
        if self.flush_time <= self._slow_flush:
            thread.shutdown(wait=False)
            self._thread = None
        self._commits = Commits(
            file.connection,
            self.path,
            turnstile,
            wal=file.wal,
            thread=self._thread,
            ring=self.ring,
            settled=self._settled,
            stands=self._holdings.file_stands,
            halted=self._find_file,
        )
        bells.listen(loop, self._rung)
        self._polling = loop.call_later(POLL, self._poll)

    # --- when the file was deleted -----------------------------------------------------------------------

    def _look_at_files(self) -> None:
        """See whether our files still are those that others find; else find what they do."""
        if self._commits is None or self._finding is not None:
            return
        if self._is_lost:
            self._find_file()
        elif not self._holdings.all_stands():
            self._commits.halt()

    def _find_file(self) -> None:
        """Open the file that is at the path now; the commits are halted."""
        self._finding = asyncio.get_running_loop().create_task(self._go_over(), name="posthouse finds its file")

    async def _go_over(self) -> None:
        commits = self._started()
        loop = asyncio.get_running_loop()
        thread = self._thread or ThreadPoolExecutor(1)
        try:
            await loop.run_in_executor(thread, self._holdings.make_place)
            if self.bells is not None:
                self.bells.rehang()
            is_another = await loop.run_in_executor(thread, self._holdings.replace)
            others = await loop.run_in_executor(thread, hung, self.sockets)
        except Exception as error:  # whatever it was, nobody may wait for ever; the next poll tries again
            self._is_lost = True
            _log.warning("%s was deleted, and there is no other one yet: %s", self.path, error)
            commits.refuse(UnavailableError(f"{self.path} was deleted, and there is no other one yet: {error}"))
        else:
            self._is_lost = False
            if is_another:
                self._begin_anew(commits, others)
            commits.resume()
        finally:
            self._finding = None
            if thread is not self._thread:
                thread.shutdown(wait=False)

    def _begin_anew(self, commits: Commits, others: Sequence[str]) -> None:
        file = self._holdings.file
        assert file is not None  # noqa: S101 - the thread has just opened it
        _log.warning(
            "%s was deleted while it was used: the queued messages in it are lost; this process goes on with a new one",
            self.path,
        )
        commits.move_to(file.connection, wal=file.wal)
        for tell in self.resets:
            try:
                tell()
            except Exception as error:  # the others must be told too, and the commits go on
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "telling that the file was deleted failed", "exception": error}
                )
        if self.bells is not None:
            for peer in others:
                if peer != self.peer:  # each would see it at its next poll
                    self.bells.ring(peer, [MOVED])

    # --- what others have done -----------------------------------------------------------------------------

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
            if number == MOVED:
                self._look_at_files()
            elif number == REGISTRY:
                if self.registry_rung is not None:
                    self.registry_rung()
            elif self.queue_rung is not None:
                self.queue_rung(*noted(number))

    def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        self._polling = loop.call_later(POLL, self._poll)
        self._look_at_files()
        if self._commits is None or self._commits.is_halted:
            return  # the next poll will tell
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
