"""From a queue to a handler: asks by credit, opens the frames, keeps what nobody can read out of the way.

The loop lives until it is canceled. A transport that is away is asked again, with backoff; a queue
that is gone (its file was wiped, say) is made again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from posthouse.contracts.transport import Rejected, Released
from posthouse.errors import FrameError, FrameVersionError, PosthouseError, QueueUnknownError
from posthouse.flow.backoff import full_jitter
from posthouse.flow.credit import Credit
from posthouse.message.codec import decode_many
from posthouse.runtime.workplace import Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from posthouse.clock import Seconds
    from posthouse.contracts.transport import Delivery
    from posthouse.runtime.parts import Parts
    from posthouse.runtime.runner import Runner

_log: Final = logging.getLogger("posthouse.receiver")

PATIENCE: Final[Seconds] = 60.0
"""How long one question to the transport may wait for a message; then it is asked anew."""

FOR_A_NEWER_ONE: Final[Seconds] = 60.0
"""How long a frame of an unknown version is put off, so that a newer receiver finds it."""


class Receiver:
    """Brings the messages of one queue to its runner."""

    def __init__(self, runner: Runner, *, parts: Parts, make_again: Callable[[], Awaitable[None]]) -> None:
        self._runner = runner
        self._transport = parts.transport
        self._settler = parts.settler
        self._rng = parts.seams.rng
        self._make_queue_again = make_again
        self._room = asyncio.Event()
        runner.on_low = self._room.set

    async def receive_all(self) -> None:
        """Receive until canceled."""
        failures = 0
        runner = self._runner
        loop = asyncio.get_running_loop()
        # A batch is at work while the next one fills.
        credit = Credit(max(runner.slots.limit, 2 * runner.batch if runner.batch > 1 else 1), measured_at=loop.time())
        while True:
            credit.done += runner.done
            runner.done = 0
            wanted = credit.ask(held=runner.pressing, now=loop.time())
            if not wanted:
                runner.low_water = credit.low_water
                self._room.clear()
                await self._room.wait()
                continue
            try:
                deliveries = await self._transport.receive(runner.name, credit=wanted, wait=PATIENCE)
                failures = 0
            except Exception as error:
                failures += 1
                hold_off = full_jitter(failures, base=0.1, cap=5.0, rng=self._rng)
                _log.warning("%s cannot be received from, again in %.1f s: %s", runner.name, hold_off, error)
                if not isinstance(error, PosthouseError):  # a slip in a backend; nobody else would hear of it
                    _log.error("receiving failed in a way that it should not", exc_info=error)
                await asyncio.sleep(hold_off)
                if isinstance(error, QueueUnknownError):
                    await self._make_again()
                continue
            if deliveries:
                runner.take(self._open(deliveries))

    def _open(self, deliveries: list[Delivery]) -> list[Work]:
        works: list[Work] = []
        messages = decode_many([delivery.frame for delivery in deliveries])
        for delivery, message in zip(deliveries, messages, strict=True):
            if isinstance(message, FrameError):
                self._put_aside(delivery, message)
            else:
                works.append(Work(message, delivery))
        return works

    def _put_aside(self, delivery: Delivery, error: FrameError) -> None:
        if isinstance(error, FrameVersionError):
            outcome = Released(after=FOR_A_NEWER_ONE, failed=False, untouched=True)
        else:
            outcome = Rejected("parked", error.code, str(error))
        _log.error("%s: %s", delivery.queue, error)
        self._settler.add(delivery, outcome)

    async def _make_again(self) -> None:
        try:
            await self._make_queue_again()
        except PosthouseError as error:
            _log.warning("%s cannot be made again yet: %s", self._runner.name, error)
