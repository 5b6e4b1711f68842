"""What SQLite's errors mean for a store: as for a transport, but that nobody may move its file away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

from posthouse.backends.sqlite.faults import ours
from posthouse.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from posthouse.errors import PosthouseError


def told(error: apsw.Error, path: Path) -> PosthouseError:
    """Return the error of ours that says what an error of SQLite means.

    Args:
        error: what apsw raised.
        path: the file of the store.
    """
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return StorageError(
            f"{path} is not a SQLite database, or it is damaged: {error}",
            hint="Keep the file, and restore the store from a backup: what it holds is nowhere else.",
        )
    return ours(error, path)
