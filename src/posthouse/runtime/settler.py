"""Tells the transport what became of deliveries, all of one turn of the loop together.

A transport that is away is told later: the outcomes are kept, and the leases renewed by whoever
holds the deliveries. What is lost all the same is delivered again, as its mode promises.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from posthouse.errors import PosthouseError
from posthouse.flow.backoff import full_jitter

if TYPE_CHECKING:
    from posthouse.contracts.transport import Delivery, Outcome, Transport
    from posthouse.runtime.seams import Seams

_log: Final = logging.getLogger("posthouse.settler")

AT_ONCE: Final = 4096
"""The most outcomes of one write."""


class Settler:
    """The outcomes of this process, on their way to the transport."""

    def __init__(self, transport: Transport, *, seams: Seams) -> None:
        self._transport = transport
        self._seams = seams
        self._outcomes: list[tuple[Delivery, Outcome]] = []
        self._some = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin."""
        self._task = self._seams.spawn(self._settle_all(), "posthouse settler")

    async def close(self) -> None:
        """Stop; `drained` comes first where outcomes must not be given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def add(self, delivery: Delivery, outcome: Outcome) -> None:
        """Tell the transport soon; never waits."""
        self._outcomes.append((delivery, outcome))
        if not self._some.is_set():
            self._idle.clear()
            self._some.set()

    async def drained(self) -> None:
        """Wait until the transport knows everything."""
        await self._idle.wait()

    @property
    def held(self) -> list[Delivery]:
        """The deliveries whose outcome the transport does not know yet; their leases must not run out."""
        return [delivery for delivery, _outcome in self._outcomes]

    async def _settle_all(self) -> None:
        failures = 0
        while True:
            await self._some.wait()
            batch = self._outcomes[:AT_ONCE]
            self._some.clear()
            try:
                lost = await self._transport.settle(batch)
            except Exception as error:
                failures += 1
                hold_off = full_jitter(failures, base=0.1, cap=5.0, rng=self._seams.rng)
                _log.warning("%d outcomes are kept, since the transport cannot be told: %s", len(batch), error)
                if not isinstance(error, PosthouseError):  # a slip in a backend; nobody else would hear of it
                    _log.error("settling failed in a way that it should not", exc_info=error)
                await asyncio.sleep(hold_off)
                self._some.set()
                continue
            failures = 0
            del self._outcomes[: len(batch)]
            if lost:
                _log.warning("%d deliveries had lost their lease before they were settled; they come again", len(lost))
            if self._outcomes:
                self._some.set()
            elif not self._some.is_set():
                self._idle.set()
