"""The gateway's own pages: whether it lives, whether it can work, and which routes it has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from posthouse.errors import PosthouseError, UnavailableError
from posthouse.gateway.responses import json_response
from posthouse.message.names import service_of

if TYPE_CHECKING:
    from posthouse.clock import Instant, Seconds
    from posthouse.gateway.responses import Response
    from posthouse.gateway.routes import Table
    from posthouse.runtime.host import Host

READY_WITHIN: Final[Seconds] = 2.0
"""How long the engine may take to answer before the gateway is not ready."""

ASKED_EACH: Final[Seconds] = 1.0
"""How long one answer of the engine is good for: whoever asks more often asks the gateway alone."""


class Pages:
    """The pages.

    Attributes:
        paths: where they are.
    """

    paths: Final = frozenset({"/", "/livez", "/readyz"})

    def __init__(self, host: Host) -> None:
        self._host = host
        self._asked: Instant = -ASKED_EACH
        self._trouble: UnavailableError | None = None

    async def page(self, path: str, table: Table) -> Response:
        """Return a page.

        Raises:
            UnavailableError: it says why the gateway is not ready.
        """
        match path:
            case "/livez":
                return json_response(200, {"alive": True})
            case "/readyz":
                await self._ask_engine()
                return json_response(200, {"ready": True, "routes": len(table.routes)})
            case _:
                return json_response(200, self._index(table))

    async def _ask_engine(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._asked >= ASKED_EACH:
            self._asked = now
            self._trouble = await self._look()
        if self._trouble is not None:
            raise self._trouble

    async def _look(self) -> UnavailableError | None:
        try:
            async with asyncio.timeout(READY_WITHIN):
                await self._host.transport.bindings()
                await self._host.registry.instances()
        except TimeoutError:
            return UnavailableError(f"the engine did not answer within {READY_WITHIN:g} s")
        except PosthouseError as error:
            return UnavailableError(f"the engine cannot be used: {error}")
        return None

    def _index(self, table: Table) -> dict[str, Any]:
        directory = self._host.directory
        return {
            "routes": [
                {
                    "route": route.name,
                    "operation": route.record.name,
                    "mode": route.record.mode.name.lower(),
                    "instances": len(directory.instances(service_of(route.record.name))),
                }
                for route in sorted(table.routes, key=lambda route: (route.path, route.method))
            ],
            "conflicts": [conflict._asdict() for conflict in table.conflicts],
        }
