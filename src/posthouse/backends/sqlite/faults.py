"""SQLite's errors become ours here, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw

from posthouse.errors import DiskFullError, PosthouseError, StorageError, UnavailableError, UnsafeEngineError

if TYPE_CHECKING:
    from pathlib import Path


_DOCTOR: Final = "Run `posthouse doctor`; it looks at the data directory."

_FIRST_WAL: Final = (3, 7, 0)
_LAST_UNSAFE: Final = (3, 51, 2)


def check_engine(version: str) -> None:
    """Refuse a SQLite that can lose what several processes commit to one file.

    Versions 3.7.0 to 3.51.2 have the "WAL-reset" bug: when several connections write and checkpoint
    one file in WAL mode at an unlucky moment, committed transactions can be lost or the file corrupted.

    Args:
        version: as SQLite tells it, "3.51.3".

    Raises:
        UnsafeEngineError: it is one of those.

    Source: https://sqlite.org/wal.html, "The WAL-Reset Bug".
    """
    found = tuple(int(part) for part in version.split(".")[:3])
    if _FIRST_WAL <= found <= _LAST_UNSAFE:
        raise UnsafeEngineError(
            f"SQLite {version} can lose committed messages when several processes use one file"
            " (the WAL-reset bug of versions 3.7.0 to 3.51.2), so the transport was not opened",
            hint="Install apsw 3.51.3 or later from a wheel (`pip install --upgrade apsw`): it carries its own SQLite.",
        )


def ours(error: apsw.Error, path: Path) -> PosthouseError:
    """Return the error of ours that says what an error of SQLite means.

    Args:
        error: what apsw raised.
        path: the database file.
    """
    match error:
        case apsw.FullError():
            return DiskFullError(f"there is no room left for {path}; nothing of this was stored")
        case apsw.NotADBError() | apsw.CorruptError():
            return StorageError(
                f"{path} is not a SQLite database, or it is damaged: {error}",
                hint=f"Move {path} away; posthouse makes a new one. Restore it, or the queued messages in it are lost.",
            )
        case apsw.BusyError() | apsw.LockedError():
            return UnavailableError(
                f"another program holds {path} locked",
                hint="Does another program have it open (a backup, the sqlite3 shell)? End it; posthouse then goes on.",
            )
        case apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.CantOpenError():
            return UnavailableError(f"{path} cannot be written: {error}", hint=_DOCTOR)
        case apsw.IOError():
            return UnavailableError(f"the disk that holds {path} fails: {error}", hint=_DOCTOR)
        case _:
            return UnavailableError(
                f"SQLite could not do it with {path}: {type(error).__name__}: {error}", hint=_DOCTOR
            )
