"""Group commit: all operations of one turn of the loop share one transaction.

A transaction costs a flush of the disk, whatever it holds; so operations are gathered until the end of
the turn and run one after another in one transaction. Where a flush was measured to be fast, that
happens on the loop (handing over to a thread cost a third of the rate, measured); where it is slow, in
the one thread of this file, so that the loop never stands still for it.

What is flushed: a transaction with an operation that confirms something to somebody (a send, a reject,
a contract) is on the disk before it is confirmed. One that only claims, settles, renews or beats may be
lost with the machine: the file then goes back to a state before it, all processes are gone with the
machine, and what was settled is delivered once more, which `queued` allows. A killed process loses
neither, since the kernel has what it wrote.

Who flushes: we do, and not SQLite (`synchronous` is NORMAL), after the turnstile was left. SQLite with FULL
does the same fdatasync of the same file inside COMMIT, while all other processes wait for it; this
way they write meanwhile, and one flush serves them too. It promises the same: what is committed is in
the WAL, or was copied to the database by a checkpoint, which with NORMAL syncs both files itself; so
after our fdatasync of the WAL it is on the disk. Others may see a message some 0.2 ms before it is: should
the power go in that moment, it was delivered and never confirmed, which no sender can tell from a lost
confirmation. Source: sqlite.org/pragma.html#pragma_synchronous, sqlite.org/wal.html.

Somebody may delete the file under us; a commit to a deleted file succeeds and nobody ever sees it. So before
anything is confirmed, we ask whether the file still stands. When it does not, nothing of the group is told: it
is put back, and all waits until there is another file; then it is done there. Only what is about something
that the old file held (a lease) fails.

What an operation does, this file does not know.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast, final

import apsw

from posthouse.backends.sqlite.faults import ours
from posthouse.contracts.flushing import NotFlushedError
from posthouse.errors import PosthouseError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.turnstile import Turnstile
    from posthouse.backends.sqlite.waiting import Ring
    from posthouse.clock import Seconds

T = TypeVar("T")


def flush(file: int) -> None:
    """Have a file on the disk when this returns."""
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
    sync(file)


_RETRY: Final[Seconds] = 0.0005
"""How long the loop is given back when another process writes."""

_STUCK: Final[Seconds] = 10.0
"""After so long in vain the operations fail: a process that was stopped in its transaction holds the file."""

_ENOUGH: Final = 2048
"""Messages in one transaction, about: beyond that the loop would stand still for more than some milliseconds."""


class Operation:
    """One step of a transaction. `run` may be called again, when a transaction is repeated.

    Attributes:
        flush: it confirms something, which must be on the disk.
        reads: it only reads.
        held: it is about what this very file holds; it fails rather than run in another one.
        weight: how many messages it handles, about.
        rings: whom to ring, once it is committed.
    """

    __slots__ = ()

    flush: bool = False
    reads: bool = False
    held: bool = False
    weight: int = 1
    rings: list[Ring] = []  # noqa: RUF012 - replaced, never changed

    def start(self) -> None:
        """From now on nothing joins this operation; on the loop."""

    def run(self, sql: Sql) -> None:
        """Do it. A PosthouseError fails this operation alone, and is raised before it has written anything.

        May run in a thread: it touches nothing but the operation itself.
        """
        raise NotImplementedError

    def done(self, error: Exception | None) -> None:
        """Tell those who wait; on the loop, after the commit or the failure."""
        raise NotImplementedError


@final
class Call(Operation, Generic[T]):
    """An operation that is one function; for what is not hot.

    Args:
        function: what to do; may fail at any point, as it has a savepoint of its own.
        future: where its result goes.
        flush: it confirms something.
        reads: it only reads.
        held: it is about what this very file holds.
    """

    __slots__ = ("_function", "_future", "_result", "flush", "held", "reads")

    def __init__(
        self, function: Callable[[Sql], T], future: asyncio.Future[T], *, flush: bool, reads: bool, held: bool = False
    ) -> None:
        self._function = function
        self._future = future
        self._result: T
        self.flush = flush
        self.reads = reads
        self.held = held

    def run(self, sql: Sql) -> None:
        """Do it in a savepoint."""
        sql.execute("SAVEPOINT one")
        try:
            self._result = self._function(sql)
        except PosthouseError:
            sql.execute("ROLLBACK TO one")
            sql.execute("RELEASE one")
            raise
        sql.execute("RELEASE one")

    def done(self, error: Exception | None) -> None:
        """Tell the one who waits."""
        if self._future.done():  # it was canceled; what was done stays done
            return
        if error is None:
            self._future.set_result(self._result)
        else:
            self._future.set_exception(error)


@final
class Commits:
    """Runs operations in transactions, one group after another.

    Args:
        connection: to the file; nobody else uses it.
        path: of the file, for errors.
        turnstile: lets one process write at a time.
        wal: the open WAL of the file, which is flushed; None trades the last moments before a power cut for speed.
        thread: where transactions run, if not on the loop.
        ring: rings at once.
        settled: called at the end of each turn that had a transaction.
        stands: says whether the file is still the one that others see; None when nobody deletes it.
        halted: called when no transaction runs any more after `halt`, or because the file does not stand.

    Attributes:
        running: a group runs in the thread, or its ends are being told; `settled` follows.
        is_halted: nothing is run until `resume`.
    """

    __slots__ = (
        "_connection",
        "_halted",
        "_idle",
        "_in_thread",
        "_loop",
        "_operations",
        "_path",
        "_ring",
        "_scheduled",
        "_settled",
        "_since",
        "_sql",
        "_stands",
        "_thread",
        "_turnstile",
        "_under_way",
        "_wal",
        "is_halted",
        "running",
    )

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        turnstile: Turnstile,
        *,
        wal: int | None,
        thread: Executor | None,
        ring: Callable[[Iterable[Ring]], None],
        settled: Callable[[], None],
        stands: Callable[[], bool] | None = None,
        halted: Callable[[], None] | None = None,
    ) -> None:
        self._connection = connection
        self._sql = cast("Sql", connection.cursor())
        self._path = path
        self._turnstile = turnstile
        self._wal = wal
        self._thread = thread
        self._ring = ring
        self._settled = settled
        self._stands = stands
        self._halted = halted
        self._loop = asyncio.get_running_loop()
        self._operations: deque[Operation] = deque()
        self._scheduled: asyncio.Handle | None = None  # the next turn
        self._under_way = False
        self._in_thread = False  # a group is there
        self.running = False
        self.is_halted = False
        self._since: float | None = None  # when we found the turnstile taken first
        self._idle: asyncio.Future[None] | None = None

    def submit(self, operation: Operation) -> None:
        """Let an operation run in the next transaction."""
        self._operations.append(operation)
        if not self._under_way:
            self._under_way = True
            self._schedule()

    async def drain(self) -> None:
        """Wait until all that was submitted is done."""
        while self._under_way:
            self._idle = self._idle or self._loop.create_future()
            await asyncio.shield(self._idle)

    # --- another file ----------------------------------------------------------------------------------

    def halt(self) -> None:
        """Begin no more transactions; `halted` is called when none runs."""
        if self.is_halted:
            return
        self.is_halted = True
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._since = None
        if not self._in_thread and self._halted is not None:
            self._halted()

    def move_to(self, connection: apsw.Connection, *, wal: int | None) -> None:
        """Go over to another file, while halted; what was held in the last one fails."""
        self._connection = connection
        self._sql = cast("Sql", connection.cursor())
        self._wal = wal
        held = [operation for operation in self._operations if operation.held]
        self._operations = deque(operation for operation in self._operations if not operation.held)
        self._fail(held, UnavailableError(f"{self._path} was deleted while it was used, with all that it held"))

    def refuse(self, error: Exception) -> None:
        """Fail all that waits, while halted: there is no file."""
        waiting, self._operations = list(self._operations), deque()
        self._fail(waiting, error)
        self._go_on()

    def resume(self) -> None:
        """Go on."""
        self.is_halted = False
        self._settled()
        self._go_on()

    def _fail(self, operations: Sequence[Operation], error: Exception) -> None:
        for operation in operations:
            operation.start()
        self._tell(operations, [error] * len(operations))

    # --- turns -----------------------------------------------------------------------------------------

    def _schedule(self, delay: Seconds = 0.0) -> None:
        if not self.is_halted:
            self._scheduled = self._loop.call_later(delay, self._turn) if delay else self._loop.call_soon(self._turn)

    def _go_on(self) -> None:
        if self._operations:
            self._under_way = True
            self._schedule()
            return
        self._under_way = False
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _turn(self) -> None:
        self._scheduled = None
        if self._thread is not None:
            group = self._take()
            self.running = self._in_thread = True
            try:
                self._loop.run_in_executor(self._thread, self._run_in_thread, group)
            except RuntimeError:  # the interpreter ends, and starts nothing in threads any more
                self._run_in_thread(group)
            return
        if all(operation.reads for operation in self._operations):
            group = self._take()
            self._end(group, self._judged(group, self._transact(group, reads=True)))
            return
        if not self._turnstile.enter():
            now = self._loop.time()
            self._since = self._since or now
            if now - self._since < _STUCK:
                self._schedule(_RETRY)
            else:
                self._since = None
                group = self._take()
                self._end(group, [self._stuck()] * len(group))
            return
        self._since = None
        group = self._take()
        try:
            outcomes = self._transact(group)
        finally:
            self._turnstile.leave()
        self.running = True
        self._ring_for(group)  # before the flush: others see it already, so they may as well start
        self._end(group, self._judged(group, self._flushed(group, outcomes)))

    def _take(self) -> list[Operation]:
        group: list[Operation] = []
        weight = 0
        while self._operations and weight < _ENOUGH:
            operation = self._operations.popleft()
            operation.start()
            weight += operation.weight
            group.append(operation)
        return group

    def _run_in_thread(self, group: list[Operation]) -> None:
        try:
            if self._turnstile.wait(_STUCK):
                try:
                    outcomes = self._transact(group)
                finally:
                    self._turnstile.leave()
                outcomes = self._judged(group, self._flushed(group, outcomes))
            else:
                outcomes: Sequence[Exception | None] | None = [self._stuck()] * len(group)
        except BaseException as error:  # told to those who wait, on the loop
            failure = (
                error if isinstance(error, Exception) else UnavailableError(f"the commit was broken off: {error!r}")
            )
            outcomes = [failure] * len(group)
        self._loop.call_soon_threadsafe(self._finish_thread, group, outcomes)

    def _finish_thread(self, group: list[Operation], outcomes: Sequence[Exception | None] | None) -> None:
        self._in_thread = False
        self._ring_for(group)
        was_halted = self.is_halted
        self._end(group, outcomes)
        if was_halted and self._halted is not None:
            self._halted()

    def _end(self, group: list[Operation], outcomes: Sequence[Exception | None] | None) -> None:
        """Tell the ends of a group; without outcomes it did not happen, and waits for another file."""
        if outcomes is not None:
            self._tell(group, outcomes)
        else:
            self._operations.extendleft(reversed(group))
        self.running = False
        self._settled()
        if outcomes is None:
            self.halt()
        else:
            self._go_on()

    def _tell(self, group: Sequence[Operation], outcomes: Sequence[Exception | None]) -> None:
        self.running = True
        for operation, error in zip(group, outcomes, strict=True):
            try:
                operation.done(error)
            except Exception as failure:  # the others of the group must be told too
                self._loop.call_exception_handler(
                    {"message": "telling the end of an operation failed", "exception": failure}
                )
        self.running = False

    def _transact(self, group: list[Operation], *, reads: bool = False) -> Sequence[Exception | None]:
        """Run the group in one transaction; when that fails, each alone, so that only the guilty fails."""
        try:
            return self._attempt(group, reads=reads)
        except Exception as error:  # of SQLite, or of a value that it does not take: told to its caller
            if len(group) == 1:
                return [ours(error, self._path) if isinstance(error, apsw.Error) else error]
        return [outcome for operation in group for outcome in self._transact([operation], reads=reads)]

    def _attempt(self, group: list[Operation], *, reads: bool) -> Sequence[Exception | None]:
        sql = self._sql
        outcomes: list[Exception | None] = [None] * len(group)
        sql.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
        try:
            for index, operation in enumerate(group):
                try:
                    operation.run(sql)
                except PosthouseError as error:
                    outcomes[index] = error
            sql.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite may have rolled back by itself, when the disk is full
                sql.execute("ROLLBACK")
            raise
        return outcomes

    def _ring_for(self, group: list[Operation]) -> None:
        rings = {ring for operation in group for ring in operation.rings}
        if rings:
            self._ring(rings)

    def _flushed(self, group: list[Operation], outcomes: Sequence[Exception | None]) -> Sequence[Exception | None]:
        """Flush what was committed, if an operation asks for it; return what became of all."""
        if self._wal is None or not any(operation.flush for operation in group):
            return outcomes
        try:
            flush(self._wal)
        except OSError as error:
            failure = NotFlushedError(
                f"the disk that holds {self._path} could not be flushed ({error.strerror}): what was sent may be lost"
                " should the machine fail, and may be delivered all the same",
                hint="Look at the disk (`dmesg`); sending again may deliver twice.",
            )
            return [
                outcome or (failure if operation.flush else None)
                for operation, outcome in zip(group, outcomes, strict=True)
            ]
        return outcomes

    def _judged(
        self, group: list[Operation], outcomes: Sequence[Exception | None]
    ) -> Sequence[Exception | None] | None:
        """Return what became of all; None when something is confirmed, or has failed, in a file that does not stand."""
        if self._stands is None:
            return outcomes
        matters = any(operation.flush for operation in group) or any(outcome is not None for outcome in outcomes)
        return None if matters and not self._stands() else outcomes

    def _stuck(self) -> UnavailableError:
        return UnavailableError(
            f"another process has been writing to {self._path} for more than {_STUCK:.0f} s",
            hint="Is one stopped (`ps` shows state T) or debugged? Let it go on, or end it; then all others go on.",
        )
