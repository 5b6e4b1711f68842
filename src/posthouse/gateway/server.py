"""Listens: uvicorn in the loop that runs already, with its hands off the signals.

uvicorn has no deadline for the headers of an HTTP request, and its quicker parser no limit for them;
connections.py adds both. What is asked for and how it is answered is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
from typing import TYPE_CHECKING, Any, Final, Self

import uvicorn

from posthouse.errors import AddressInUseError, ConfigError
from posthouse.gateway.app import Gateway
from posthouse.gateway.connections import protocol_class

if TYPE_CHECKING:
    from collections.abc import Generator

    from posthouse.clock import Seconds
    from posthouse.runtime.host import Host

_log: Final = logging.getLogger("posthouse.gateway")

KEEP_ALIVE: Final = 60
"""Seconds for which an idle connection is kept."""

_LAST_ANSWERS: Final[Seconds] = 1.0
"""How long HTTP requests that are answered at the end of the grace have for that."""

_TICK: Final[Seconds] = 1.0
"""How often the Date header changes."""

_HINT: Final = 'Write it as "HOST:PORT", as in "127.0.0.1:8080" or "[::1]:8080".'


async def serve(host: Host, bind: str) -> None:
    """Serve the gateway of a host until canceled; then finish the HTTP requests that are held.

    Args:
        host: is open, and stays open.
        bind: "HOST:PORT"; port 0 takes a free one.

    Raises:
        AddressInUseError: another program listens there.
        ConfigError: nothing can listen there.
    """
    listener = await Listener.open(host, bind)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await listener.close()


class Listener:
    """A gateway that listens.

    Attributes:
        address: where, as "HOST:PORT", with the port that was taken.
    """

    def __init__(self, gateway: Gateway, server: _Server, listening: socket.socket, *, grace: Seconds) -> None:
        self._gateway = gateway
        self._server = server
        self._grace = grace
        self._socket = listening
        self._ticking: asyncio.Task[None] | None = None
        self.address = _shown(listening)

    @classmethod
    async def open(cls, host: Host, bind: str) -> Self:
        """Listen, and return once HTTP requests are answered.

        Args:
            host: is open, and stays open until this is closed.
            bind: "HOST:PORT"; port 0 takes a free one.

        Raises:
            AddressInUseError: another program listens there.
            ConfigError: nothing can listen there.
            UnavailableError: the engine cannot be reached.
        """
        listening = await _bound(bind)
        gateway = Gateway.of(host)
        try:
            await gateway.open()
            grace = host.settings.grace
            server = _Server(_config(gateway, grace=grace + _LAST_ANSWERS))
            listener = cls(gateway, server, listening, grace=grace)
            await server.begin(listening)
        except BaseException:
            listening.close()
            await gateway.close()
            raise
        listener._ticking = host.seams.spawn(server.main_loop(), "posthouse gateway")
        return listener

    async def close(self) -> None:
        """Take no more HTTP requests, and finish those that are held.

        Those that still wait when the grace of the settings is over, or this is canceled, wait no longer: what is
        journaled is answered 202, and can be asked for at the next gateway.
        """
        self._server.end()
        ticking, self._ticking = self._ticking, None
        if ticking is not None:
            await self._finish(ticking)
        await self._gateway.close()

    async def _finish(self, ticking: asyncio.Task[None]) -> None:
        release = asyncio.get_running_loop().call_later(self._grace, self._gateway.release)
        try:
            await ticking
            await self._server.shutdown(sockets=[self._socket])
        except asyncio.CancelledError:
            self._gateway.release()
            if tasks := self._server.server_state.tasks:
                await asyncio.wait(tasks, timeout=_LAST_ANSWERS)
            raise
        finally:
            release.cancel()


class _Server(uvicorn.Server):
    """uvicorn's server, begun and ended by us."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    async def begin(self, listening: socket.socket) -> None:
        """Listen."""
        if not self.config.loaded:
            self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)
        await self.startup(sockets=[listening])

    def end(self) -> None:
        """Let `main_loop` return."""
        self._ending.set()

    async def main_loop(self) -> None:
        """Keep the Date header right, until the end is asked for; uvicorn's own looks ten times a second."""
        while not self._ending.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the program."""
        yield


def _config(gateway: Gateway, *, grace: Seconds) -> uvicorn.Config:
    return uvicorn.Config(
        gateway,
        http=protocol_class(),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # it warns of each HTTP request that cannot be read: whoever sends them would fill the log
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(grace),
    )


async def _bound(bind: str) -> socket.socket:
    name, colon, port = bind.rpartition(":")
    name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if not colon or not name or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"{bind!r} is not an address to listen on", hint=_HINT)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            name, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{name!r} of {bind!r} is not the name of this machine: {error}", hint=_HINT) from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_backlog())
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(f"another program listens on {bind}") from error
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise ConfigError(f"nobody but root may listen on {bind}", hint="Choose a port of 1024 or more.") from error
        raise ConfigError(f"nothing can listen on {bind}: {error.strerror}", hint=_HINT) from error
    return listening


def _backlog() -> int:
    return min(socket.SOMAXCONN, 2048)


def _shown(listening: socket.socket) -> str:
    address: Any = listening.getsockname()
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
