"""The backend that needs no server: queues, topics and the registry in one SQLite file, for many processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from posthouse.backends.sqlite.database import Database
from posthouse.backends.sqlite.registry import SqliteRegistry
from posthouse.backends.sqlite.transport import SqliteTransport

if TYPE_CHECKING:
    from posthouse.clock import Clock

__all__ = ["Database", "SqliteRegistry", "SqliteTransport", "backend"]


def backend(location: str, *, peer: str, clock: Clock) -> tuple[SqliteTransport, SqliteRegistry]:
    """Return the transport and the registry of a data directory, both on one database.

    Args:
        location: the path of the data directory; it is made when the first of them is opened.
        peer: the id of this process, a word of letters, digits, `-` and `_` that no other process has.
        clock: tells the time.
    """
    database = Database(Path(location), clock=clock)
    return SqliteTransport(database, peer=peer, clock=clock), SqliteRegistry(database, clock=clock)
