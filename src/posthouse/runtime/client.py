"""The verbs outside a handler: each commits by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from posthouse.clock import seconds
from posthouse.errors import ExpiredError, NotBuiltError, UsageError
from posthouse.message.message import Kind, Message, Mode
from posthouse.message.names import service_of
from posthouse.runtime.outbound import Outbound, instant_of

if TYPE_CHECKING:
    from datetime import datetime

    from posthouse.clock import Duration, Instant, Seconds
    from posthouse.declare.operation import Event, Operation
    from posthouse.runtime.context import Priority
    from posthouse.runtime.parts import Parts

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")

DEFAULT_TIMEOUT: Final[Seconds] = 30.0


class Client:
    """Sends and asks in the name of a service; made by `connect`."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._name = name
        self._outbounds: dict[Any, Outbound] = {}
        self._transport = parts.transport
        self._directory = parts.directory
        self._caller = parts.caller
        self._clock = parts.seams.clock
        self._now = parts.seams.clock.now
        self._new_id = parts.seams.new_id

    async def call(
        self,
        op: Operation[_Req, _Rep],
        data: _Req,
        /,
        *,
        timeout: Duration | None = "30s",
        deadline: Duration | datetime | None = None,
        priority: Priority = "normal",
        id: str | None = None,
    ) -> _Rep:
        """Ask a service, and return its reply.

        Args:
            op: what to ask.
            data: of the operation's request type.
            timeout: how long to wait; None waits until the deadline, or for ever without one.
            deadline: after which it need not be done.
            priority: only "normal" in this version.
            id: only None in this version.

        Raises:
            Reject: the handler's own no, as the class that the contract lists.
            NotDoneError: it is decided that it is not done (FailedError, ExpiredError).
            NotStoredError: nothing was stored: nobody serves it, queue full, contract or transport at fault.
            OutcomeUnknownError: `timeout` ran out, or the instance died; it may have been done.
        """
        _only_what_is_built(priority=priority, id=id)
        when = instant_of(deadline, clock=self._clock)
        return await self.ask(op, data, timeout=None if timeout is None else length_of(timeout), deadline=when)

    async def send(
        self,
        op: Operation[_Req, Any],
        data: _Req,
        /,
        *,
        deadline: Duration | datetime | None = None,
        delay: Duration = 0,
        at: datetime | None = None,
        priority: Priority = "normal",
        id: str | None = None,
        within: object = None,
    ) -> str:
        """Store a request that nobody waits for, and return its id.

        Args:
            op: what to ask.
            data: of the operation's request type.
            deadline: after which it need not be done.
            delay: only 0 in this version.
            at: only None in this version.
            priority: only "normal" in this version.
            id: only None in this version.
            within: only None in this version.

        Raises:
            NotStoredError: it was not stored: queue full, contract or transport at fault.
        """
        if delay or at is not None or id is not None or within is not None or priority != "normal":
            _only_what_is_built(priority=priority, id=id, within=within, later=bool(delay) or at is not None)
        outbound = self._outbounds.get(op)
        if outbound is None or outbound.generation != self._directory.generation:
            outbound = await self.outbound(op)
        when = 0.0 if deadline is None else instant_of(deadline, clock=self._clock)
        message = self.request(outbound, data, deadline=when)
        if outbound.mode is Mode.VOLATILE:
            await self._caller.tell(message)
        else:
            await self._transport.send((outbound.outgoing(message),))
        return message.id

    async def publish(self, event: Event[_T], data: _T, /, *, id: str | None = None, within: object = None) -> None:
        """Tell every subscription of an event of this service.

        Args:
            event: what happened.
            data: of the event's type.
            id: only None in this version.
            within: only None in this version.

        Raises:
            UsageError: the event belongs to another service.
            NotStoredError: it was not stored: a subscription's queue is full, or the transport at fault.
        """
        _only_what_is_built(id=id, within=within)
        outbound, message = self.event(event, data)
        if outbound.mode is Mode.VOLATILE:
            await self._caller.tell(message)
        else:
            await self._transport.send((outbound.outgoing(message),))

    async def cancel(self, id: str, /, *, within: object = None) -> None:
        """Ask that a request sent earlier is not done; not in this version."""
        raise NotBuiltError("cancel() needs journaled delivery, which this version does not have")

    async def reply(self, op: Operation[Any, _Rep], id: str, /, *, timeout: Duration | None = "30s") -> _Rep:
        """Wait again for the reply to an earlier request; not in this version."""
        raise NotBuiltError("reply() needs journaled delivery: in queued mode a reply is kept nowhere")

    # --- for the contexts, which are clients that work for a delivery ---------------------------------

    async def ask(
        self, op: Operation[Any, Any], data: Any, *, timeout: Seconds | None, deadline: Instant, work: str = ""
    ) -> Any:
        """Ask, and return the reply; `call` with its arguments worked out."""
        outbound = self._outbounds.get(op)
        if outbound is None or outbound.generation != self._directory.generation:
            outbound = await self.outbound(op)
        encoded = outbound.encode(data)
        if deadline:
            left = deadline - self._now()
            if left <= 0:
                raise ExpiredError(f"the deadline passed before {outbound.name} was asked")
            timeout = left if timeout is None else min(timeout, left)
        ticket = await self._caller.ask(
            outbound.name,
            encoded,
            mode=outbound.mode,
            source=self._name,
            deadline=deadline,
            expires_in=timeout,
            work=work,
        )
        try:
            reply = await ticket.reply
        except BaseException:
            self._caller.forget(ticket)
            raise
        return outbound.result(reply)

    async def outbound(self, op: Operation[Any, Any]) -> Outbound:
        """Return what it takes to send to an operation, compared with what its service announced."""
        outbound = self.known(op)
        await outbound.check(self._directory)
        return outbound

    def known(self, op: Operation[Any, Any]) -> Outbound:
        """Return what it takes to send to an operation, not compared with the directory yet."""
        outbound = self._outbounds.get(op)
        if outbound is None:
            outbound = self._outbounds[op] = Outbound(op)
        return outbound

    def request(self, outbound: Outbound, data: Any, *, deadline: Instant, work: str = "") -> Message:
        """Return a request that nobody waits for."""
        return Message(
            Kind.REQUEST,
            self._new_id(),
            outbound.name,
            self._name,
            self._now(),
            outbound.encode(data),
            outbound.mode,
            "",
            deadline,
            work=work,
        )

    def event(self, event: Event[Any], data: Any, *, work: str = "") -> tuple[Outbound, Message]:
        """Return an event: what it takes to tell it, and its message.

        Raises:
            UsageError: the event belongs to another service.
        """
        outbound = self._outbounds.get(event)
        if outbound is None:
            if service_of(event.name) != self._name:
                raise UsageError(f"{event.name} is published by {service_of(event.name)!r}, not by {self._name!r}")
            outbound = self._outbounds[event] = Outbound(event)
        return outbound, Message(
            Kind.EVENT,
            self._new_id(),
            outbound.name,
            self._name,
            self._now(),
            outbound.encode(data),
            outbound.mode,
            work=work,
        )


def length_of(duration: Duration) -> Seconds:
    """Return how many seconds a duration lasts.

    Raises:
        UsageError: it is none.
    """
    if duration == "30s":  # the default: not parsed for every call
        return DEFAULT_TIMEOUT
    try:
        return seconds(duration)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _only_what_is_built(
    *, priority: str = "normal", id: str | None = None, within: object = None, later: bool = False
) -> None:
    if priority != "normal":
        raise NotBuiltError("this version has no priorities; leave `priority` out")
    if id is not None:
        raise NotBuiltError("id= promises that a message is sent once only, which needs journaled delivery")
    if within is not None:
        raise NotBuiltError("within= joins a transaction of yours, which needs journaled delivery")
    if later:
        raise NotBuiltError("this version cannot send later; leave `delay` and `at` out")
