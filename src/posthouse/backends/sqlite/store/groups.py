"""Group commit: all steps of one turn of the loop share one transaction, and so do handlers that follow each other.

A transaction costs a flush of the disk, whatever it holds. So steps are gathered until the end of the
turn; and while handlers wait for the write slot one after another, they get it within one transaction, and
whatever steps came meanwhile go along. Steps never wait for a handler that has not got the slot yet: they are
committed before it does.

Who flushes, and why after the slot was left, is told in commits.py of the package around this one. Here too, what
is committed without a flush may be lost with the machine, and never with the process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

import apsw

from posthouse.backends.sqlite.store.engine import do
from posthouse.backends.sqlite.store.faults import told
from posthouse.backends.sqlite.store.rounds import MOST, Round
from posthouse.backends.sqlite.store.steps import BEGIN, Step, Steps
from posthouse.contracts.flushing import NotFlushedError
from posthouse.errors import GroupLostError, UnavailableError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.store.engine import Engine
    from posthouse.backends.sqlite.store.tails import SlotTail
    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books

T = TypeVar("T")

ENOUGH: Final = 256
"""The weight of one transaction. Heavier ones let two services that wait for each other take turns instead of working
at the same time: bounded ones did up to half as much again (benchmarks/spikes)."""

STUCK: Final[Seconds] = 10.0
"""After so long in vain all that wait are told: a process that was stopped in its transaction holds the file."""


class Groups:
    """Runs steps and handlers in transactions, one group after another.

    Args:
        engine: what they run on.
        books: on its connection.
        reader: books that see what is committed; None where there are none.
        hold_limit: tells how long a handler may hold the slot, in seconds.
    """

    def __init__(
        self, engine: Engine, books: Books, reader: Books | None, *, hold_limit: Callable[[], Seconds]
    ) -> None:
        self._engine = engine
        self._books = books
        self._hold_limit = hold_limit
        self._runs = Steps(engine, books, reader)
        self._loop = asyncio.get_running_loop()
        self._steps: deque[Step[Any]] = deque()
        self._reads: list[Step[Any]] = []
        self._waiting: deque[Future[SlotTail]] = deque()
        self._round: Round | None = None
        self._alone = 0  # so many handlers get a transaction of their own, as one of them has broken that of all
        self._bell: Future[None] | None = None
        self._inside = False
        self._under_way = False  # steps were taken, and their ends not told yet
        self._reading = 0  # so many readings are in the thread
        self._closed = ""
        self._task = self._loop.create_task(self._work(), name="posthouse store groups")

    # --- for those who write -------------------------------------------------------------------------------

    def submit(
        self, run: Callable[[Books], T], *, flush: bool = False, reads: bool = False, weight: int = 1
    ) -> Future[T]:
        """Let a step run in the next transaction; one that only reads need not wait for a handler."""
        future: Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(UnavailableError(self._closed))
            return future
        step = Step(run, future, flush=flush, reads=reads, weight=weight)
        if reads and self._engine.reader is not None and not self._steps and not self._under_way:
            if not self._reads:
                self._loop.call_soon(self._read)
            self._reads.append(step)
        else:
            self._steps.append(step)
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
        error = UnavailableError(why)
        self._send_away(error)
        if self._round is not None:
            self._round.send_away(error)
        self._ring()
        await self._task

    def abandon(self) -> None:
        """Stop in the middle, as a process does that dies: nobody is told anything."""
        self._closed = "the store was abandoned"
        if not self._loop.is_closed():
            self._task.cancel()
        self._steps.clear()
        self._reads.clear()
        self._waiting.clear()
        if self._round is not None:
            self._round.abandon(UnavailableError(self._closed))
        self._inside = False  # the engine lets go of the slot

    def _send_away(self, error: BaseException) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiting.clear()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    # --- one group after another ---------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            if not self._steps and not self._waiting:
                if self._closed and not self._reads:
                    return
                self._bell = self._loop.create_future()
                await self._bell
            if self._steps:
                await self._step_group()
            if self._waiting:
                await self._tail_group()
            await asyncio.sleep(0)  # those who were told may have more to do, which goes into the next group

    async def _step_group(self) -> None:
        entered = await self._enter()
        group = self._take()
        self._under_way = True
        try:
            if entered:
                await do(self._engine, self._runs.transact, group)
            else:
                for step in group:
                    step.error = self._stuck()
        except Exception as error:  # nothing that is known of; but nobody may wait for ever
            for step in group:
                step.error = step.error or error
        finally:
            self._leave()
        await self._finish(group, ())

    async def _tail_group(self) -> None:
        steps: list[Step[Any]] = []
        ended: Sequence[SlotTail] = ()
        try:
            if not await self._begin():
                return
            ended = await self._play_round()
            steps = self._take()
            self._under_way = True
            ended = await self._commit(steps, ended)
        finally:
            await self._roll_back()
            self._leave()
        await self._finish(steps, ended)

    async def _begin(self) -> bool:
        """Begin a transaction for handlers; return False when there is none, and all who wait were told."""
        if not await self._enter():
            self._send_away(self._stuck())
            return False
        try:
            self._engine.before_handlers()
            await do(self._engine, self._engine.sql.execute, BEGIN)
        except apsw.Error as error:
            self._send_away(told(error, self._engine.path))
            return False
        return True

    async def _play_round(self) -> Sequence[SlotTail]:
        """Let handlers have the slot; return those that are to be committed."""
        most = 1 if self._alone else MOST
        self._alone = max(0, self._alone - 1)
        this = Round(self._engine, self._books, self._waiting, most=most, hold_limit=self._hold_limit)
        self._round = this
        this.start()
        try:
            await this.over
        finally:
            self._round = None
        if this.broken is None:
            return this.ended
        await self._roll_back()
        self._lose(this.ended, "it was rolled back because of another handler", guilty=1)
        return ()

    async def _commit(self, steps: Sequence[Step[Any]], ended: Sequence[SlotTail]) -> Sequence[SlotTail]:
        """Let the steps that came meanwhile go along, and commit; return the handlers that were committed."""
        if self._engine.connection.in_transaction:
            try:
                await do(self._engine, self._runs.go_along, steps)
                await do(self._engine, self._engine.sql.execute, "COMMIT")
            except apsw.Error as error:
                failure = told(error, self._engine.path)
                if len(ended) == 1 and not steps:
                    ended[0].tell(failure)
                else:
                    self._lose(ended, str(failure))
                await self._roll_back()
            else:
                return ended
        if steps:
            await do(self._engine, self._runs.transact, steps)
        return ()

    async def _roll_back(self) -> None:
        if self._inside and self._engine.connection.in_transaction:  # SQLite may have rolled back by itself
            await do(self._engine, self._engine.sql.execute, "ROLLBACK")

    def _lose(self, ended: Sequence[SlotTail], why: str, *, guilty: int = 0) -> None:
        """Tell handlers that their transaction was lost; each of them is alone the next time, to find the guilty."""
        self._alone = len(ended) + guilty
        for tail in ended:
            tail.tell(GroupLostError(f"the transaction that this handler shared was lost: {why}"))

    async def _finish(self, steps: Sequence[Step[Any]], tails: Sequence[SlotTail]) -> None:
        """Tell those who need no flush; flush for the others, and tell them."""
        flushed: list[Step[Any]] = []
        for step in steps:
            if step.flush and step.error is None:
                flushed.append(step)
            else:
                step.tell()
        if flushed or tails:
            failure = await self._flush()
            for step in flushed:
                step.tell(failure)
            for tail in tails:
                tail.tell(failure)
            if not self._reading:
                self._engine.judge()
        self._under_way = False

    async def _flush(self) -> UnavailableError | None:
        try:
            await do(self._engine, self._engine.flush)
        except Exception as error:  # whatever it is: those who wait must be told, and the next group must run
            why = error.strerror if isinstance(error, OSError) else repr(error)
            return NotFlushedError(
                f"{self._engine.path} could not be flushed ({why}): what was committed may be lost",
                hint="Look at the disk (`dmesg`) and at the data directory.",
            )
        return None

    def _take(self) -> list[Step[Any]]:
        steps = self._steps
        group: list[Step[Any]] = []
        weight = 0
        while steps and (not group or weight + steps[0].weight <= ENOUGH):
            weight += steps[0].weight
            group.append(steps.popleft())
        return group

    # --- reading ------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        steps, self._reads = self._reads, []
        if not steps:  # the store was abandoned
            return
        thread = self._engine.thread
        if thread is None:
            self._runs.read(steps)
            self._have_read(steps)
        else:
            self._reading += 1
            reading = self._loop.run_in_executor(thread, self._runs.read, steps)
            reading.add_done_callback(lambda _: self._were_read(steps))

    def _were_read(self, steps: Sequence[Step[Any]]) -> None:
        self._reading -= 1
        self._have_read(steps)

    def _have_read(self, steps: Sequence[Step[Any]]) -> None:
        for step in steps:
            step.tell()
        self._ring()  # the store may wait for it to be closed

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
