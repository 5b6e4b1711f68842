"""Processes on one data directory: what stands for each of them here is a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest

from posthouse.backends.sqlite import Database, SqliteRegistry, SqliteTransport
from posthouse.testing import ManualClock

OpenTransport: TypeAlias = Callable[..., Coroutine[Any, Any, SqliteTransport]]
OpenRegistry: TypeAlias = Callable[..., Coroutine[Any, Any, SqliteRegistry]]


@pytest.fixture
def clock() -> ManualClock:
    """Give the clock of all processes."""
    return ManualClock()


@pytest.fixture
def directory() -> Iterator[Path]:
    """Name a data directory that is not there yet; its path is short, so that it holds its sockets itself."""
    with TemporaryDirectory(prefix="post") as temporary:
        yield Path(temporary) / "data"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Close in the end what was opened."""
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def open_transport(directory: Path, clock: ManualClock, stack: AsyncExitStack) -> OpenTransport:
    """Give what opens the transport of another process; `database` says what is special about it."""

    async def open_peer(peer: str, *, database: Database | None = None, **options: Any) -> SqliteTransport:
        transport = SqliteTransport(database or Database(directory, clock=clock), peer=peer, clock=clock, **options)
        await transport.open()
        stack.push_async_callback(transport.close)
        return transport

    return open_peer


@pytest.fixture
def open_registry(directory: Path, clock: ManualClock, stack: AsyncExitStack) -> OpenRegistry:
    """Give what opens the registry of another process."""

    async def open_peer(peer: str) -> SqliteRegistry:
        database = Database(directory, clock=clock)
        database.peer = peer
        registry = SqliteRegistry(database, clock=clock)
        await registry.open()
        stack.push_async_callback(registry.close)
        return registry

    return open_peer
