"""A handler's transaction, while it has the write slot."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from posthouse.backends.sqlite.store.engine import do
from posthouse.backends.sqlite.store.faults import FAILURES, told
from posthouse.errors import StoreHeldError, UsageError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Mapping, Sequence

    from posthouse.backends.sqlite.store.engine import Engine
    from posthouse.contracts.store import Books

T = TypeVar("T")


class SlotTail:
    """A handler's transaction: a savepoint in that of its round.

    Args:
        engine: what its statements run on.
        let_go: is called once, when the handler does not need the slot any more.

    Attributes:
        step: what ends the delivery; None when it was given up.
        result: of the step.
        lost: why it is not, or will not be, committed.
    """

    __slots__ = ("_engine", "_future", "_let_go", "_over", "_running", "lost", "result", "step")

    def __init__(self, engine: Engine, let_go: Callable[[SlotTail], None]) -> None:
        self.step: Callable[[Books], Any] | None = None
        self.result: Any = None
        self.lost: BaseException | None = None
        self._engine = engine
        self._let_go = let_go
        self._over = False
        self._future: Future[Any] | None = None
        self._running = 0

    async def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = (), /) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows.

        Raises:
            SqlError: the statement is wrong, breaks a constraint, or touches what is not the user's.
            UsageError: the transaction is over.
            StoreHeldError: it took too long, and was rolled back.
            UnavailableError: the engine failed.
        """
        return await self._statement(self._engine.theirs.execute, sql, values)

    async def executemany(self, sql: str, values: Sequence[Mapping[str, Any]] | Sequence[tuple[Any, ...]], /) -> None:
        """Run one statement for each set of values, for all or for none."""
        await self._statement(self._engine.theirs.executemany, sql, values)

    def end(self, step: Callable[[Books], T]) -> Future[T]:
        """Run the step that ends the delivery in this transaction, and let it commit with the others of its group."""
        future: Future[T] = asyncio.get_running_loop().create_future()
        if self.lost is not None:
            future.set_exception(self.lost)
            self.give_up()
        elif self._over:
            future.set_exception(UsageError("the transaction of this delivery is over already"))
        else:
            self.step, self._future = step, future
            self.give_up()
        return future

    def give_up(self) -> None:
        """Roll back; after the end it does nothing."""
        if not self._over:
            self._over = True
            self._let_go(self)

    def expire(self) -> None:
        """Take the slot back."""
        self.lose(StoreHeldError("the transaction held the store's write slot for too long, and was rolled back"))

    def lose(self, why: BaseException) -> None:
        """Take the slot back for a reason; what was written is rolled back."""
        if self._over:
            return
        self.lost = why
        if self._running:  # in the thread, as nothing runs on the loop meanwhile
            self._engine.connection.interrupt()
        self.give_up()

    def tell(self, failure: BaseException | None = None) -> None:
        """Say what became of it."""
        if self._future is None or self._future.done():
            return
        error = self.lost or failure
        if error is None:
            self._future.set_result(self.result)
        else:
            self._future.set_exception(error)

    async def _statement(self, run: Callable[..., T], sql: str, values: Any) -> T:
        if self.lost is not None:
            raise self.lost
        if self._over:
            raise UsageError("the transaction of this delivery is over: its statements belong before the handler's end")
        self._running += 1
        try:
            return await do(self._engine, self._in_transaction, run, sql, values)
        except Exception:
            if self.lost is not None:
                raise self.lost from None
            raise
        finally:
            self._running -= 1

    def _in_transaction(self, run: Callable[..., T], sql: str, values: Any) -> T:
        """Run a statement, but never outside of the transaction, where it would be committed at once."""
        if self.lost is not None:
            raise self.lost
        try:
            return run(sql, values)
        except Exception as error:
            failure = told(error, self._engine.path) if isinstance(error, FAILURES) else error
            if not self._engine.connection.in_transaction:
                self.lost = self.lost or failure
            raise failure from error
