"""Connections that end by themselves: uvicorn's, with a deadline and a limit for headers.

A client that opens a connection and says nothing, or says it one byte at a time, would hold it for
ever. One timer serves all connections; a connection whose headers come at once, as nearly all do,
pays for two entries in a dictionary.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from posthouse.errors import HttpError
from posthouse.gateway.patience import Patience
from posthouse.gateway.responses import problem

if TYPE_CHECKING:
    import asyncio

    from posthouse.clock import Seconds

HEADERS_WITHIN: Final[Seconds] = 10.0
"""How long the headers of an HTTP request may take to arrive, and a new connection to say anything."""

HEADERS_LIMIT: Final = 64 << 10
"""Bytes of unfinished headers at which a connection is closed; what is finished has the limits of the settings."""


def _unreadable() -> bytes:
    refused = problem(HttpError("what came is no HTTP request that can be read"), headers=[(b"connection", b"close")])
    lines = [b"%s: %s" % header for header in refused.headers]
    return b"\r\n".join([b"HTTP/1.1 400 Bad Request", *lines, b"", refused.body])


_UNREADABLE: Final = _unreadable()
"""The answer to bytes that are not HTTP: as all others, a problem with a code."""


def protocol_class() -> type[asyncio.Protocol]:
    """Return the protocol for this event loop's connections: httptools where it is installed, else h11."""
    parser = "httptools" if find_spec("httptools") is not None else "h11"
    name = {"httptools": "HttpToolsProtocol", "h11": "H11Protocol"}[parser]
    base: Any = getattr(import_module(f"uvicorn.protocols.http.{parser}_impl"), name)
    patience: Patience[Any] = Patience(HEADERS_WITHIN, _close)

    class Connection(base):
        """One connection."""

        _unfinished = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            base.connection_made(self, transport)
            patience.begin(self)

        def connection_lost(self, exc: Exception | None) -> None:
            patience.over(self)
            base.connection_lost(self, exc)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            base.data_received(self, data)
            if self.cycle is not before:  # the headers are there
                patience.over(self)
                self._unfinished = 0
            elif before is None or before.response_complete:
                if not self._unfinished:
                    patience.begin(self)
                self._unfinished += len(data)
                if self._unfinished > HEADERS_LIMIT:
                    self.transport.close()

        def send_400_response(self, _: str) -> None:
            self.transport.write(_UNREADABLE)
            self.transport.close()

    return Connection


def _close(connection: Any) -> None:
    connection.transport.close()
