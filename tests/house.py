"""Hosts on a broker in memory, for tests of the runtime: open them, look into them, and all are closed."""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from posthouse.message.codec import decode
from posthouse.runtime.host import Host
from posthouse.runtime.seams import seeded_seams
from posthouse.runtime.settings import Settings
from posthouse.testing.loop import LoopClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.contracts.transport import DeadLetter, QueueInfo
    from posthouse.declare.service import Service
    from posthouse.message.message import Message
    from posthouse.runtime.client import Client

_numbers: Final = itertools.count(1)

LONG: Final = 10_000.0
"""More seconds than any test here takes; virtual ones, mostly."""

PATIENT: Final = 1000.0
"""More seconds than anything here is waited for."""


class House:
    """Some hosts that share a broker.

    Attributes:
        hosts: those that were opened, in order.
    """

    def __init__(self, *, seed: int = 1, transport: str = "") -> None:
        self.hosts: list[Host] = []
        self._seed = seed
        self._transport = transport or f"memory:house-{next(_numbers)}"
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> House:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def host(self, *, wrap: Callable[[Any], Any] | None = None, **settings: Any) -> Host:
        """Make a host; who opens it is the caller's affair."""
        said: dict[str, Any] = {"env": "test", "transport": self._transport, **settings}
        config = Settings(**said)
        seams = seeded_seams(self._seed + 100 * len(self.hosts), clock=LoopClock())
        host = Host(config, seams=seams)
        if wrap is not None:
            host.transport = wrap(host.transport)
        self.hosts.append(host)
        return host

    async def open(self, **how: Any) -> Host:
        """Open a host that serves nothing yet."""
        return await self._stack.enter_async_context(self.host(**how))

    async def serve(self, *services: Service, **how: Any) -> Host:
        """Open a host, and serve."""
        host = await self.open(**how)
        await host.serve(*services)
        return host

    async def client(self, name: str = "shop") -> Client:
        """Open a host of its own for a client."""
        return (await self.open()).client(name)

    async def dead(self, queue: str = "") -> list[DeadLetter]:
        """Return the dead letters."""
        return await self.hosts[0].transport.dead(queue=queue)

    async def queue(self, name: str) -> QueueInfo:
        """Return what a queue holds."""
        return next(info for info in await self.hosts[0].transport.queues() if info.spec.name == name)

    async def bury(self, count: int, queue: str = "") -> list[DeadLetter]:
        """Wait until there are so many dead letters."""
        await until(lambda: self.dead(queue), lambda letters: len(letters) >= count)
        return await self.dead(queue)

    async def settled(self, name: str) -> None:
        """Wait until a queue holds nothing any more."""
        await until(lambda: self.queue(name), lambda info: info.stored == 0)


async def until(ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    """Ask again and again, until the answer is good; for what no event tells. Virtual time, else a bounded wait."""
    async with asyncio.timeout(PATIENT):
        while not good(answer := await ask()):
            await asyncio.sleep(0.01)
        return answer


def message_of(letter: DeadLetter) -> Message:
    """Return the message of a dead letter."""
    return decode(letter.frame)


class Errors(logging.Handler):
    """Collects what is logged as an error, so that a test sees what nobody raised."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(record.getMessage())
