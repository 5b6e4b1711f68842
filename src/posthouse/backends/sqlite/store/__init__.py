"""A service's own database in SQLite: in a file that its processes share, or in memory for tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from posthouse.backends.sqlite.store.file import FileEngine
from posthouse.backends.sqlite.store.memory import MemoryDisk, MemoryEngine
from posthouse.backends.sqlite.store.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.clock import Clock

__all__ = [
    "FileEngine",
    "MemoryDisk",
    "MemoryEngine",
    "SqliteStore",
    "file_store",
    "file_store_is_there",
    "memory_store",
    "memory_store_is_there",
]


def file_store(
    location: str, *, service: str, instance: str, clock: Clock, new_id: Callable[[], str] | None = None
) -> SqliteStore:
    """Return the store of a service in a data directory; it is not open yet."""
    engine = FileEngine(Path(location), service=service)
    return SqliteStore(engine, service=service, instance=instance, clock=clock, new_id=new_id)


def file_store_is_there(location: str, *, service: str) -> bool:
    """Say whether a service has a store in a data directory."""
    return FileEngine(Path(location), service=service).path.exists()


def memory_store_is_there(location: str, *, service: str) -> bool:
    """Say that there is none that an earlier process has left: memory goes with its process."""
    del location, service
    return False


def memory_store(
    location: str, *, service: str, instance: str, clock: Clock, new_id: Callable[[], str] | None = None
) -> SqliteStore:
    """Return the store of a service on the disk in memory of this name; it is not open yet."""
    engine = MemoryEngine(location, service=service)
    return SqliteStore(engine, service=service, instance=instance, clock=clock, new_id=new_id)
