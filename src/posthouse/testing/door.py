"""An HTTP client whose requests go to a gateway in the same process, without a socket.

It is what `Harness.http` gives: httpx2's client, with the harness told of each request, so that it can
let time pass for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from httpx2 import ASGITransport, AsyncBaseTransport, AsyncClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from httpx2 import Request, Response

    from posthouse.gateway import Gateway

    Door: TypeAlias = Callable[[], Awaitable[tuple[Gateway, Callable[[asyncio.Task[Any]], Awaitable[object]]]]]
    """Opens the gateway, if it is not open; returns it, and what sees a task through."""

BASE_URL: Final = "http://localhost"


def client_of(door: Door) -> AsyncClient:
    """Return a client for what is behind a door, which is opened for the first HTTP request."""
    return AsyncClient(transport=_Memory(door), base_url=BASE_URL)


class _Memory(AsyncBaseTransport):
    """Carries HTTP requests to an ASGI app by a call."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def handle_async_request(self, request: Request) -> Response:
        app, see_through = await self._door()
        asking = asyncio.create_task(
            ASGITransport(app=app).handle_async_request(request), name=f"test asks {request.url}"
        )
        try:
            await see_through(asking)
            return await asking
        finally:
            asking.cancel()
            await asyncio.wait([asking])
