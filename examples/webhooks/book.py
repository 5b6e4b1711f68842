"""A service's own book: what it has done, in a SQLite file of its own.

A queued message is delivered once or more often: when its service was killed before it could say
"done", it comes again. So an entry is made under a name that is the same each time, here the number
that GitHub gave the delivery, and a second one only counts up `times`. The effect happens once.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from threading import Lock

FOLDER = Path(os.environ.get("WEBHOOKS_BOOKS") or Path(__file__).with_name(".posthouse") / "books")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    event TEXT NOT NULL,       -- what was heard
    delivery TEXT NOT NULL,    -- GitHub's number of the delivery
    message TEXT NOT NULL,     -- ctx.id: of the message that brought it
    place TEXT NOT NULL,
    text TEXT NOT NULL,
    times INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (event, delivery)
)"""
_ENTER = """
INSERT INTO entries (event, delivery, message, place, text) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (event, delivery) DO UPDATE SET times = times + 1"""


class Book:
    """The entries of one service; made at the first one, so that importing the program makes no file."""

    def __init__(self, service: str) -> None:
        self.path = FOLDER / f"{service}.db"
        self._lock = Lock()  # plain `def` handlers run in threads, several at once
        self._file: sqlite3.Connection | None = None

    def enter(self, event: str, delivery: str, message: str, place: str, text: str) -> None:
        """Make an entry; when this returns, it is on the disk."""
        with self._lock:
            if self._file is None:
                self._file = self._opened()
            with self._file:
                self._file.execute(_ENTER, (event, delivery, message, place, text))

    def close(self) -> None:
        """Let go of the file; the next entry opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One connection of one process at a time, and the lock above: threads may share it.
        file = sqlite3.connect(self.path, check_same_thread=False)
        file.execute(_SCHEMA)
        return file
