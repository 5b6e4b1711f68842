"""Requests that wait for a reply.

`ask` puts a request on its way, by the direct path or into a queue, and returns a Ticket whose
future the reply fills. One Caller serves a whole process; replies find their ticket by the id of
the request. Time-outs share one timer: most replies come long before, and then cost nothing.

A reply that comes for no ticket (its caller has stopped waiting, or has died) is dropped: in these
modes it goes out once, to the instance that asked.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.contracts.transport import Outgoing
from posthouse.errors import FrameError, NotServedError, OutcomeUnknownError, PendingError, TooLargeError
from posthouse.flow.balance import least_of_two
from posthouse.message.codec import decode_many, encode
from posthouse.message.message import Kind, Message, Mode
from posthouse.message.names import service_of
from posthouse.runtime import unflushed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.clock import Instant, Seconds
    from posthouse.contracts.registry import Instance
    from posthouse.contracts.transport import Transport
    from posthouse.errors import PosthouseError
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.seams import Seams

_log: Final = logging.getLogger("posthouse.caller")

FRAME_LIMIT: Final = 8 << 20
"""The largest message, in bytes of data; what is larger belongs elsewhere, with a reference to it here."""

MOVES: Final = 3
"""Instances that may send a volatile request away before its caller is told."""

_NEVER: Final = float("inf")


class Ticket:
    """One request that waits for its reply.

    Attributes:
        id: of the request.
        reply: filled with the reply message, which may hold a refusal; or with the error that says
            why none can come.
    """

    __slots__ = ("expires", "frame", "id", "kept", "moves", "name", "peer", "reply")

    def __init__(self, id: str, name: str, reply: asyncio.Future[Message], expires: float) -> None:
        self.id = id
        self.name = name
        self.reply = reply
        self.expires = expires
        self.peer = ""
        self.frame = b""
        self.moves = 0
        self.kept = False  # journaled: the replier's store keeps the outcome


class Caller:
    """All requests of this process that wait."""

    def __init__(self, transport: Transport, directory: Directory, *, peer: str, seams: Seams) -> None:
        self._transport = transport
        self._direct = transport.direct
        self._directory = directory
        self._peer = peer
        self._seams = seams
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, Ticket] = {}
        self._also: dict[str, list[Ticket]] = {}  # who waits for the same id at the same time: one reply is for all
        self._outstanding: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next_expiry = _NEVER

    async def ask(
        self,
        name: str,
        data: bytes,
        *,
        mode: Mode,
        source: str,
        deadline: Instant = 0.0,
        expires_in: Seconds | None = None,
        work: str = "",
        content_type: str = "",
        id: str | None = None,
    ) -> Ticket:
        """Put a request on its way.

        Args:
            name: the operation; it was announced.
            data: of its request type, encoded.
            mode: that of its contract.
            source: the service that asks.
            deadline: after which it need not be done; 0 for none.
            expires_in: seconds until the ticket fails by itself; None leaves that to whoever waits.
            work: the delivery whose handler asks.
            content_type: of the data; empty for JSON.
            id: of the request; a new one without it.

        Raises:
            NotServedError: volatile, and no instance takes it.
            NotStoredError: queued, and the transport did not take it.
            OutcomeUnknownError: queued, and it was stored, but the disk could not be flushed.
            TooLargeError: the data is larger than a message may be.
        """
        if len(data) > FRAME_LIMIT:
            raise too_large(name, len(data))
        seams = self._seams
        expires = _NEVER if expires_in is None else self._loop.time() + expires_in
        ticket = Ticket(id or seams.new_id(), name, self._loop.create_future(), expires)
        ticket.kept = mode is Mode.JOURNALED
        message = Message(
            Kind.REQUEST,
            ticket.id,
            name,
            source,
            seams.clock.now(),
            data,
            mode,
            self._peer,
            deadline,
            content_type,
            work=work,
        )
        if ticket.id in self._waiting:
            self._also.setdefault(ticket.id, []).append(ticket)
        else:
            self._waiting[ticket.id] = ticket
        if expires < self._next_expiry:
            self._wake_at(expires)
        try:
            if mode is Mode.VOLATILE:
                service = service_of(name)
                instances = self._directory.instances(service)
                if not instances:
                    instances = await self._served(name, service)
                ticket.frame = encode(message)
                self._to_one_of(instances, ticket, ticket.frame)
            else:
                await unflushed.send(self._transport, Outgoing(name, encode(message)), message)
        except BaseException:
            self.forget(ticket)
            if ticket.reply.done():
                ticket.reply.exception()  # it has timed out meanwhile, which nobody waits to hear
            raise
        return ticket

    async def tell(self, message: Message) -> None:
        """Send a volatile request or event to those who are there; nothing is kept, and nobody waits.

        Raises:
            NotServedError: it is a request, and nobody takes it.
            UnknownServiceError: it is a request, and nobody ever announced it.
        """
        if message.kind is Kind.EVENT:
            for subscription in self._directory.subscriptions.get(message.type, ()):
                to = msgspec.structs.replace(message, extensions={"subscription": subscription.name})
                self._tell_one_of(self._directory.instances(service_of(subscription.name)), to)
            return
        service = service_of(message.type)
        self._tell_one_of(self._directory.instances(service) or await self._served(message.type, service), message)

    def forget(self, ticket: Ticket) -> None:
        """Wait no longer; a reply that comes still is dropped."""
        also = self._also.get(ticket.id)
        if self._waiting.get(ticket.id) is ticket:
            del self._waiting[ticket.id]
            if also:
                self._waiting[ticket.id] = also.pop(0)
            self._answered_by(ticket)
        elif also is not None and ticket in also:
            also.remove(ticket)
        if also == []:
            del self._also[ticket.id]

    def receive(self, reply: Message) -> None:
        """Give a reply to whoever waits for it."""
        ticket = self._waiting.pop(reply.id, None)
        if ticket is None:
            return
        if reply.refusal is not None and reply.refusal.code == NotServedError.code and self._goes_elsewhere(ticket):
            return
        self._answered_by(ticket)
        for each in (ticket, *self._also.pop(reply.id, ())):
            if not each.reply.done():
                each.reply.set_result(reply)

    def lost(self, peer: str, frames: list[bytes]) -> None:
        """A peer went away: what certainly did not reach it goes to another, the rest is unknown."""
        unsent = {m.id: f for m, f in zip(decode_many(frames), frames, strict=True) if not isinstance(m, FrameError)}
        for ticket in [ticket for ticket in self._waiting.values() if ticket.peer == peer]:
            self._answered_by(ticket)
            frame = unsent.get(ticket.id)
            others = [i for i in self._directory.instances(service_of(ticket.name)) if i.peer != peer]
            if frame is not None and others:
                self._to_one_of(others, ticket, frame)
                continue
            del self._waiting[ticket.id]
            if not ticket.reply.done():
                ticket.reply.set_exception(_unreachable(ticket) if frame is not None else _died(ticket))

    def close(self) -> None:
        """Fail what still waits, and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        for ticket in self._everybody():
            if not ticket.reply.done():
                ticket.reply.set_exception(
                    OutcomeUnknownError(f"this process stopped before {ticket.name} had answered", message_id=ticket.id)
                )
                ticket.reply.exception()  # whoever waited may be gone already; that is no accident
        self._waiting.clear()
        self._also.clear()

    def _everybody(self) -> list[Ticket]:
        return [*self._waiting.values(), *(ticket for also in self._also.values() for ticket in also)]

    def _goes_elsewhere(self, ticket: Ticket) -> bool:
        """Send a volatile request that an instance did not take, since it stops, to another one, if there is one."""
        others = [i for i in self._directory.instances(service_of(ticket.name)) if i.peer != ticket.peer]
        if not ticket.frame or not others or ticket.moves >= MOVES:
            return False
        ticket.moves += 1
        self._answered_by(ticket)
        self._waiting[ticket.id] = ticket
        self._directory.doubt()
        self._to_one_of(others, ticket, ticket.frame)
        return True

    async def _served(self, name: str, service: str) -> Sequence[Instance]:
        await self._directory.operation(name)
        instances = self._directory.instances(service)
        if not instances:
            raise not_served(name)
        return instances

    def _tell_one_of(self, instances: Sequence[Instance], message: Message) -> None:
        if instances:
            self._direct.send(self._seams.rng.choice(instances).peer, encode(message))

    def _to_one_of(self, instances: Sequence[Instance], ticket: Ticket, frame: bytes) -> None:
        outstanding = self._outstanding
        chosen = least_of_two(instances, load=lambda i: outstanding.get(i.peer, 0), rng=self._seams.rng)
        ticket.peer = chosen.peer
        outstanding[chosen.peer] = outstanding.get(chosen.peer, 0) + 1
        self._direct.send(chosen.peer, frame)

    def _answered_by(self, ticket: Ticket) -> None:
        if ticket.peer:
            left = self._outstanding[ticket.peer] - 1
            if left:
                self._outstanding[ticket.peer] = left
            else:
                del self._outstanding[ticket.peer]
            ticket.peer = ""

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_expiry = when
        self._timer = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        self._timer = None
        self._next_expiry = _NEVER
        for ticket in [ticket for ticket in self._everybody() if ticket.expires <= now]:
            self.forget(ticket)
            if not ticket.reply.done():
                ticket.reply.set_exception(_too_late(ticket))
        soonest = min((ticket.expires for ticket in self._everybody()), default=_NEVER)
        if soonest < _NEVER:
            self._wake_at(soonest)


def not_served(name: str) -> NotServedError:
    """Return the error for a volatile request that no instance can take."""
    return NotServedError(f"nobody serves {name} now, and it is volatile: the request was not kept")


def too_large(name: str, size: int) -> TooLargeError:
    """Return the error for data that no message takes."""
    return TooLargeError(f"the data for {name} has {size:,} bytes; a message takes {FRAME_LIMIT:,}")


def _unreachable(ticket: Ticket) -> NotServedError:
    error = not_served(ticket.name)
    error.message_id = ticket.id
    return error


def _too_late(ticket: Ticket) -> PosthouseError:
    if ticket.kept:
        return PendingError(f"{ticket.name} has not answered in time; the request is stored", id=ticket.id)
    return OutcomeUnknownError(
        f"{ticket.name} has not answered in time; it may have been done, or may be yet", message_id=ticket.id
    )


def _died(ticket: Ticket) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"the instance that had the request to {ticket.name} went away before it answered", message_id=ticket.id
    )
