"""Copies the file of a store while its services write to it: as it is at one moment, into a file of its own.

The moment is held by a read transaction, so the copy ends however much is written meanwhile; and it is flushed bit
by bit, with a rest after each, so that those who write do not feel it. docs/decisions/0014 has what was measured.
All functions block: they run in a process or a thread of their own.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from hashlib import blake2b
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import apsw

from posthouse.backends.sqlite.store.faults import told
from posthouse.backends.sqlite.store.tables import APPLICATION, VERSION
from posthouse.errors import DiskFullError, PosthouseError, StorageError, UnavailableError
from posthouse.protocol.epoch import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from posthouse.backends.sqlite.store.connection import Connection
    from posthouse.clock import Seconds

_STEP: Final = 1 << 20
"""So many bytes are copied, and flushed, at once."""

_BUSY: Final = 5000

_NOWHERE: Final = "UPDATE posthouse_store SET machine = '', device = 0, inode = 0"
"""A backup lies nowhere: wherever it is opened, it is a copy, even at the inode of the original."""


class Facts(NamedTuple):
    """What a file says of itself.

    Attributes:
        identity: which store it is, and in which life.
        format: the version of its tables.
    """

    identity: Identity
    format: int


@contextmanager
def connected(place: Path | str, flags: int = apsw.SQLITE_OPEN_READWRITE) -> Generator[Connection]:
    """Have a file open for as long as the block lasts.

    Args:
        place: of the file, or its URI.
        flags: how it is opened.

    Raises:
        apsw.Error: it cannot be opened.
    """
    connection = cast("Connection", apsw.Connection(str(place), flags))
    try:
        connection.set_busy_timeout(_BUSY)
        yield connection
    finally:
        connection.close()


def facts_of(connection: Connection, path: Path) -> Facts:
    """Return what a file says of itself.

    Raises:
        StorageError: it is no store, or that of a newer version.
        apsw.Error: it cannot be read.
    """
    [[application]] = connection.execute("PRAGMA application_id").fetchall()
    [[version]] = connection.execute("PRAGMA user_version").fetchall()
    if application != APPLICATION:
        raise StorageError(f"{path} is a database of another program, or no store")
    if version > VERSION:
        raise StorageError(
            f"{path} was written by a newer posthouse (format {version}; this one knows {VERSION})",
            hint="Upgrade this posthouse.",
        )
    [[id, epoch]] = connection.execute("SELECT id, epoch FROM posthouse_store").fetchall()
    return Facts(Identity(id, epoch), version)


def copy_store(
    source: Path, target: Path, *, progress: Callable[[int, int], None], rest: Callable[[Seconds], None] = sleep
) -> Facts:
    """Copy a store as it is at this moment, and flush the copy.

    Args:
        source: the file of the store; others may have it open.
        target: a file that is not there yet; it is made with mode 0600.
        progress: is told the bytes done, and the bytes of all, after each step.
        rest: waits so many seconds.

    Raises:
        StorageError: it is no store, or damaged, or this user may not read it.
        UnavailableError: the file cannot be read now, or the copy not be written.
    """
    written = -1
    try:
        written = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        facts = _copied(source, target, written, progress=progress, rest=rest)
        _lay_nowhere(target)
        os.fsync(written)
    except apsw.FullError as error:  # only the copy is written
        raise told(error, target) from error
    except apsw.CantOpenError as error:
        raise cannot_open(source, error) from error
    except apsw.Error as error:
        raise told(error, source) from error
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        if written >= 0:
            os.close(written)
    return facts


def _copied(
    source: Path,
    target: Path,
    written: int,
    *,
    progress: Callable[[int, int], None],
    rest: Callable[[Seconds], None],
) -> Facts:
    with connected(source) as reading, connected(target) as writing:
        reading.execute("BEGIN")
        facts = facts_of(reading, source)  # only now the moment is fixed
        [[page_size]] = reading.execute("PRAGMA page_size").fetchall()
        writing.execute("PRAGMA journal_mode = OFF").fetchall()
        writing.execute("PRAGMA synchronous = OFF")  # we flush
        with cast("apsw.Connection", writing).backup("main", cast("apsw.Connection", reading), "main") as backup:
            while not backup.done:
                begun = perf_counter()
                backup.step(_STEP // page_size)
                _flush(written)
                progress((backup.page_count - backup.remaining) * page_size, backup.page_count * page_size)
                rest(perf_counter() - begun)
        reading.execute("ROLLBACK")
        # The WAL has grown meanwhile, as nobody could copy it back: who commits next would have to.
        reading.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return facts


def _lay_nowhere(target: Path) -> None:
    """Make it one plain file, without a WAL, that remembers no place."""
    with connected(target) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute(_NOWHERE)


def checksum(path: Path, *, progress: Callable[[int], None] | None = None) -> str:
    """Return the checksum of a file.

    Args:
        path: of the file.
        progress: is told the bytes of each part that was read.

    Raises:
        OSError: it cannot be read.
    """
    found = blake2b(digest_size=32)
    with path.open("rb") as file:
        while part := file.read(_STEP):
            found.update(part)
            if progress is not None:
                progress(len(part))
    return found.hexdigest()


def copy_file(source: Path, target: int, *, progress: Callable[[int], None]) -> str:
    """Copy a file that nobody writes into an open one, and return the checksum of what was copied.

    Raises:
        OSError: it cannot be read, or the copy not be written.
    """
    found = blake2b(digest_size=32)
    with source.open("rb") as file:
        while part := file.read(_STEP):
            found.update(part)
            progress(len(part))
            left = memoryview(part)
            while left:
                left = left[os.write(target, left) :]
    return found.hexdigest()


def flush_names(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def cannot_open(path: Path, error: apsw.Error) -> StorageError:
    """Return the error that says that a store cannot be opened to read it."""
    return StorageError(
        f"{path} cannot be opened: {error}",
        hint="Run this as the user whose store it is: one that is in use is read with files that lie beside it.",
    )


def cannot_write(path: Path, error: OSError) -> PosthouseError:
    """Return the error that says that something cannot be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(f"there is no room to write {path}", hint="Make room on its disk, and run this again.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StorageError(
            f"{path} cannot be written: {error.strerror}",
            hint="Run this as a user who may write there, or name another place.",
        )
    return UnavailableError(f"{path} cannot be written: {error.strerror}", hint="Look at the disk it lies on.")


def _flush(file: int) -> None:
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
    sync(file)
