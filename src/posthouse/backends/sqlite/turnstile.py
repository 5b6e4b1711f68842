"""The turnstile before the one write slot of the file: whoever waits is next.

SQLite's own busy handler starves a second writer, and with a single lock the one who has just written
barges in again. So there are two: who holds `turn` is next for `write`, and holds both only for the
moment of passing through. The one who has just written must take its turn behind who waits.

They are flocks, so that a killed process frees them, and they are asked for without blocking: a
writer waits for about as long as a transaction of another lasts, then gives the loop back. It gives
its turn back as well, since what runs on the loop meanwhile may take long, and all would wait for it.

Somebody may delete the lock files, and then two processes would hold two locks. So who opens or replaces
the database asks, once inside, whether its lock files still are those at their paths, and else takes the
new ones.

Measured: shares of two and three writers, see tests/unit/backends/sqlite/test_turnstile.py.
"""

from __future__ import annotations

import fcntl
import os
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Final

from posthouse.backends.sqlite.identity import stands

if TYPE_CHECKING:
    from pathlib import Path

    from posthouse.clock import Seconds

PATIENCE: Final[Seconds] = 0.001
"""How long `enter` tries at most before it gives the loop back."""


_NAP: Final[Seconds] = 0.0002


class Turnstile:
    """Lets one writer of a data directory through at a time.

    Args:
        directory: where the two lock files are.
        prefix: of their names, where several files in one directory have a turnstile each.
    """

    __slots__ = ("_paths", "_turn", "_write")

    def __init__(self, directory: Path, *, prefix: str = "") -> None:
        self._paths = directory / f"{prefix}turn.lock", directory / f"{prefix}write.lock"
        self._turn, self._write = _lock_files(*self._paths)

    def enter(self, patience: Seconds = PATIENCE) -> bool:
        """Go through, or return False when that took too long; then try again a little later.

        Args:
            patience: how long to try, in seconds.
        """
        if not _take(self._turn) and not _take_within(self._turn, patience):
            return False
        try:
            return _take(self._write) or _take_within(self._write, patience)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def wait(self, limit: Seconds) -> bool:
        """Go through, or return False when that took too long; blocks, so only in a thread of one's own.

        Args:
            limit: how long to wait, in seconds.
        """
        end = perf_counter() + limit
        while not _take(self._turn):
            if perf_counter() > end:
                return False
            sleep(_NAP)
        try:
            while not _take(self._write):
                if perf_counter() > end:
                    return False
                sleep(_NAP)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return True

    def wait_anew(self, limit: Seconds) -> bool:
        """Go through by the lock files that are at their paths, so that whoever else does so has to wait; blocks.

        Args:
            limit: how long to wait, in seconds.
        """
        end = perf_counter() + limit
        while self.wait(limit):
            if self.stands():
                return True
            self.leave()
            self.renew()
            if perf_counter() > end:
                break
        return False

    def leave(self) -> None:
        """Let the next one through."""
        fcntl.flock(self._write, fcntl.LOCK_UN)

    def stands(self) -> bool:
        """Return whether the lock files are the ones at their paths, which all others use."""
        turn, write = self._paths
        return _is_at(turn, self._turn) and _is_at(write, self._write)

    def renew(self) -> None:
        """Take the lock files that are at their paths now, or make them; blocks, and not while inside."""
        turn, write = _lock_files(*self._paths)
        self.close()
        self._turn, self._write = turn, write

    def close(self) -> None:
        """Let go of the files, and so of the locks."""
        os.close(self._turn)
        os.close(self._write)


def _lock_files(turn: Path, write: Path) -> tuple[int, int]:
    first = _lock_file(turn)
    try:
        return first, _lock_file(write)
    except OSError:
        os.close(first)
        raise


def _is_at(path: Path, lock: int) -> bool:
    held = os.fstat(lock)
    return stands(str(path), (held.st_dev, held.st_ino))


def _lock_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_within(lock: int, patience: Seconds) -> bool:
    end = perf_counter() + patience
    while perf_counter() < end:
        os.sched_yield()  # the one inside is at work on another core, or wants this one
        if _take(lock):
            return True
    return False
