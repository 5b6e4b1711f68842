"""The gateway as a task of the process that serves: opened, and closed before the services drain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from posthouse.runtime.host import Host


class Door:
    """A gateway that listens."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    @classmethod
    async def open(cls, host: Host, bind: str) -> Self:
        """Listen on `bind`, and return once it does.

        Raises:
            AddressInUseError: another program listens there.
        """
        from posthouse.gateway.server import serve

        return cls(asyncio.create_task(serve(host, bind), name="posthouse gateway"))

    async def close(self) -> None:
        """Take no more HTTP requests, and finish those that are held."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
