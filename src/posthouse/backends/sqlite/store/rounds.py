"""One transaction that handlers share: each has the write slot in turn, and its rows in a savepoint.

The next one gets the slot in the very moment in which the one before lets go of it, so nothing that happens on the
loop meanwhile stands between them. What one of them does wrong is rolled back to its savepoint, and the others
do not notice. Some things SQLite answers by rolling back the whole transaction (a full disk, a statement with
OR ROLLBACK): then the round is broken, and those who had ended well have to run again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from posthouse.backends.sqlite.store.faults import FAILURES, told
from posthouse.backends.sqlite.store.tails import SlotTail

if TYPE_CHECKING:
    from asyncio import Future, TimerHandle
    from collections import deque
    from collections.abc import Callable

    from posthouse.backends.sqlite.store.engine import Engine
    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books

MOST: Final = 64
LASTS: Final[Seconds] = 0.005
"""So many handlers share a transaction, and none gets into one that is older than that."""


class Round:
    """Gives the slot to one handler after another.

    Args:
        engine: in a transaction.
        books: on its connection.
        waiting: who waits for the slot, in order.
        most: so many get it.
        hold_limit: tells how long one may have it, in seconds.

    Attributes:
        over: is done when nobody has the slot any more.
        ended: those that are to be committed.
        broken: why nothing can be committed any more.
    """

    def __init__(
        self,
        engine: Engine,
        books: Books,
        waiting: deque[Future[SlotTail]],
        *,
        most: int,
        hold_limit: Callable[[], Seconds],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: Future[None] = self._loop.create_future()
        self.ended: list[SlotTail] = []
        self.broken: BaseException | None = None
        self._engine = engine
        self._books = books
        self._waiting = waiting
        self._left = most
        self._hold_limit = hold_limit
        self._until = self._loop.time() + LASTS
        self._tail: SlotTail | None = None
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Give the slot to the first one."""
        self._grant()

    def send_away(self, why: BaseException) -> None:
        """Take the slot back from the one who has it."""
        if self._tail is not None:
            self._tail.lose(why)

    def abandon(self, why: BaseException) -> None:
        """Forget all about it."""
        self._left = 0
        if self._timer is not None:
            self._timer.cancel()
        if self._tail is not None:
            self._tail.lost, self._tail = why, None

    # --- one after another; each of these may be called from within a handler ------------------------------------

    def _grant(self) -> None:
        waiting = self._waiting
        while self._left and waiting and (not self.ended or self._loop.time() < self._until):
            waiter = waiting.popleft()
            if not waiter.done():
                self._do(self._engine.sql.execute, "SAVEPOINT tail", then=partial(self._granted, waiter))
                return
        self.over.set_result(None)

    def _granted(self, waiter: Future[SlotTail], _: Any, error: BaseException | None) -> None:
        if waiter.done():  # canceled while a thread was at work
            self._do(self._undo, then=self._undone)
            return
        if error is not None:
            waiter.set_exception(told(error, self._engine.path) if isinstance(error, FAILURES) else error)
            self._break(error)
            return
        self._left -= 1
        self._tail = SlotTail(self._engine, self._let_go)
        self._timer = self._loop.call_later(self._hold_limit(), self._tail.expire)
        waiter.set_result(self._tail)

    def _undone(self, _: Any, error: BaseException | None) -> None:
        if error is not None:
            self._break(error)
        else:
            self._grant()

    def _let_go(self, tail: SlotTail) -> None:
        if self._tail is not tail:  # the round was abandoned
            return
        self._tail = None
        assert self._timer is not None  # noqa: S101 - set with the tail
        self._timer.cancel()
        self._do(self._end, tail, then=partial(self._has_ended, tail))

    def _has_ended(self, tail: SlotTail, kept: Any, error: BaseException | None) -> None:
        if kept:
            self.ended.append(tail)
        else:
            tail.lost = tail.lost or error
            tail.tell()
        if error is not None:
            self._break(error)
        else:
            self._grant()

    def _break(self, error: BaseException) -> None:
        self.broken = error
        self.over.set_result(None)

    def _do(
        self, function: Callable[..., Any], *values: Any, then: Callable[[Any, BaseException | None], None]
    ) -> None:
        """Do what may take long, in the thread if there is one, and go on with what came of it."""
        thread = self._engine.thread
        if thread is None:
            try:
                result = function(*values)
            except Exception as error:
                then(None, error)
            else:
                then(result, None)
            return

        def done(future: Future[Any]) -> None:
            error = future.exception()
            then(None if error is not None else future.result(), error)

        self._loop.run_in_executor(thread, function, *values).add_done_callback(done)

    # --- what may run in the thread ------------------------------------------------------------------------------

    def _end(self, tail: SlotTail) -> bool:
        """Run the step that ends a handler, or roll back what it wrote; return whether it is to be committed.

        Raises:
            apsw.Error: the transaction is lost.
        """
        if tail.step is not None and tail.lost is None:
            try:
                tail.result = tail.step(self._books)
                self._engine.theirs.check_deferred()
            except Exception as error:
                tail.lost = told(error, self._engine.path) if isinstance(error, FAILURES) else error
            else:
                self._engine.sql.execute("RELEASE tail")
                return True
        self._undo()
        return False

    def _undo(self) -> None:
        self._engine.sql.execute("ROLLBACK TO tail")
        self._engine.sql.execute("RELEASE tail")
