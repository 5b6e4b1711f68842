"""The verbs outside a handler: each commits by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from posthouse.clock import seconds
from posthouse.contracts.flushing import NotFlushedError
from posthouse.errors import CallUnknownError, ExpiredError, NotBuiltError, OutcomeUnknownError, UsageError
from posthouse.message.message import Kind, Message, Mode
from posthouse.message.names import service_of
from posthouse.protocol.outbox import CallState, Wants
from posthouse.runtime import unflushed
from posthouse.runtime.outbound import Outbound, instant_of
from posthouse.runtime.steps.asking import Asked
from posthouse.runtime.steps.telling import Telling
from posthouse.runtime.steps.wire import digest_of, outcome_of

if TYPE_CHECKING:
    from datetime import datetime

    from posthouse.clock import Duration, Instant, Seconds
    from posthouse.declare.operation import Event, Operation
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.context import Priority
    from posthouse.runtime.parts import JournalOfCaller, Parts

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")

DEFAULT_TIMEOUT: Final[Seconds] = 30.0

ID_LIMIT: Final = 128
"""The longest id of an application's own, in characters."""

_UNHEARD: Final = Wants.NOBODY
_HEARD: Final = Wants.REPLY_HANDLER
_WAITED: Final = Wants.CALLER


class Client:
    """Sends and asks in the name of a service; made by `connect`."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._name = name
        self._journals = parts.journals
        self._journal: JournalOfCaller | None = None
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
            id: of the request, if it is to be made once only, however often this is called with it.

        Raises:
            Reject: the handler's own no, as the class that the contract lists.
            NotDoneError: it is decided that it is not done (FailedError, ExpiredError, CallCanceledError).
            NotStoredError: nothing was stored: nobody serves it, queue full, contract or transport at fault.
            PendingError: journaled, and `timeout` ran out; the request lives on, `reply` waits again.
            OutcomeUnknownError: not journaled, and `timeout` ran out or the instance died; it may have been done.
        """
        if priority != "normal":
            _only_what_is_built(priority=priority)
        when = 0.0 if deadline is None else instant_of(deadline, clock=self._clock)
        wait = None if timeout is None else length_of(timeout)
        return await self.ask(op, data, timeout=wait, deadline=when, id=id)

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
            id: of the request, if it is to be made once only, however often this is called with it.
            within: only None in this version.

        Raises:
            NotStoredError: it was not stored: queue full, contract or transport at fault.
            OutcomeUnknownError: it was stored, and the disk could not be flushed.
        """
        if delay or at is not None or within is not None or priority != "normal":
            _only_what_is_built(priority=priority, within=within, later=bool(delay) or at is not None)
        outbound = self._outbounds.get(op)
        if outbound is None or outbound.generation != self._directory.generation:
            outbound = await self.outbound(op)
        when = 0.0 if deadline is None else instant_of(deadline, clock=self._clock)
        if outbound.mode is Mode.JOURNALED:
            journal = self._journal or await self._need()
            if journal is not None:
                hears = outbound.name in journal.here.reply_handlers
                asked = self._asked(outbound, data, deadline=when, id=id, wants=_HEARD if hears else _UNHEARD)
                await journal.asks.ask(asked, for_reply=False).done
                return asked.id
            return await self._deposit(outbound, data, deadline=when, id=id)
        if id is not None:
            raise _no_id(outbound)
        message = self.request(outbound, data, deadline=when)
        if outbound.mode is Mode.VOLATILE:
            await self._caller.tell(message)
        else:
            await unflushed.send(self._transport, outbound.outgoing(message), message)
        return message.id

    async def publish(self, event: Event[_T], data: _T, /, *, id: str | None = None, within: object = None) -> None:
        """Tell every subscription of an event of this service.

        Args:
            event: what happened.
            data: of the event's type.
            id: of the event, if it is to be told once only, however often this is called with it.
            within: only None in this version.

        Raises:
            UsageError: the event belongs to another service; or `id` of one that is not journaled.
            IdReusedError: `id` stands for another event already.
            NotStoredError: it was not stored: a subscription's queue is full, or the store or transport at fault.
            OutcomeUnknownError: it was stored, and the disk could not be flushed.
        """
        _only_what_is_built(within=within)
        outbound, message = self.event(event, data, id=id)
        if outbound.mode is Mode.JOURNALED:
            try:
                await self.tell(Telling(message, event.retain, once=id is not None))
            except NotFlushedError as error:
                raise unflushed.unsure(message, error) from error
            return
        if id is not None:
            raise _no_id(outbound)
        if outbound.mode is Mode.VOLATILE:
            await self._caller.tell(message)
        else:
            await unflushed.send(self._transport, outbound.outgoing(message), message)

    async def cancel(self, id: str, /, *, within: object = None) -> None:
        """Ask that a request sent earlier is not done: the replier decides, and its answer is the outcome.

        One that runs already, or is decided, ends as it ends.

        Args:
            id: of the request.
            within: only None in this version.

        Raises:
            CallUnknownError: this service has sent no such request, or it was settled long ago.
            UsageError: this caller has no store that would know its requests.
        """
        _only_what_is_built(within=within)
        journal = self._journal or await self._need()
        if journal is None:
            raise _no_store("cancel()")
        if not await journal.cancel(id):
            raise CallUnknownError(f"{self._name} has sent no request {id!r}", message_id=id)

    async def reply(self, op: Operation[Any, _Rep], id: str, /, *, timeout: Duration | None = "30s") -> _Rep:
        """Wait again for the reply to an earlier request of this service, and return it; as often as wanted.

        Args:
            op: what was asked.
            id: of the request: what `send` returned, or a PendingError names.
            timeout: how long to wait; None waits for ever.

        Raises:
            Reject: the handler's own no, as the class that the contract lists.
            NotDoneError: it is decided that it is not done.
            PendingError: it is not there yet; ask again.
            CallUnknownError: this service has sent no such request, or it was settled more than a day ago.
            UsageError: the operation is not journaled, so its replies are kept nowhere; or this caller has no store.
        """
        outbound = self.known(op)
        if outbound.mode is not Mode.JOURNALED:
            raise UsageError(f"{outbound.name} is not journaled: its reply is kept nowhere")
        journal = self._journal or await self._need()
        if journal is None:
            raise _no_store("reply()")
        call = await journal.call(id)
        if call is None:
            raise CallUnknownError(f"{self._name} has sent no request {id!r}", message_id=id)
        if call.state.final or call.outcome:
            return outbound.result_of(outcome_of(_outcome(call)), id)
        ticket = journal.asks.watch(call, expires_in=None if timeout is None else length_of(timeout))
        try:
            outcome = await ticket.done
        except BaseException:
            journal.asks.forget(ticket)
            raise
        return outbound.result_of(outcome, id)

    # --- for the contexts, which are clients that work for a delivery ---------------------------------

    async def ask(
        self,
        op: Operation[Any, Any],
        data: Any,
        *,
        timeout: Seconds | None,
        deadline: Instant,
        work: str = "",
        id: str | None = None,
    ) -> Any:
        """Ask, and return the reply; `call` with its arguments worked out."""
        outbound = self._outbounds.get(op)
        if outbound is None or outbound.generation != self._directory.generation:
            outbound = await self.outbound(op)
        if outbound.mode is Mode.JOURNALED:
            journal = self._journal or await self._need()
            if journal is not None:
                return await self._ask_journaled(journal, outbound, data, timeout=timeout, deadline=deadline, id=id)
        elif id is not None:
            raise _no_id(outbound)
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
            id=id,
        )
        try:
            reply = await ticket.reply
        except BaseException:
            self._caller.forget(ticket)
            raise
        return outbound.result(reply)

    async def _ask_journaled(
        self,
        journal: JournalOfCaller,
        outbound: Outbound,
        data: Any,
        *,
        timeout: Seconds | None,
        deadline: Instant,
        id: str | None,
    ) -> Any:
        if deadline and deadline <= self._now():
            raise ExpiredError(f"the deadline passed before {outbound.name} was asked")
        asked = self._asked(outbound, data, deadline=deadline, id=id, wants=_WAITED)
        ticket = journal.asks.ask(asked, for_reply=True, expires_in=timeout)
        try:
            outcome = await ticket.done
        except BaseException:
            journal.asks.forget(ticket)
            raise
        return outbound.result_of(outcome, asked.id)

    def _asked(self, outbound: Outbound, data: Any, *, deadline: Instant, id: str | None, wants: Wants) -> Asked:
        encoded = outbound.encode(data)
        return Asked(
            self._new_id() if id is None else checked_id(id),
            outbound.service,
            outbound.name,
            encoded,
            digest=digest_of(outbound.name, encoded),
            time=self._now(),
            wants=wants,
            deadline=deadline,
            key=outbound.key_of(data),
            once=id is not None,
        )

    async def _deposit(self, outbound: Outbound, data: Any, *, deadline: Instant, id: str | None) -> str:
        """Leave a request in its queue, for the replier to adopt: this caller has no store of its own."""
        message = self.request(outbound, data, deadline=deadline)
        if id is not None:
            message = msgspec.structs.replace(message, id=checked_id(id))
        await unflushed.send(self._transport, outbound.outgoing(message), message)
        return message.id

    async def _need(self) -> JournalOfCaller | None:
        self._journal = await self._journals.need(self._name)
        return self._journal

    async def outbound(self, op: Operation[Any, Any]) -> Outbound:
        """Return what it takes to send to an operation, compared with what its service announced."""
        outbound = self.known(op)
        journal = self._journal
        if journal is None and outbound.mode is Mode.JOURNALED:
            journal = await self._need()
        if journal is None:
            await outbound.check(self._directory)
        else:
            await outbound.check(self._directory, journal.knows)
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

    async def tell(self, telling: Telling) -> None:
        """Store a journaled event; `publish` with its arguments worked out.

        Raises:
            UsageError: this caller has no store.
            IdReusedError: its id stands for another event already.
            NotStoredError: it was not stored.
        """
        journal = self._journal or await self._need()
        if journal is None:
            raise _no_store("publish() of a journaled event")
        await journal.tells.tell(telling)

    def event(self, event: Event[Any], data: Any, *, work: str = "", id: str | None = None) -> tuple[Outbound, Message]:
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
            self._new_id() if id is None else checked_id(id),
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


def checked_id(id: str) -> str:
    """Return an application's own id, if it can be one.

    Raises:
        UsageError: it is empty, or longer than ID_LIMIT characters.
    """
    if not id or len(id) > ID_LIMIT:
        raise UsageError(f"id= takes 1 to {ID_LIMIT} characters, and was given {len(id)}")
    return id


def _outcome(call: Call) -> bytes:
    if call.state in {CallState.UNKNOWN, CallState.CONFLICT}:
        raise OutcomeUnknownError(f"what became of {call.operation} is not known", message_id=call.id)
    return call.outcome


def _no_id(outbound: Outbound) -> UsageError:
    return UsageError(
        f"id= promises that it is done once only, and {outbound.name} is not journaled, which could keep that"
    )


def _no_store(what: str) -> UsageError:
    return UsageError(
        f"{what} needs the caller's own store, and this one has none",
        hint="Connect with the Service itself, not with its name: its store then keeps requests and replies.",
    )


def _only_what_is_built(*, priority: str = "normal", within: object = None, later: bool = False) -> None:
    if priority != "normal":
        raise NotBuiltError("this version has no priorities; leave `priority` out")
    if within is not None:
        raise NotBuiltError("within= joins a transaction of yours, which needs a store of that kind")
    if later:
        raise NotBuiltError("this version cannot send later; leave `delay` and `at` out")
