"""What a store stands on: one connection that writes, and the slot before it.

`file.py` and `memory.py` are its two kinds; the groups know only this.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.store.connection import Connection
    from posthouse.backends.sqlite.store.identity import Whereabouts
    from posthouse.backends.sqlite.store.processes import Process
    from posthouse.backends.sqlite.store.rows import UserSql
    from posthouse.clock import Seconds


T = TypeVar("T")


class Engine(Protocol):
    """One database, as one store has it open.

    Attributes:
        path: of it, for errors.
        connection: the one that writes.
        sql: a cursor of it, for our statements.
        theirs: runs the user's statements on it.
        reader: a cursor that sees what is committed, and not what is written just now; None where there is none.
        has_processes: it is shared by processes, so an instance is gone when its process is.
        on_abandon: is called when it is abandoned.
    """

    path: Path
    connection: Connection
    sql: Sql
    theirs: UserSql
    reader: Sql | None
    has_processes: bool
    on_abandon: Callable[[], None] | None

    @property
    def thread(self) -> Executor | None:
        """Where transactions run; None for the loop."""
        ...

    async def open(self, prepare: Callable[[Sql, UserSql, Whereabouts], None]) -> None:
        """Connect, and have the database prepared within one transaction, which is flushed."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...

    def enter(self) -> bool:
        """Take the write slot if it is free."""
        ...

    async def wait(self, limit: Seconds) -> bool:
        """Wait for the write slot; return False when that took longer than the limit."""
        ...

    def leave(self) -> None:
        """Let the next one have the write slot."""
        ...

    def before_handlers(self) -> None:
        """Make ready for a transaction that stays open over turns of the loop."""
        ...

    def flush(self) -> None:
        """Have on the disk what was committed."""
        ...

    def judge(self) -> None:
        """Choose where the next transactions run, by how long the last flushes took; nothing runs meanwhile."""
        ...

    def reading(self) -> AbstractAsyncContextManager[UserSql]:
        """Give a connection that sees the database as it was at one moment."""
        ...

    def abandon(self) -> None:
        """Stop in the middle, as a process does that dies."""
        ...

    def gone(self, instance: str, process: Process) -> bool:
        """Say whether the process of an instance is known to have ended."""
        ...


async def do(engine: Engine, function: Callable[..., T], *values: Any) -> T:
    """Do what may take long: in the engine's thread, or at once where nothing takes long."""
    if engine.thread is None:
        return function(*values)
    return await asyncio.get_running_loop().run_in_executor(engine.thread, function, *values)
