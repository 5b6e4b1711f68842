"""One attempt of one delivery: the door behind its Context.

What the handler sends is kept here until it has ended well. While it waits for a reply it holds
no slot, so that services which call each other in a ring cannot block each other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from posthouse.errors import UsageError
from posthouse.message.message import Mode
from posthouse.runtime.client import DEFAULT_TIMEOUT, length_of
from posthouse.runtime.outbound import instant_of
from posthouse.runtime.steps.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from posthouse.clock import Duration
    from posthouse.contracts.store import Rows, Tail
    from posthouse.contracts.transport import Outgoing
    from posthouse.declare.operation import Event, Operation
    from posthouse.message.message import Message
    from posthouse.runtime.outbound import Outbound
    from posthouse.runtime.workplace import Turn, Workplace


_CHEAPER: Final = "{} is not journaled, and only journaled handlers have the store and its transactions"


class Attempt:
    """What one run of a handler asks and records.

    Attributes:
        kept: what it sent and published: the way out, and the message.
        tells: the journaled events that it published.
    """

    __slots__ = ("_message", "_over", "_place", "_turn", "kept", "tells")

    def __init__(self, place: Workplace, turn: Turn, message: Message) -> None:
        self._place = place
        self._turn = turn
        self._message = message
        self._over = False
        self.kept: list[tuple[Outbound, Message]] | None = None
        self.tells: list[Telling] | None = None

    async def call(
        self, op: Operation[Any, Any], data: Any, /, *, timeout: Duration | None, deadline: Duration | datetime | None
    ) -> Any:
        """Ask, and wait for the reply without holding a slot."""
        self._must_be_running("call")
        place = self._place
        when = instant_of(deadline, clock=place.parts.seams.clock, inherited=self._message.deadline)
        wait = length_of(timeout) if timeout is not None else None if when else DEFAULT_TIMEOUT
        place.pause(self._turn)
        try:
            result = await place.client.ask(op, data, timeout=wait, deadline=when, work=self._message.id)
        except asyncio.CancelledError:
            if not self._turn.is_ending:  # the handler's own time-out: it goes on, and needs a slot for that
                await place.resume(self._turn)
            raise
        except BaseException:
            await place.resume(self._turn)
            raise
        await place.resume(self._turn)
        return result

    def send(self, op: Operation[Any, Any], data: Any, /, *, deadline: Duration | datetime | None) -> str:
        """Record a request."""
        self._must_be_running("send")
        client = self._place.client
        outbound = client.known(op)
        when = 0.0 if deadline is None else instant_of(deadline, clock=self._place.parts.seams.clock)
        message = client.request(outbound, data, deadline=when, work=self._message.id)
        self._keep(outbound, message)
        return message.id

    def publish(self, event: Event[Any], data: Any, /) -> None:
        """Record an event."""
        self._must_be_running("publish")
        outbound, message = self._place.client.event(event, data, work=self._message.id)
        if outbound.mode is Mode.JOURNALED:
            self.tells = [*(self.tells or ()), Telling(message, event.retain)]
        else:
            self._keep(outbound, message)

    def run_in_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """From a handler's thread: run a coroutine in the loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._place.loop).result()

    async def leave(self) -> None:
        """Store and send what was kept; the handler has ended well.

        Raises:
            NotStoredError: something was not stored; the handler has not ended well after all.
        """
        if self.tells:
            await asyncio.gather(*map(self._place.client.tell, self.tells))
        if self.kept:
            await self._send(self.kept)

    async def _send(self, kept: Sequence[tuple[Outbound, Message]]) -> None:
        parts = self._place.parts
        stored: list[Outgoing] = []
        for outbound, message in kept:
            if outbound.generation != parts.directory.generation:
                await outbound.check(parts.directory)
            if outbound.mode is not Mode.VOLATILE:
                stored.append(outbound.outgoing(message))
        if stored:
            await parts.transport.send(stored)
        for outbound, message in kept:
            if outbound.mode is Mode.VOLATILE:
                await parts.caller.tell(message)

    @property
    def leaves(self) -> bool:
        """Whether `leave` has anything to do."""
        return self.kept is not None or self.tells is not None

    def close(self) -> None:
        """The handler has ended; its context does nothing any more."""
        self._over = True

    def abandon(self) -> None:
        """The handler was canceled: nothing of it is kept."""
        self._over = True

    async def cancel(self, id: str, /) -> None:
        """Ask that a request that was sent earlier is not done."""
        raise UsageError(f"ctx.cancel({id!r}): {_CHEAPER.format(self._message.type)}")

    async def transaction(self, kind: type[Any] | None, /) -> Tail:
        """Open the transaction that commits when the handler returns."""
        raise UsageError(f"ctx.transaction(): {_CHEAPER.format(self._message.type)}")

    def reading(self, kind: type[Any] | None, /) -> AbstractAsyncContextManager[Rows]:
        """Read the store."""
        raise UsageError(f"ctx.reading(): {_CHEAPER.format(self._message.type)}")

    def _keep(self, outbound: Outbound, message: Message) -> None:
        if self.kept is None:
            self.kept = []
        self.kept.append((outbound, message))

    def _must_be_running(self, verb: str) -> None:
        if self._over:
            raise UsageError(f"ctx.{verb}() after the handler has ended: what it would send belongs to nothing")
