"""The store: opens what it stands on, and brings books, groups and the user's SQL together."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, final

from posthouse.backends.sqlite.store.books import SqliteBooks
from posthouse.backends.sqlite.store.engine import do
from posthouse.backends.sqlite.store.faults import FAILURES, told
from posthouse.backends.sqlite.store.groups import Groups
from posthouse.backends.sqlite.store.identity import identify
from posthouse.backends.sqlite.store.looking import Looking
from posthouse.backends.sqlite.store.processes import Process, this_process
from posthouse.backends.sqlite.store.scripts import run_scripts
from posthouse.backends.sqlite.store.tables import bring_up_to_date
from posthouse.errors import UnavailableError, UsageError
from posthouse.protocol.epoch import Identity

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.store.engine import Engine
    from posthouse.backends.sqlite.store.identity import Whereabouts
    from posthouse.backends.sqlite.store.rows import UserSql
    from posthouse.backends.sqlite.store.tails import SlotTail
    from posthouse.clock import Clock, Seconds
    from posthouse.contracts.store import Books, Rows

T = TypeVar("T")


@final
class SqliteStore:
    """A service's own database, as one instance has it open.

    Args:
        engine: what it stands on.
        service: whose it is.
        instance: who has it open.
        clock: what time it is.
        new_id: 128 bits in hex that nobody else has; is asked once in the life of a store.

    Attributes:
        identity: which store it is; known once it is open.
        service: whose it is.
        instance: who has it open.
        hold_limit: how long a handler may hold the write slot, in seconds.
        is_elsewhere: it was only looked at, and lies where it did not lie before.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        service: str,
        instance: str,
        clock: Clock,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self.identity = Identity()
        self.service = service
        self.instance = instance
        self.is_elsewhere = False
        self._engine = engine
        self._clock = clock
        self._new_id = new_id or _random_id
        self.hold_limit: Seconds = 1.0
        self._groups: Groups | None = None
        self._looking: Looking | None = None
        self._abandoned = False

    async def open(self, *, schema: Sequence[str] = ()) -> None:
        """Connect, create what is not there, and find out who it is.

        Raises:
            UnsafeEngineError: the engine is of a version that can lose data.
            StorageError: the place for the data cannot be used, or a script failed, or one that ran was changed.
            UsageError: it is open.
        """
        self._must_be_closed()
        engine = self._engine
        process = Process()

        def prepare(sql: Sql, theirs: UserSql, where: Whereabouts) -> None:
            nonlocal process
            process = this_process() if engine.has_processes else process
            bring_up_to_date(sql, engine.path)
            now = self._clock.now()
            self.identity = identify(sql, where, new_id=self._new_id, name=str(engine.path), now=now)
            run_scripts(sql, theirs, schema, service=self.service, now=now)

        await engine.open(prepare)
        books = SqliteBooks(engine.sql, self.identity, process=process, gone=engine.gone)
        reader = None
        if engine.reader is not None:
            reader = SqliteBooks(engine.reader, self.identity, process=process, gone=engine.gone)
        self._groups = Groups(engine, books, reader, hold_limit=lambda: self.hold_limit)
        engine.on_abandon = self._abandon

    async def look(self) -> None:
        """Connect only to read, instead of `open`: nothing is made, no script is run, and no life begins.

        Raises:
            UnsafeEngineError: the engine is of a version that can lose data.
            StorageError: there is no store, or it cannot be read by this version.
            UsageError: it is open; or it is in memory, where only those can look who have it open.
        """
        self._must_be_closed()
        if not self._engine.has_processes:
            raise UsageError(f"{self._engine.path} is in memory: only those can look at it who have it open")
        looking = Looking(self._engine.path)
        await looking.open()
        self._looking = looking
        self.identity, self.is_elsewhere = looking.identity, looking.is_elsewhere

    async def close(self) -> None:
        """Let go of everything; what was committed stays."""
        looking, self._looking = self._looking, None
        if looking is not None:
            await looking.close()
        groups, self._groups = self._groups, None
        if groups is not None and not self._abandoned:
            await groups.close(f"the store of {self.service!r} was closed")
            await self._engine.close()

    def abandon(self) -> None:
        """Leave it as an instance does that dies: nothing more happens, and nobody is told; for stores in memory.

        Raises:
            UsageError: it is in a file, whose process can be killed instead.
        """
        self._engine.abandon()

    def _abandon(self) -> None:
        self._abandoned = True
        if self._groups is not None:
            self._groups.abandon()

    def commit(self, step: Callable[[Books], T], *, name: str, flush: bool = False, weight: int = 1) -> Future[T]:
        """Run a step in the next transaction, in the order of these calls; the future holds what it returns."""
        return self._submit(step, flush=flush, reads=False, weight=weight)

    def read(self, step: Callable[[Books], T], *, name: str = "read") -> Future[T]:
        """Run a step that only reads."""
        if self._looking is not None:
            return self._looking.read(step)
        return self._submit(step, flush=False, reads=True)

    async def tail(self) -> SlotTail:
        """Wait for the store's write slot, and open a handler's transaction. First come, first served."""
        if self._groups is None:
            raise self._not_open()
        return await self._groups.tail()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Rows]:
        """Read the user's tables as they are at one moment; it holds no slot."""
        if self._groups is None:
            raise self._not_open()
        async with self._engine.reading() as rows:
            snapshot = _Snapshot(rows, self._engine)
            try:
                yield snapshot
            finally:
                snapshot.over = True

    def _submit(self, step: Callable[[Books], T], *, flush: bool, reads: bool, weight: int = 1) -> Future[T]:
        if self._abandoned:
            return asyncio.get_running_loop().create_future()  # the dead hear nothing
        if self._groups is None:
            future: Future[T] = asyncio.get_running_loop().create_future()
            future.set_exception(self._not_open())
            return future
        return self._groups.submit(step, flush=flush, reads=reads, weight=weight)

    def _must_be_closed(self) -> None:
        if self._groups is not None or self._looking is not None:
            raise UsageError(f"the store of {self.service!r} is open already")

    def _not_open(self) -> UnavailableError | UsageError:
        if self._looking is not None:
            return UsageError(f"the store of {self.service!r} was opened to be looked at")
        return UnavailableError(f"the store of {self.service!r} is not open")


class _Snapshot:
    """The user's tables as they were at one moment."""

    def __init__(self, rows: UserSql, engine: Engine) -> None:
        self.over = False
        self._rows = rows
        self._engine = engine

    async def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = (), /) -> list[tuple[Any, ...]]:
        return await self._run(self._rows.execute, sql, values)

    async def executemany(self, sql: str, values: Sequence[Mapping[str, Any]] | Sequence[tuple[Any, ...]], /) -> None:
        await self._run(self._rows.executemany, sql, values)

    async def _run(self, run: Callable[..., T], *values: Any) -> T:
        if self.over:
            raise UsageError("this reading is over: its statements belong within `async with`")
        try:
            return await do(self._engine, run, *values)
        except FAILURES as error:
            raise told(error, self._engine.path) from error


def _random_id() -> str:
    return secrets.token_hex(16)
