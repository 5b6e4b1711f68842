"""The direct path between two processes: frames over a Unix stream socket, kept nowhere.

Each process has one server socket, named after it. A connection begins with a frame that names who
connects, and carries frames in both directions from then on; so a caller's connection brings the
replies back. A frame is its length in 4 bytes, big-endian, and its bytes. Only processes of the same
user are let in (SO_PEERCRED): the mode of the directory says the same, and is checked when it is made.

The first frame of a turn of the loop leaves at once, for one caller's sake (a fifth less time for a call,
measured); all others of the turn leave in one write at its end, for the sake of many.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, cast, final

from posthouse.backends.sqlite.identity import identity, stands
from posthouse.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from posthouse.backends.sqlite.identity import Identity

LARGEST_FRAME: Final = 16 << 20
"""Bytes; a larger one closes the connection, since its length is likely no length at all."""

MOST_WAITING: Final = 64 << 20
"""Bytes that may wait for one peer; when it does not read them, it is given up as lost."""

_HIGH_WATER: Final = 1 << 20
"""Bytes that we let asyncio hold; what waits beyond that, we hold, and can tell that it was not delivered."""

_HEADER: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
_NOWHERE: Final = (-1, -1)


@final
class _Link(asyncio.Protocol):
    """One connection, and what waits for it.

    Args:
        direct: the path that it belongs to.
        peer: whom we connect to; empty until an incoming one has told.
    """

    __slots__ = ("_direct", "_paused", "_rest", "_scheduled", "_size", "_transport", "_waiting", "peer")

    def __init__(self, direct: SqliteDirect, peer: str = "") -> None:
        self._direct = direct
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._rest = b""
        self._paused = False
        self._scheduled = False
        self.peer = peer

    def send(self, frame: bytes) -> None:
        """Write a frame now, at the end of this turn of the loop, or as soon as there is a connection."""
        if self._scheduled or self._transport is None or self._paused:
            self._waiting.append(frame)
            self._size += len(frame)
            if self._size > MOST_WAITING:
                self.abort()
            return
        self._transport.write(_HEADER.pack(len(frame)) + frame)
        self._scheduled = True
        self._direct.loop.call_soon(self._write)

    def abort(self) -> None:
        """Give the peer up."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._direct.gone(self, self.unsent())

    def close(self) -> None:
        """Close in order: what was written still goes out."""
        self._write()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self._direct.links.discard(self)

    def unsent(self) -> list[bytes]:
        """Return the frames that were not handed to the kernel, and forget them."""
        frames, self._waiting, self._size = self._waiting, [], 0
        return frames

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are, or see who they are."""
        transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio's
        if _user_of(transport.get_extra_info("socket")) != self._direct.user:
            transport.abort()
            if self.peer:
                self._direct.gone(self, self.unsent())
            return
        transport.set_write_buffer_limits(_HIGH_WATER)
        self._transport = transport
        self._direct.links.add(self)
        if self.peer:
            name = self._direct.peer.encode()
            transport.write(_HEADER.pack(len(name)) + name)
            self._write()

    def data_received(self, data: bytes) -> None:
        """Hand over the frames that are whole."""
        if self._rest:
            data = self._rest + data
        frames: list[bytes] = []
        position = 0
        end = len(data)
        while end - position >= 4:
            (size,) = _HEADER.unpack_from(data, position)
            if size > LARGEST_FRAME:
                self.abort()
                return
            following = position + 4 + size
            if following > end:
                break
            frames.append(data[position + 4 : following])
            position = following
        self._rest = data[position:] if position else data
        if frames and not self.peer:
            self.peer = frames.pop(0).decode(errors="replace")
            self._direct.known(self)
        if frames:
            self._direct.arrived(self.peer, frames)

    def pause_writing(self) -> None:
        """Hold the frames here: the peer does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """Write again."""
        self._paused = False
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the peer is gone."""
        del exc
        if self._transport is not None:
            self._transport = None
            self._direct.gone(self, self.unsent())

    def _write(self) -> None:
        self._scheduled = False
        if self._transport is None or self._paused or not self._waiting:
            return
        pack = _HEADER.pack
        parts: list[bytes] = []
        for frame in self.unsent():
            parts.append(pack(len(frame)))
            parts.append(frame)
        self._transport.write(b"".join(parts))


@final
class SqliteDirect:
    """The direct path of one process; see contracts.transport.Direct.

    Args:
        peer: where this process is reached.
        broken: called with a peer whose connection broke, before `lost` is.
        user: who is let in; the user of this process without it.
    """

    __slots__ = (
        "_broken", "_connecting", "_early", "_loopback", "_lost", "_place", "_receive", "_routes", "_server",
        "_sockets", "links", "loop", "peer", "user",
    )  # fmt: skip

    def __init__(self, peer: str, *, broken: Callable[[str], None], user: int | None = None) -> None:
        self.peer = peer
        self.user = os.geteuid() if user is None else user
        self.loop: asyncio.AbstractEventLoop
        self.links: set[_Link] = set()
        self._broken = broken
        self._receive: Callable[[str, list[bytes]], None] | None = None
        self._lost: Callable[[str, list[bytes]], None] | None = None
        self._routes: dict[str, _Link] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._loopback: list[bytes] = []
        self._early: list[tuple[str, list[bytes]]] = []  # what arrived before `listen`
        self._server: asyncio.Server | None = None
        self._place: Identity | None = None  # of our socket; None while another one is being made
        self._sockets: Path | None = None

    async def open(self, sockets: Path) -> None:
        """Be reachable, by a socket in this directory.

        Raises:
            StorageError: the socket cannot be made.
        """
        self.loop = asyncio.get_running_loop()
        self._sockets = sockets
        await self._serve()

    async def _serve(self) -> None:
        path = self._path(self.peer)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.setblocking(False)
        try:
            server.bind(path)
            self._place = identity(path)
        except OSError as error:
            server.close()
            raise StorageError(
                f"the socket {path} cannot be made: {error.strerror}",
                hint="Two processes must not use the same peer id; otherwise see the rights of that directory.",
            ) from error
        self._server = await self.loop.create_unix_server(lambda: _Link(self), sock=server, backlog=512)

    def rehang(self) -> None:
        """Be reachable again if somebody has removed our socket; who is connected stays so."""
        if self._server is None or self._place is None or stands(self._path(self.peer), self._place):
            return
        self._place = None  # this goes on until there is one
        task = self.loop.create_task(self._serve_again(self._server))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _serve_again(self, before: asyncio.Server) -> None:
        try:
            await self._serve()
        except StorageError:
            self._place = _NOWHERE  # its directory is gone too; the next look tries again
        else:
            before.close()

    async def close(self) -> None:
        """Close all connections; what was handed to the kernel still arrives."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._sockets = None
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        self._receive = self._lost = None
        for link in list(self.links):
            link.close()
        self._routes.clear()

    def listen(self, receive: Callable[[str, list[bytes]], None], lost: Callable[[str, list[bytes]], None]) -> None:
        """Say who takes what arrives."""
        self._receive = receive
        self._lost = lost
        early, self._early = self._early, []
        for peer, frames in early:
            receive(peer, frames)

    def send(self, peer: str, frame: bytes) -> None:
        """Write a frame to a peer, together with all others of this turn of the loop."""
        link = self._routes.get(peer)
        if len(frame) > LARGEST_FRAME:  # the other side would close the connection at it
            self.loop.call_soon(self._tell_lost, peer, [frame])
        elif link is not None:
            link.send(frame)
        elif peer == self.peer:
            if not self._loopback:
                self.loop.call_soon(self._loop_back)
            self._loopback.append(frame)
        else:
            self._routes[peer] = link = _Link(self, peer)
            link.send(frame)
            task = self.loop.create_task(self._connect(link))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def known(self, link: _Link) -> None:
        """Use a connection that came from a peer for what goes to it, unless there is one already."""
        self._routes.setdefault(link.peer, link)

    def arrived(self, peer: str, frames: list[bytes]) -> None:
        """Hand over frames."""
        if self._receive is None:
            self._early.append((peer, frames))
        else:
            self._receive(peer, frames)

    def gone(self, link: _Link, unsent: list[bytes]) -> None:
        """Tell of a connection that ended, or never was."""
        self.links.discard(link)
        if self._routes.get(link.peer) is not link:
            return
        del self._routes[link.peer]
        self._broken(link.peer)
        self._tell_lost(link.peer, unsent)

    def _tell_lost(self, peer: str, frames: list[bytes]) -> None:
        if self._lost is not None:
            self._lost(peer, frames)

    async def _connect(self, link: _Link) -> None:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.setblocking(False)
        try:
            # a local connect is done or refused at once; BlockingIOError is a full backlog
            stream.connect(self._path(link.peer))
            await self.loop.create_connection(lambda: link, sock=stream)
        except OSError:
            stream.close()
            self.gone(link, link.unsent())
        except asyncio.CancelledError:
            stream.close()
            raise

    def _path(self, peer: str) -> str:
        return f"{self._sockets}/{peer}.direct"

    def _loop_back(self) -> None:
        frames, self._loopback = self._loopback, []
        self.arrived(self.peer, frames)


def _user_of(connected: socket.socket) -> int:
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return user
