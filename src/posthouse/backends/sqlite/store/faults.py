"""What SQLite's errors mean for a store: as for a transport, but that nobody may move its file away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import apsw

from posthouse.backends.sqlite.faults import ours
from posthouse.errors import StorageError, StoreDamagedError

if TYPE_CHECKING:
    from pathlib import Path

    from posthouse.errors import PosthouseError


Failure: TypeAlias = apsw.Error | UnicodeDecodeError
FAILURES: Final = (apsw.Error, UnicodeDecodeError)
"""What apsw raises: SQLite's own errors, and that a text is none. SQLite looks at no text that it hands over."""


def told(error: Failure, path: Path) -> PosthouseError:
    """Return the error of ours that says what an error of SQLite means.

    Args:
        error: what apsw raised.
        path: the file of the store.
    """
    if isinstance(error, UnicodeDecodeError):
        return StoreDamagedError(f"a text in {path} is damaged: {error}")
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return StorageError(
            f"{path} is not a SQLite database, or it is damaged: {error}",
            hint="Keep the file, and restore the store from a backup: what it holds is nowhere else.",
        )
    return ours(error, path)
