"""One attempt of one journaled delivery: the door behind its Context.

A call is a transaction of its own, kept under the delivery: a handler that is run again, and asks the
same again, is given the outcome that is stored, and the replier is not run twice. What the handler sends,
and its own rows, commit with its end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from posthouse.errors import (
    CallDivergedError,
    CallUnknownError,
    ExpiredError,
    NotBuiltError,
    QueueFullError,
    UnavailableError,
    UnknownServiceError,
    UsageError,
)
from posthouse.message.message import Mode
from posthouse.message.names import service_of
from posthouse.protocol.outbox import CallState, Wants
from posthouse.runtime.attempt import Attempt
from posthouse.runtime.client import DEFAULT_TIMEOUT, length_of
from posthouse.runtime.outbound import instant_of
from posthouse.runtime.steps.asking import Asked
from posthouse.runtime.steps.wire import digest_of, outcome_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from posthouse.clock import Duration, Seconds
    from posthouse.contracts.store import Rows, Tail
    from posthouse.declare.operation import Operation
    from posthouse.errors import PosthouseError
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.journal.journal import Journal
    from posthouse.runtime.outbound import Outbound
    from posthouse.runtime.workplace import Claim, Turn, Work, Workplace


_NOT_ITS_FAULT: Final = (QueueFullError, UnavailableError)


class JournaledAttempt(Attempt):
    """What one run of a handler asks and records.

    Attributes:
        asks: what it sent, to be stored when it ends well.
        used: (place, epoch of the answer) of the calls whose outcome it was given.
        awaited: ids of the calls that it waits for.
        calls: whether there are calls of this delivery in the books.
        tail: its transaction, once it has opened one.
        diverged: why it must not be run on: it asks otherwise than it did before.
        unasked: why one of its requests was not stored, through no fault of its own: a full outbox, a store or a
            service that is away. If it fails with that very error, it is tried again, and no attempt is counted.
    """

    __slots__ = (
        "_claim", "_counts", "_earlier", "_journal", "_unchecked",
        "asks", "awaited", "calls", "diverged", "tail", "unasked", "used",
    )  # fmt: skip

    def __init__(self, place: Workplace, turn: Turn, work: Work, claim: Claim, journal: Journal) -> None:
        super().__init__(place, turn, work.message)
        self._journal = journal
        self._claim = claim
        self._counts: dict[bytes, int] = {}
        self.calls = claim.attempt > 1 or claim.has_calls
        self._earlier: dict[tuple[bytes, int], Call] | None = None if self.calls else {}
        self.asks: list[Asked] = []
        self.used: list[tuple[int, int]] = []
        self.awaited: set[str] = set()
        self.tail: Tail | None = None
        self.diverged: CallDivergedError | None = None
        self.unasked: PosthouseError | None = None
        self._unchecked: list[Outbound] = []

    # --- calls --------------------------------------------------------------------------------------------

    async def call(
        self, op: Operation[Any, Any], data: Any, /, *, timeout: Duration | None, deadline: Duration | datetime | None
    ) -> Any:
        """Ask, and wait for the reply without holding a slot."""
        self._must_be_running("call")
        if self.tail is not None:
            raise UsageError(
                "ctx.call() with an open transaction: the store's one write slot would be held while another service"
                " works. Call first, then open ctx.transaction()."
            )
        client = self._place.client
        outbound = client.known(op)
        if outbound.mode is not Mode.JOURNALED:
            return await super().call(op, data, timeout=timeout, deadline=deadline)
        await self._check(outbound)
        clock = self._place.parts.seams.clock
        encoded = outbound.encode(data)
        when = instant_of(deadline, clock=clock, inherited=self._message.deadline)
        digest = digest_of(outbound.name, encoded)
        nth = self._counts.get(digest, 0)
        self._counts[digest] = nth + 1
        earlier = await self._earlier_call(digest, nth, outbound)
        if earlier is not None and earlier.outcome and not earlier.state.asked:
            self.used.append((earlier.place, earlier.outcome_epoch))
            return outbound.result_of(outcome_of(earlier.outcome), earlier.id)
        wait = self._length_of(timeout, when, clock.now())
        if earlier is not None:
            if earlier.state is CallState.UNKNOWN:
                raise outbound.unknown(earlier.id)
            ticket = self._journal.outbox.watch(earlier, expires_in=wait)
        else:
            if when and when <= clock.now():
                raise ExpiredError(f"the deadline passed before {outbound.name} was asked")
            asked = Asked(
                self._place.parts.seams.new_id(),
                service_of(outbound.name),
                outbound.name,
                encoded,
                digest=digest,
                time=clock.now(),
                wants=Wants.HANDLER,
                deadline=when,
                work=self._claim.place,
                attempt=self._claim.attempt,
                nth=nth,
                key=outbound.key_of(data),
                caused_by=self._message.id,
            )
            ticket = self._journal.outbox.ask(asked, for_reply=True, expires_in=wait)
            self.calls = self._claim.has_calls = True
        self.awaited.add(ticket.id)
        self._place.pause(self._turn)
        try:
            outcome = await ticket.done
        except asyncio.CancelledError:
            self._journal.outbox.forget(ticket)
            if not self._turn.is_ending:  # the handler's own time-out: it goes on, and needs a slot for that
                await self._place.resume(self._turn)
            raise
        except BaseException as error:
            if isinstance(error, _NOT_ITS_FAULT):
                self.unasked = error
            await self._place.resume(self._turn)
            raise
        await self._place.resume(self._turn)
        self.awaited.discard(ticket.id)
        self.used.append((ticket.place, ticket.epoch))
        return outbound.result_of(outcome, ticket.id)

    async def _earlier_call(self, digest: bytes, nth: int, outbound: Outbound) -> Call | None:
        """Return the call of an earlier run that this one repeats.

        Raises:
            CallDivergedError: there is none, and another one of an earlier run stands.
        """
        if self._earlier is None:
            calls = await self._journal.store.read(lambda books: books.calls_of(self._claim.place))
            if self._earlier is None:  # another call of this handler may have read them meanwhile
                self._earlier = {(call.digest, call.nth): call for call in calls}
        call = self._earlier.pop((digest, nth), None)
        if call is not None:
            return call
        for other in self._earlier.values():
            if other.state is not CallState.NOT_DONE and not _was_refused(other):
                self.diverged = CallDivergedError(
                    f"on an earlier run this handler asked {other.operation} ({other.id}), which stands; now it asks"
                    f" {outbound.name} with other data",
                    message_id=other.id,
                )
                raise self.diverged
        return None

    @staticmethod
    def _length_of(timeout: Duration | None, when: float, now: float) -> Seconds:
        wait = length_of(timeout) if timeout is not None else DEFAULT_TIMEOUT
        return min(wait, max(0.0, when - now)) if when and timeout is None else wait

    # --- what commits with the end ------------------------------------------------------------------------

    def send(self, op: Operation[Any, Any], data: Any, /, *, deadline: Duration | datetime | None) -> str:
        """Record a request."""
        client = self._place.client
        outbound = client.known(op)
        if outbound.mode is not Mode.JOURNALED:
            return super().send(op, data, deadline=deadline)
        self._must_be_running("send")
        clock = self._place.parts.seams.clock
        encoded = outbound.encode(data)
        hears = outbound.name in self._journal.here.reply_handlers
        asked = Asked(
            self._place.parts.seams.new_id(),
            service_of(outbound.name),
            outbound.name,
            encoded,
            digest=digest_of(outbound.name, encoded),
            time=clock.now(),
            wants=Wants.REPLY_HANDLER if hears else Wants.NOBODY,
            deadline=0.0 if deadline is None else instant_of(deadline, clock=clock),
            key=outbound.key_of(data),
            caused_by=self._message.id,
        )
        self.asks.append(asked)
        if outbound.generation != self._place.parts.directory.generation:
            self._unchecked.append(outbound)
        return asked.id

    async def cancel(self, id: str, /) -> None:
        """Ask that a request that was sent earlier is not done."""
        self._must_be_running("cancel")
        for asked in self.asks:
            if asked.id == id:
                self.asks.remove(asked)
                return
        if not await self._journal.cancel(id):
            raise CallUnknownError(f"{self._place.name} has sent no request {id!r}", message_id=id)

    async def transaction(self, kind: type[Any] | None, /) -> Tail:
        """Open the transaction that commits when the handler returns; the same one when it is open already."""
        self._must_be_running("transaction")
        _only_built_in(kind)
        if self.tail is None:
            tail = await self._journal.store.tail()
            if self._over or self.tail is not None:
                tail.give_up()
                self._must_be_running("transaction")
            else:
                self.tail = tail
        if self.tail is None:
            raise UsageError("the transaction is over")
        return self.tail

    def reading(self, kind: type[Any] | None, /) -> AbstractAsyncContextManager[Rows]:
        """Read the store before a call."""
        self._must_be_running("reading")
        _only_built_in(kind)
        return self._journal.store.reading()

    async def leave(self) -> None:
        """Send what the cheaper modes carry; what is journaled leaves after the commit."""
        for outbound in self._unchecked:
            await self._check(outbound)
        if self.kept:
            await self._send(self.kept)

    async def _check(self, outbound: Outbound) -> None:
        if outbound.generation == self._place.parts.directory.generation:
            return
        try:
            await outbound.check(self._place.parts.directory, self._journal.knows)
        except UnknownServiceError as error:
            self.unasked = error
            raise

    @property
    def leaves(self) -> bool:
        """Whether `leave` has anything to do."""
        return bool(self._unchecked) or self.kept is not None

    @property
    def is_empty(self) -> bool:
        """Whether it asked, told, wrote and used nothing, so that nothing commits with its end."""
        return not (self.asks or self.tells or self.used or self.calls or self.tail is not None)

    def rests(self, claim: Claim) -> bool:
        """Say whether a delivery can rest until a call of this attempt is answered: it was made in its name."""
        return bool(self.awaited) and claim is self._claim

    def abandon(self) -> None:
        """The handler was canceled: nothing of it is kept."""
        self.close()
        if self.tail is not None:
            self.tail.give_up()


def _was_refused(call: Call) -> bool:
    """Say whether an answered call came to nothing, so that nobody minds when it is not asked for again."""
    return call.state is CallState.ANSWERED and not outcome_of(call.outcome).done


def _only_built_in(kind: type[Any] | None) -> None:
    if kind is not None:
        raise NotBuiltError(
            f"a transaction of {kind.__name__} needs a store of that kind; the built-in one gives ctx.transaction()"
        )
