"""Where a transport's files and sockets lie, and who may touch them.

A data directory belongs to one user: it is made with mode 0700, its files with 0600. What is found
there is looked at before it is opened: a symbolic link, or something of another user, could make us
write where somebody else wants us to. Nothing here knows what is in the files.

All functions block; they run when a transport is opened, not on the loop.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from posthouse.errors import StorageError

DATABASE: Final = "transport.db"

_LONGEST_SOCKET: Final = 107
"""Bytes of a Unix socket's path that Linux takes (sun_path is 108 with its end, see unix(7)); 103 on macOS and BSD."""

LONGEST_PEER: Final = 32
"""Bytes of a peer's id, which names its sockets."""

_PEER_ROOM: Final = LONGEST_PEER + len("/.direct")


def make_directory(directory: Path) -> None:
    """Make the data directory, or see that the one that is there can be ours.

    Raises:
        StorageError: it is a symbolic link, not a directory, somebody else's, open to be written by
            others, or cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StorageError(
            f"{directory} is not a directory",
            hint="Name a directory with `--data`, or move this file away; posthouse makes the directory itself.",
        ) from None
    except OSError as error:
        raise StorageError(
            f"the data directory {directory} cannot be made: {error.strerror}",
            hint=f"Give {_me()} the right to write in {directory.parent}, or name another directory.",
        ) from error
    _ours(directory, "data directory")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise StorageError(
            f"the data directory {directory} cannot be read and written by {_me()}",
            hint=f"Run `chmod u+rwx {directory}`, or name another directory.",
        )


def make_file(path: Path) -> None:
    """Make a file with mode 0600, or see that the one that is there can be ours.

    SQLite gives the files that it lays beside a database (-wal, -shm) the mode of the database, so
    the mode is right from the first moment, without a change of the process's umask.

    Raises:
        StorageError: it is a symbolic link, no plain file, somebody else's, or cannot be opened.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StorageError(
            f"{path} cannot be made: {error.strerror}", hint=f"May {_me()} write in {path.parent}?"
        ) from error
    # One that is there is looked at and not opened: to close it would drop all locks that SQLite holds on
    # it in this process (fcntl(2)), should somebody here have it open already.
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise StorageError(
            f"{path} is a symbolic link, and posthouse does not follow one to its data",
            hint="Put the file itself there, or move the link away.",
        )
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{path} is not a plain file", hint="Move it away; posthouse makes its file itself.")
    if found.st_uid != os.geteuid():
        raise StorageError(
            f"{path} belongs to user {found.st_uid}, not to {_me()}",
            hint="Run posthouse as that user, or name another data directory.",
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise StorageError(
            f"{path} cannot be read and written by {_me()}", hint=f"Run `chmod u+rw {path}`, or name another directory."
        )


def make_socket_directory(directory: Path) -> Path:
    """Make and return the directory for the sockets of a data directory.

    It is `run` in the data directory; where that path is too long for a socket, it is a directory in
    $XDG_RUNTIME_DIR or the one for temporary files, named after the data directory and the user, so
    that all processes of one data directory find the same one.

    Raises:
        StorageError: it is not ours, or cannot be made.
    """
    sockets = directory.resolve() / "run"
    if len(os.fsencode(sockets)) + _PEER_ROOM > _LONGEST_SOCKET:
        name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        sockets = base / f"posthouse-{os.geteuid()}-{name}"
    if len(os.fsencode(sockets)) + _PEER_ROOM > _LONGEST_SOCKET:
        raise StorageError(
            f"{sockets} is too long a path for a Unix socket",
            hint="Set XDG_RUNTIME_DIR or TMPDIR to a directory with a short path, the same for all processes.",
        )
    try:
        sockets.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the directory for sockets {sockets} cannot be made: {error.strerror}",
            hint=f"Give {_me()} the right to write in {sockets.parent}.",
        ) from error
    _ours(sockets, "directory for sockets")
    return sockets


def remove_socket_directory(sockets: Path, directory: Path) -> None:
    """Remove the directory for sockets if it lies elsewhere, where nobody would clean up, and is empty."""
    if sockets.parent == directory.resolve():
        return
    try:
        sockets.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise


def _ours(directory: Path, what: str) -> None:
    found = directory.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise StorageError(
            f"the {what} {directory} is a symbolic link, and posthouse does not follow one to its data",
            hint=f"Name the directory itself: {directory.resolve()}",
        )
    if not stat.S_ISDIR(found.st_mode):
        raise StorageError(f"the {what} {directory} is not a directory", hint="Move it away, or name another one.")
    if found.st_uid != os.geteuid():
        raise StorageError(
            f"the {what} {directory} belongs to user {found.st_uid}, not to {_me()}",
            hint="Run posthouse as that user, or name another data directory.",
        )
    if found.st_mode & 0o022:
        raise StorageError(
            f"other users may write to the {what} {directory}",
            hint=f"Run `chmod 700 {directory}`.",
        )


def _me() -> str:
    return f"user {os.geteuid()}"
