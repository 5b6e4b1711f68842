"""Group commit: all steps of one turn of the loop share one transaction, and so do handlers that follow each other.

A transaction costs a flush of the disk, whatever it holds. So steps are gathered until the end of the
turn; and while handlers wait for the write slot one after another, they get it within one transaction, each in
a savepoint of its own, and whatever steps came meanwhile go along.

A step that fails rolls back nothing of the others. That is rare, so nobody pays for it beforehand: the steps run
without savepoints, and when one fails, all are rolled back and run again, each in its own. Who flushes, and
why after the slot was left, is told in commits.py beside this package; here too, what is committed without a
flush may be lost with the machine, and never with the process.

What a step does, this file does not know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import apsw

from posthouse.backends.sqlite.faults import NotFlushedError
from posthouse.backends.sqlite.store.engine import do
from posthouse.backends.sqlite.store.faults import told
from posthouse.backends.sqlite.store.tails import SlotTail
from posthouse.errors import GroupLostError, UnavailableError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.store.engine import Engine
    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books

T = TypeVar("T")

ENOUGH: Final = 512
"""Steps in one transaction: beyond that the loop would stand still for more than some milliseconds."""

TAILS: Final = 64
TAILS_LAST: Final[Seconds] = 0.005
"""So many handlers share a transaction, and none gets into one that is older than that."""

STUCK: Final[Seconds] = 10.0
"""After so long in vain all that wait are told: a process that was stopped in its transaction holds the file."""


class Step(Generic[T]):
    """A step of a transaction, and what became of it."""

    __slots__ = ("error", "flush", "future", "reads", "result", "run")

    def __init__(self, run: Callable[[Books], T], future: Future[T], *, flush: bool, reads: bool) -> None:
        self.run = run
        self.future = future
        self.flush = flush
        self.reads = reads
        self.result: T
        self.error: BaseException | None = None

    def tell(self, failure: BaseException | None = None) -> None:
        """Say what became of it; on the loop."""
        if self.future.done():  # it was canceled; what was done stays done
            return
        error = self.error or failure
        if error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(error)


class Groups:
    """Runs steps and handlers in transactions, one group after another.

    Args:
        engine: what they run on.
        books: on its connection.
        reader: books that see what is committed; None where there are none.

    Attributes:
        hold_limit: how long a handler may hold the slot, in seconds.
    """

    def __init__(self, engine: Engine, books: Books, reader: Books | None) -> None:
        self.hold_limit: Seconds = 1.0
        self._engine = engine
        self._sql = engine.sql
        self._books = books
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._steps: deque[Step[Any]] = deque()
        self._waiting: deque[Future[SlotTail]] = deque()
        self._bell: Future[None] | None = None
        self._tail: SlotTail | None = None  # it has the slot
        self._alone = 0  # so many handlers get a transaction of their own, as one of them has broken that of all
        self._inside = False
        self._closed: str = ""
        self._task = self._loop.create_task(self._work(), name="posthouse store groups")

    # --- for those who write -------------------------------------------------------------------------------

    def submit(self, run: Callable[[Books], T], *, flush: bool = False, reads: bool = False) -> Future[T]:
        """Let a step run in the next transaction."""
        future: Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(UnavailableError(self._closed))
        else:
            self._steps.append(Step(run, future, flush=flush, reads=reads))
            self._ring()
        return future

    async def tail(self) -> SlotTail:
        """Wait for the slot."""
        if self._closed:
            raise UnavailableError(self._closed)
        waiter: Future[SlotTail] = self._loop.create_future()
        self._waiting.append(waiter)
        self._ring()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().give_up()  # it was given the slot in this very moment
            raise

    async def close(self, why: str) -> None:
        """Finish the steps; who holds the slot, or waits for it, is sent away."""
        self._closed = why
        self._send_away(UnavailableError(why))
        self._ring()
        await self._task

    def abandon(self) -> None:
        """Stop in the middle, as a process does that dies: nobody is told anything."""
        self._closed = "the store was abandoned"
        self._task.cancel()
        self._steps.clear()
        self._waiting.clear()
        if self._tail is not None:
            self._tail.lose(UnavailableError(self._closed))
        self._rollback()
        self._leave()

    def _send_away(self, error: UnavailableError) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiting.clear()
        if self._tail is not None:
            self._tail.lose(error)

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    # --- one group after another ---------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            if not self._steps and not self._waiting:
                if self._closed:
                    return
                self._bell = self._loop.create_future()
                await self._bell
            if self._steps:
                await self._step_group()
            if self._waiting:
                await self._tail_group()
            await asyncio.sleep(0)  # those who were told may have more to do, which goes into the next group

    def _take(self) -> list[Step[Any]]:
        steps = self._steps
        if len(steps) <= ENOUGH:
            group = list(steps)
            steps.clear()
            return group
        return [steps.popleft() for _ in range(ENOUGH)]

    async def _step_group(self) -> None:
        if self._reader is not None and all(step.reads for step in self._steps):
            group = self._take()
            await do(self._engine, self._read, group)
        elif await self._enter():
            group = self._take()
            try:
                await do(self._engine, self._transact, group)
            finally:
                self._leave()
        else:
            group = self._take()
            for step in group:
                step.error = self._stuck()
        await self._finish(group, ())

    async def _finish(self, steps: Sequence[Step[Any]], tails: Sequence[SlotTail]) -> None:
        """Tell those who need no flush; flush for the others, and tell them."""
        flushed: list[Step[Any]] = []
        for step in steps:
            if step.flush and step.error is None:
                flushed.append(step)
            else:
                step.tell()
        if not flushed and not tails:
            return
        failure = None
        try:
            await do(self._engine, self._engine.flush)
        except OSError as error:
            failure = NotFlushedError(
                f"the disk that holds {self._engine.path} could not be flushed ({error.strerror}): what was committed"
                " may be lost should the machine fail",
                hint="Look at the disk (`dmesg`).",
            )
        for step in flushed:
            step.tell(failure)
        for tail in tails:
            tail.tell(failure)

    async def _tail_group(self) -> None:
        if not await self._enter():
            self._send_away(self._stuck())
            return
        ended: list[SlotTail] = []
        steps: list[Step[Any]] = []
        try:
            try:
                await do(self._engine, self._sql.execute, "BEGIN IMMEDIATE")
                await self._tails(ended)
                steps = self._take()
                await do(self._engine, self._end_of_tails, steps)
            except apsw.Error as error:
                self._rollback()
                self._lose(ended, error)
                ended = []
                if steps:
                    await do(self._engine, self._transact, steps)
        finally:
            self._rollback()
            self._leave()
        await self._finish(steps, ended)

    async def _tails(self, ended: list[SlotTail]) -> None:
        """Give the slot to one handler after another, each in a savepoint."""
        until = self._loop.time() + TAILS_LAST
        most = 1 if self._alone else TAILS
        while most and self._waiting and (not ended or self._loop.time() < until):
            waiter = self._waiting.popleft()
            if waiter.cancelled():
                continue
            await do(self._engine, self._sql.execute, "SAVEPOINT tail")
            if waiter.cancelled():  # while a thread did that
                await do(self._engine, self._undo)
                continue
            most -= 1
            self._alone -= self._alone > 0
            tail = self._tail = SlotTail(self._engine)
            waiter.set_result(tail)
            timer = self._loop.call_later(self.hold_limit, tail.expire)
            try:
                await tail.over
            finally:
                timer.cancel()
                self._tail = None
            if await do(self._engine, self._end, tail):
                ended.append(tail)
            else:
                tail.tell()

    def _end(self, tail: SlotTail) -> bool:
        """Run the step that ends a handler, or roll back what it wrote; return whether it is to be committed."""
        if not self._engine.connection.in_transaction:
            tail.lost = tail.lost or GroupLostError("the transaction was rolled back by SQLite")
            raise apsw.AbortError("the transaction was rolled back by a statement in it")
        if tail.step is not None and tail.lost is None:
            try:
                tail.result = tail.step(self._books)
                self._engine.theirs.check_deferred()
            except Exception as error:  # told to the one who waits
                tail.lost = told(error, self._engine.path) if isinstance(error, apsw.Error) else error
                if not self._engine.connection.in_transaction:
                    raise
            else:
                self._sql.execute("RELEASE tail")
                return True
        self._undo()
        return False

    def _undo(self) -> None:
        self._sql.execute("ROLLBACK TO tail")
        self._sql.execute("RELEASE tail")

    def _end_of_tails(self, steps: list[Step[Any]]) -> None:
        """Let the steps that came meanwhile go along, and commit."""
        if steps:
            self._sql.execute("SAVEPOINT steps")
            try:
                self._run(steps)
            except Exception:
                self._sql.execute("ROLLBACK TO steps")
                self._run_each(steps)
            self._sql.execute("RELEASE steps")
        self._sql.execute("COMMIT")

    def _lose(self, ended: Sequence[SlotTail], error: apsw.Error) -> None:
        """Tell the handlers of a transaction that it failed: run alone, the guilty one is found."""
        self._alone = len(ended) + 1
        for tail in ended:
            reason = told(error, self._engine.path)
            tail.lost = reason if len(ended) == 1 else GroupLostError(f"the shared commit failed: {reason}")
            tail.tell()

    # --- what runs in the thread, where there is one ---------------------------------------------------------

    def _transact(self, steps: Sequence[Step[Any]]) -> None:
        """Run steps in one transaction; when one fails, each for itself, so that only the guilty one fails."""
        try:
            self._attempt(steps, self._run)
        except Exception as error:
            if len(steps) == 1:
                steps[0].error = told(error, self._engine.path) if isinstance(error, apsw.Error) else error
                return
        else:
            return
        try:
            self._attempt(steps, self._run_each)
        except apsw.Error:
            for step in steps:
                step.error = None
                self._transact([step])

    def _attempt(self, steps: Sequence[Step[Any]], run: Callable[[Sequence[Step[Any]]], None]) -> None:
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            run(steps)
            self._sql.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    def _run(self, steps: Sequence[Step[Any]]) -> None:
        books = self._books
        for step in steps:
            step.result = step.run(books)

    def _run_each(self, steps: Sequence[Step[Any]]) -> None:
        for step in steps:
            self._sql.execute("SAVEPOINT one")
            try:
                step.result = step.run(self._books)
            except apsw.Error as error:
                if not self._engine.connection.in_transaction:
                    raise
                step.error = told(error, self._engine.path)
                self._sql.execute("ROLLBACK TO one")
            except Exception as error:  # told to the one who waits
                step.error = error
                self._sql.execute("ROLLBACK TO one")
            self._sql.execute("RELEASE one")

    def _read(self, steps: Sequence[Step[Any]]) -> None:
        books, sql = self._reader, self._engine.reader
        assert books is not None and sql is not None  # noqa: S101, PT018 - asked before
        for step in steps:
            try:
                sql.execute("BEGIN")
                try:
                    step.result = step.run(books)
                finally:
                    sql.execute("ROLLBACK")
            except apsw.Error as error:
                step.error = told(error, self._engine.path)
            except Exception as error:  # told to the one who waits
                step.error = error

    def _rollback(self) -> None:
        if self._inside and self._engine.connection.in_transaction:  # SQLite may have rolled back by itself
            self._sql.execute("ROLLBACK")

    # --- the slot ----------------------------------------------------------------------------------------------

    async def _enter(self) -> bool:
        self._inside = self._engine.enter() or await self._engine.wait(STUCK)
        return self._inside

    def _leave(self) -> None:
        if self._inside:
            self._inside = False
            self._engine.leave()

    def _stuck(self) -> UnavailableError:
        return UnavailableError(
            f"another process has been writing to {self._engine.path} for more than {STUCK:.0f} s",
            hint="Is one stopped (`ps` shows state T) or debugged? Let it go on, or end it; then all others go on.",
        )
