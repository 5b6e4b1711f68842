"""What a process has open in a data directory: the lock files, the database, and the place of its sockets.

It is opened, closed, and replaced after somebody has deleted it. All of it blocks, and runs in a thread, but
for the questions whether it still stands. Who asks them, and what follows, is in database.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final, final

from posthouse.backends.sqlite.bells import is_alive, remove_sockets, remove_stale
from posthouse.backends.sqlite.identity import identity
from posthouse.backends.sqlite.opened import MovedError, OpenFile, open_file
from posthouse.backends.sqlite.place import DATABASE, make_directory, make_socket_directory, remove_socket_directory
from posthouse.backends.sqlite.turnstile import Turnstile
from posthouse.errors import StorageError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Seconds

_PATIENCE: Final[Seconds] = 10.0
_FRESH: Final[Seconds] = 60.0
_TRIES: Final = 5


@final
class Holdings:
    """What this process has open.

    Args:
        directory: the data directory.
        flushes: what is confirmed is flushed.
        enough: a flush that takes so long is quick enough, and is not measured again.
        enter: what this process does in a database first.

    Attributes:
        path: of the database.
        sockets: the directory of the sockets.
        turnstile: there while it is open.
        file: the database; None also while it was deleted and there is no other one.
    """

    __slots__ = ("_directory", "_enough", "_enter", "_flushes", "file", "path", "sockets", "turnstile")

    def __init__(self, directory: Path, *, flushes: bool, enough: Seconds, enter: Callable[[Sql], None]) -> None:
        self._directory = directory
        self._flushes = flushes
        self._enough = enough
        self._enter = enter
        self.path = directory / DATABASE
        self.sockets = directory / "run"
        self.turnstile: Turnstile | None = None
        self.file: OpenFile | None = None

    def open(self, peer: str, hang: Callable[[Path], None]) -> None:
        """Open all.

        Args:
            peer: the id of this process.
            hang: hangs its bell in the directory of the sockets, before it enters the database.

        Raises:
            StorageError: the directory, or a file in it, cannot be used.
            UnavailableError: the database is locked, or the disk fails.
        """
        self.make_place()
        try:
            remove_stale(self.sockets, older_than=time() - _FRESH)
            if not is_alive(self.sockets, peer):
                remove_sockets(self.sockets, peer)  # left by a dead process of our name
            self.turnstile = turnstile = Turnstile(self._directory)
        except OSError as error:
            raise StorageError(f"the data directory {self._directory} cannot be used: {error}") from error
        self._go_in(turnstile)
        try:
            self.sockets = make_socket_directory(self._directory)  # the last to leave may have removed it just now
            hang(self.sockets)
            self.file = self._open_file()
        finally:
            turnstile.leave()

    def make_place(self) -> None:
        """Make the directories that are not there."""
        make_directory(self._directory)
        self.sockets = make_socket_directory(self._directory)

    def replace(self) -> bool:
        """Let go of a database that was deleted, and open the one that others find; return whether it was deleted.

        Raises:
            StorageError: the other one cannot be used.
            UnavailableError: it is locked, or the disk fails.
        """
        turnstile = self.turnstile
        if turnstile is None:
            raise UnavailableError(f"{self.path} is not open")
        self._go_in(turnstile)
        try:
            if self.file is not None:
                if self.file.stands_whole():  # it was the lock files, or the sockets
                    return False
                self.file.abandon()
                self.file = None
            self.file = self._open_file()
            return True
        finally:
            turnstile.leave()

    def close(self) -> None:
        """Close the database."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def leave(self) -> None:
        """Give up the place, when this process has no sockets in it any more."""
        if self.turnstile is not None:
            if self.turnstile.enter():  # nobody makes it, or hangs a bell in it, meanwhile
                remove_socket_directory(self.sockets, self._directory)
                self.turnstile.leave()
            self.turnstile.close()
            self.turnstile = None

    # --- questions ---------------------------------------------------------------------------------------

    def file_stands(self) -> bool:
        """Return whether the database is the one that others find; some microseconds."""
        return self.file is not None and self.file.stands()

    def all_stands(self) -> bool:
        """Return whether everything is; some ten microseconds."""
        if self.file is None or self.turnstile is None:
            return False
        return self.file.stands_whole() and self.turnstile.stands() and identity(str(self.sockets)) is not None

    # --- inside ------------------------------------------------------------------------------------------

    def _go_in(self, turnstile: Turnstile) -> None:
        if not turnstile.wait_anew(_PATIENCE):
            raise UnavailableError(f"another process has been writing to {self.path} for more than {_PATIENCE:.0f} s")

    def _open_file(self) -> OpenFile:
        """Open the database at the path, or make it; inside the turnstile."""
        for _ in range(_TRIES - 1):
            try:
                return open_file(self.path, flushes=self._flushes, enough=self._enough, enter=self._enter)
            except MovedError:
                continue
        return open_file(self.path, flushes=self._flushes, enough=self._enough, enter=self._enter)
