"""Stores in a directory of the test's own, and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from posthouse.backends.sqlite.store import FileEngine, MemoryDisk, SqliteStore, memory_store
from posthouse.testing import ManualClock
from posthouse.testing.conformance.stores.bench import TABLES

OpenStore: TypeAlias = Callable[..., Coroutine[Any, Any, SqliteStore]]


@pytest.fixture
def clock() -> ManualClock:
    """Give the clock of all instances."""
    return ManualClock()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Name a data directory that is not there yet."""
    return tmp_path / "data"


@pytest.fixture
def path(directory: Path) -> Path:
    """Name the file of the store."""
    return directory / "stores" / "prices.db"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Close in the end what was opened."""
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def open_file(directory: Path, clock: ManualClock, stack: AsyncExitStack) -> OpenStore:
    """Give what opens the store in the file for an instance; options are those of the engine."""

    async def open_instance(instance: str = "one", *, at: Path | None = None, **options: Any) -> SqliteStore:
        engine = FileEngine(at or directory, service="prices", **options)
        store = SqliteStore(engine, service="prices", instance=instance, clock=clock)
        await store.open(schema=TABLES)
        stack.push_async_callback(store.close)
        return store

    return open_instance


@pytest.fixture
def disk() -> Iterator[MemoryDisk]:
    """Give a disk in memory that can have its power cut."""
    with MemoryDisk("a disk of a test", power_cuts=True) as held:
        yield held


@pytest.fixture
def open_memory(disk: MemoryDisk, clock: ManualClock, stack: AsyncExitStack) -> OpenStore:
    """Give what opens the store on that disk for an instance."""

    async def open_instance(instance: str = "one") -> SqliteStore:
        store = memory_store(disk.name, service="prices", instance=instance, clock=clock)
        await store.open(schema=TABLES)
        stack.push_async_callback(store.close)
        return store

    return open_instance
