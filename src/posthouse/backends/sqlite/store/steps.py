"""Steps in transactions, so that one that fails takes nobody along.

A step that fails is rare, so nobody pays for it beforehand: the steps of a transaction run without savepoints.
When one fails, all are rolled back and run again, each in a savepoint of its own; and when it was SQLite that
failed, each in a transaction of its own.

All of this may run in a thread: it touches nothing but the database, and the steps that it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import apsw

from posthouse.backends.sqlite.store.faults import FAILURES, told

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.store.engine import Engine
    from posthouse.contracts.store import Books

T = TypeVar("T")

BEGIN: Final = "BEGIN IMMEDIATE"


class Step(Generic[T]):
    """A step of a transaction, and what became of it."""

    __slots__ = ("error", "flush", "future", "reads", "result", "run", "weight")

    def __init__(
        self, run: Callable[[Books], T], future: Future[T], *, flush: bool, reads: bool, weight: int = 1
    ) -> None:
        self.run = run
        self.future = future
        self.flush = flush
        self.reads = reads
        self.weight = weight
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


class Steps:
    """Runs steps.

    Args:
        engine: what they run on.
        books: on its connection.
        reader: books that see what is committed; None where there are none.
    """

    def __init__(self, engine: Engine, books: Books, reader: Books | None) -> None:
        self._engine = engine
        self._books = books
        self._reader = reader

    def transact(self, steps: Sequence[Step[Any]]) -> None:
        """Run steps in one transaction; fails none but the guilty."""
        try:
            self._attempt(steps, self._together)
        except Exception as error:
            if len(steps) == 1:
                steps[0].error = self._told(error)
                return
        else:
            return
        try:
            self._attempt(steps, self._each)
        except apsw.Error:
            for step in steps:
                step.error = None
                self.transact([step])

    def go_along(self, steps: Sequence[Step[Any]]) -> None:
        """Run steps in the transaction that is open.

        Raises:
            apsw.Error: the transaction is lost.
        """
        if not steps:
            return
        sql = self._engine.sql
        sql.execute("SAVEPOINT steps")
        try:
            self._together(steps)
        except Exception:
            if not self._engine.connection.in_transaction:
                raise
            sql.execute("ROLLBACK TO steps")
            self._each(steps)
        sql.execute("RELEASE steps")

    def read(self, steps: Sequence[Step[Any]]) -> None:
        """Run steps that only read, each on what is committed at that moment."""
        books, sql = self._reader, self._engine.reader
        assert books is not None and sql is not None  # noqa: S101, PT018 - only where they are
        for step in steps:
            try:
                sql.execute("BEGIN")
                try:
                    step.result = step.run(books)
                finally:
                    sql.execute("ROLLBACK")
            except Exception as error:
                step.error = self._told(error)

    def _attempt(self, steps: Sequence[Step[Any]], run: Callable[[Sequence[Step[Any]]], None]) -> None:
        sql = self._engine.sql
        sql.execute(BEGIN)
        try:
            run(steps)
            sql.execute("COMMIT")
        except BaseException:
            if self._engine.connection.in_transaction:  # SQLite may have rolled back by itself
                sql.execute("ROLLBACK")
            raise

    def _together(self, steps: Sequence[Step[Any]]) -> None:
        books = self._books
        for step in steps:
            step.result = step.run(books)

    def _each(self, steps: Sequence[Step[Any]]) -> None:
        sql = self._engine.sql
        for step in steps:
            step.error = None
            sql.execute("SAVEPOINT one")
            try:
                step.result = step.run(self._books)
            except Exception as error:
                if not self._engine.connection.in_transaction:
                    raise
                step.error = self._told(error)
                sql.execute("ROLLBACK TO one")
            sql.execute("RELEASE one")

    def _told(self, error: Exception) -> Exception:
        return told(error, self._engine.path) if isinstance(error, FAILURES) else error
