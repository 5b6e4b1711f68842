"""Doorbells: how a process that sleeps hears that there is something for it.

Each process has one Unix datagram socket, named after it. Whoever has committed something that others
wait for rings theirs; the datagram says what it is about. A bell that nobody holds any more tells that
its process is dead: the kernel answers a connect with ECONNREFUSED, at once and without waking anybody
who lives. What a ring means is not known here.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

from posthouse.errors import StorageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from posthouse.clock import Seconds

_AGAIN: Final[Seconds] = 0.001
_LARGEST: Final = 4096
_MOST: Final = _LARGEST // 8
_DEAD: Final = frozenset({errno.ECONNREFUSED, errno.ENOENT})


@final
class Bells:
    """This process's bell, and the ropes of all others.

    Args:
        sockets: the directory of the bells.
        peer: whose bell is ours.
    """

    __slots__ = ("_bell", "_heard", "_held", "_loop", "_path", "_peer", "_retry", "_rope", "_sockets")

    def __init__(self, sockets: Path, peer: str) -> None:
        self._sockets = sockets
        self._peer = peer
        self._path = self._at(peer)
        self._bell = self._hang()
        self._rope = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._rope.setblocking(False)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard: Callable[[Sequence[int]], None] | None = None
        self._held: dict[str, set[int]] = {}  # rings for bells that were busy
        self._retry: asyncio.TimerHandle | None = None

    def listen(self, loop: asyncio.AbstractEventLoop, heard: Callable[[Sequence[int]], None]) -> None:
        """From now on, tell `heard` the numbers that are rung."""
        self._loop = loop
        self._heard = heard
        loop.add_reader(self._bell, self._read)

    def ring(self, peer: str, numbers: Sequence[int]) -> bool:
        """Ring a bell; return False when its process is dead.

        Args:
            peer: whose bell.
            numbers: what it is about, 64 bits each.
        """
        for start in range(0, len(numbers), _MOST):
            some = numbers[start : start + _MOST]
            try:
                self._rope.sendto(struct.pack(f"={len(some)}q", *some), self._at(peer))
            except BlockingIOError:  # its socket is full of rings that it has not read: say these once more, soon
                self._held.setdefault(peer, set()).update(some)
                if self._retry is None and self._loop is not None:
                    self._retry = self._loop.call_later(_AGAIN, self._ring_again)
            except OSError as error:
                # of anything else the other one hears at its slow poll; here it must stop nobody
                return error.errno not in _DEAD
        return True

    def alive(self, peer: str) -> bool:
        """Return whether the process of a peer lives; it does not notice."""
        return is_alive(self._sockets, peer)

    def rehang(self) -> None:
        """Hang our bell again if somebody has removed its file: without it we are taken for dead."""
        if self._loop is None or self.alive(self._peer):
            return
        try:
            bell = self._hang()
        except StorageError:  # the directory went too; should that not help, the next look tries again
            with suppress(OSError):
                os.mkdir(self._sockets, 0o700)
            return
        self._loop.remove_reader(self._bell)
        self._bell.close()
        self._bell = bell
        self._loop.add_reader(self._bell, self._read)

    def close(self) -> None:
        """Take our bell down."""
        if self._retry is not None:
            self._retry.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._bell)
        self._bell.close()
        self._rope.close()

    def _at(self, peer: str) -> str:
        return f"{self._sockets}/{peer}.bell"

    def _hang(self) -> socket.socket:
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bell.setblocking(False)
        try:
            bell.bind(self._path)
        except OSError as error:
            bell.close()
            raise StorageError(
                f"the socket {self._path} cannot be made: {error.strerror}",
                hint="Two processes must not use the same peer id; otherwise see the rights of that directory.",
            ) from error
        return bell

    def _read(self) -> None:
        try:
            note = self._bell.recv(_LARGEST)  # one a turn: the loop calls again while there are more
        except BlockingIOError:
            return
        if self._heard is not None:
            self._heard(struct.unpack_from(f"={len(note) // 8}q", note))

    def _ring_again(self) -> None:
        self._retry = None
        held, self._held = self._held, {}
        for peer, numbers in held.items():
            self.ring(peer, list(numbers))  # a dead one is found by the slow poll


def is_alive(sockets: Path, peer: str) -> bool:
    """Return whether the process of a peer lives, or that cannot be found out; it does not notice."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            probe.connect(f"{sockets}/{peer}.bell")
    except OSError as error:  # also when this process has no file descriptor left for the probe
        return error.errno not in _DEAD
    return True


def hung(sockets: Path) -> list[str]:
    """Return the peers whose bells are in a directory, dead ones too; blocks."""
    return [path.stem for path in sockets.glob("*.bell")]


def remove_stale(sockets: Path, *, older_than: float) -> None:
    """Remove the socket files of processes that are dead; blocks.

    A bell is hung before anything else of its process, so without a live bell all else is stale too.

    Args:
        sockets: their directory.
        older_than: leave files that were made after this instant: a bell that is just being hung seems dead.
    """
    for path in sockets.iterdir():
        peer, _, suffix = path.name.rpartition(".")
        if suffix not in {"bell", "direct"}:
            continue
        try:
            made = path.lstat().st_mtime
        except FileNotFoundError:  # its process closes just now, or another one that starts was quicker
            continue
        if made <= older_than and not is_alive(sockets, peer):
            path.unlink(missing_ok=True)


def remove_sockets(sockets: Path, peer: str) -> None:
    """Remove the socket files of one process; blocks, for some microseconds."""
    for suffix in ("bell", "direct"):
        try:
            os.unlink(sockets / f"{peer}.{suffix}")
        except FileNotFoundError:
            continue
