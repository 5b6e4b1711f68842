"""The gateway's face: an ASGI app that opens and closes what it stands on.

Alone it has a host of its own, opened with the app's lifespan, or at the first HTTP request where it
is mounted in an app that passes no lifespan on. `Gateway.of(host)` stands on a host that runs. In
both cases it takes part as the service "gateway". What becomes of an HTTP request is decided in
answering.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Self

from posthouse.errors import GatewayError, PosthouseError, UsageError
from posthouse.gateway.answering import SERVICE, Answering
from posthouse.gateway.responses import problem as problem_response
from posthouse.gateway.webhooks import verifier
from posthouse.runtime.host import Host
from posthouse.runtime.settings import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from posthouse.gateway.webhooks import Verifier
    from posthouse.runtime.settings import Settings

_log: Final = logging.getLogger("posthouse.gateway")


class Gateway:
    """The gateway as an ASGI app, to serve or to mount: `app.mount("/api", Gateway())`.

    Args:
        config: a file, or what would stand in it, instead of the `posthouse.toml` that is found.
    """

    def __init__(self, *, config: Path | Mapping[str, Any] | None = None) -> None:
        self._config = config
        self._host: Host | None = None
        self._own_host: Host | None = None
        self._answering: Answering | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Lock | None = None

    @classmethod
    def of(cls, host: Host) -> Self:
        """Return the gateway of a host that is open, and stays open for as long as this one."""
        gateway = cls()
        gateway._host = host
        return gateway

    async def open(self) -> None:
        """Take part; again is no error.

        Raises:
            ConfigError: the configuration or the place of the data cannot be used.
            UnavailableError: the engine cannot be reached.
            UsageError: it was opened in another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._opening = loop, asyncio.Lock()
        if self._loop is not loop or self._opening is None:
            raise UsageError(
                "the gateway was opened in another event loop", hint="Use one loop: `with TestClient(app):` in tests."
            )
        async with self._opening:
            if self._answering is None:
                self._answering = await self._opened()

    def release(self) -> None:
        """Let nobody wait any more: what is journaled is answered 202, the rest that its outcome is not known."""
        if self._answering is not None:
            self._answering.release()

    async def close(self) -> None:
        """Let go of everything that it opened; again is no error."""
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.close()
        own, self._own_host = self._own_host, None
        if own is not None:
            await own.close()
        self._loop = self._opening = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI asks."""
        answering = self._answering
        if scope["type"] == "http":
            if answering is None or asyncio.get_running_loop() is not self._loop:
                await self._open_first(scope, receive, send)
            else:
                await answering(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:  # a WebSocket
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": "the gateway speaks HTTP"})

    async def _opened(self) -> Answering:
        if self._host is not None:
            host = self._host
        else:
            settings = await asyncio.to_thread(load, self._config)
            host = self._own_host = Host(settings)
            try:
                await host.open()
            except BaseException:
                self._own_host = None
                raise
        try:
            verifiers = await asyncio.to_thread(_verifiers, host.settings)
            await host.join(SERVICE)
        except BaseException:
            await self.close()
            raise
        if host.settings.env == "prod":
            _log.warning(
                "this version authenticates nobody: whoever reaches the gateway may use every route that no signature"
                " protects; keep it behind something that asks who is there"
            )
        journal = host.journals.get(SERVICE)
        assert journal is not None  # noqa: S101 - it was opened when we joined
        return Answering(host, journal, verifiers)

    async def _open_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.open()
        except PosthouseError as error:
            _log.error("the gateway cannot be opened: %s", error)
            response = problem_response(error)
        else:
            if self._answering is not None:
                await self._answering(scope, receive, send)
                return
            response = problem_response(GatewayError("the gateway is closing"))
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                try:
                    await self.open()
                except PosthouseError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def problem(request: Request, error: Exception) -> Response:
    """An exception handler: any PosthouseError as problem+json, as the gateway would answer it.

    `app.add_exception_handler(PosthouseError, problem)`. The cause of a failed handler is shown in
    an app that runs with `debug=True`.
    """
    from starlette.responses import Response

    if not isinstance(error, PosthouseError):
        raise error
    ours = problem_response(error, shows_causes=bool(getattr(request.app, "debug", False)))
    response = Response(ours.body, ours.status)
    response.raw_headers = list(ours.headers)
    return response


def _verifiers(settings: Settings) -> dict[str, Verifier]:
    return {
        route: verifier(said.signature, route) for route, said in settings.routes.items() if said.signature is not None
    }
