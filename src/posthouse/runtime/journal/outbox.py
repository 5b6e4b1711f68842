"""The caller's side at work: stores calls, sends them, and tells those who wait what came of them.

A call is sent by the instance that stored it, which also sends it again (see relay.py). All that comes
in one turn of the loop is one step: one transaction, one flush.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from posthouse.contracts.flushing import NotFlushedError
from posthouse.errors import OutcomeUnknownError, PendingError, UnavailableError
from posthouse.message.message import Kind
from posthouse.message.names import service_of
from posthouse.protocol.lane import lane_of
from posthouse.protocol.outbox import CallState, Wants, resend_after, smoothed
from posthouse.runtime.expiry import Expiry
from posthouse.runtime.steps.applying import apply
from posthouse.runtime.steps.asking import store
from posthouse.runtime.steps.ticket import Ticket
from posthouse.runtime.steps.wire import Outcome, outcome_of
from posthouse.runtime.timers import timers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.store import LaneOut, Store
    from posthouse.message.message import Message
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.steps.applying import Applied
    from posthouse.runtime.steps.asking import Asked, Asking
    from posthouse.runtime.steps.here import Here

_log: Final = logging.getLogger("posthouse.journal")

# Members that are looked at for each message; in Python 3.11 a look at one through its class takes 70 ns.
_REPLY, _CONTROL, _CANCEL_WANTED = Kind.REPLY, Kind.CONTROL, CallState.CANCEL_WANTED

AT_ONCE: Final = 128
"""The most calls, or answers, of one step."""

_FLOOR_MAY_WAIT: Final[Seconds] = 60.0


class Sent(msgspec.Struct, eq=False, gc=False):
    """A call that was sent from here, and is sent again until it is answered.

    Attributes:
        place: of the call.
        id: of the call.
        service: who is asked.
        operation: what.
        at: when it was sent first, in the time of the timers.
        due: when it is sent again, in the same time.
        tries: how often it was sent.
        peer: where it went last; empty when nobody was there.
        deposited: whether a copy lies in the queue.
        unwanted: it is to be canceled.
    """

    place: int
    id: str
    service: str
    operation: str
    at: float
    due: float
    tries: int = 0
    peer: str = ""
    deposited: bool = False
    unwanted: bool = False

    def was_not_deposited(self) -> None:
        """The queue did not take a copy, or has lost it."""
        self.deposited = False


class Outbox:
    """All calls of one service from this process.

    Attributes:
        sent: what is under way from here, by place.
        lanes: as they were last seen, by number.
        told: what each lane's replier was last told to be final: in which life of it, the floor, and how many above it.
        waiting: calls may be there that have no number yet.
        on_work: told which of our operations have work now.
        on_floor: told which lanes' floors may have moved.
        on_moved: told that a lane leads to another life of its store, or to another store.
        on_not_flushed: told that the books hold what nobody here was told of.
    """

    def __init__(self, journal_store: Store, here: Here, courier: Courier, *, seams: Seams) -> None:
        self.sent: dict[int, Sent] = {}
        self.lanes: dict[int, LaneOut] = {}
        self.told: dict[int, tuple[int, int, int]] = {}
        self.waiting = False
        self.on_work: Callable[[Iterable[str]], None] = _nobody
        self.on_floor: Callable[[Iterable[LaneOut]], None] = _nobody
        self.on_moved: Callable[[], None] = _nothing
        self.on_not_flushed: Callable[[], None] = _nothing
        self._store = journal_store
        self._here = here
        self._courier = courier
        self._rng = seams.rng
        self._loop = asyncio.get_running_loop()
        self._timers = timers_of(seams.clock)
        self._tickets: dict[str, list[Ticket]] = {}
        self._expiry: Expiry[Ticket] = Expiry(self._expire, self._timers)
        self._numbers: dict[tuple[str, int], int] = {}
        self._reply_times: dict[int, Seconds] = {}
        self._asked: list[tuple[Asked, Ticket]] = []
        self._answers: list[tuple[int, Message]] = []
        self._closed = False

    def close(self) -> None:
        """Fail those who wait; what they asked stays in the books."""
        self._closed = True
        self._expiry.close()
        for tickets in self._tickets.values():
            for ticket in tickets:
                if not ticket.done.done():
                    ticket.done.set_exception(_pending(ticket, "this process stops"))
                    ticket.done.exception()  # whoever waited may be gone already; that is no accident
        self._tickets.clear()

    # --- asking -----------------------------------------------------------------------------------------

    def ask(self, asked: Asked, *, for_reply: bool, expires_in: Seconds | None = None) -> Ticket:
        """Store a call, and send it once it is on the disk; never waits.

        Args:
            asked: the call.
            for_reply: whether the ticket is filled by the outcome; else as soon as the call is stored.
            expires_in: seconds until the ticket says that it is pending.
        """
        ticket = Ticket(asked.id, asked.operation, self._loop.create_future(), for_reply=for_reply)
        if self._closed:
            ticket.done.set_exception(UnavailableError("the journal was closed"))
            return ticket
        if for_reply:
            self._enter(ticket, expires_in)
        if not self._asked:
            self._loop.call_soon(self._store_asked)
        self._asked.append((asked, ticket))
        return ticket

    def watch(self, call: Call, *, expires_in: Seconds | None = None) -> Ticket:
        """Wait for a call that is in the books and was not answered when it was read."""
        ticket = Ticket(call.id, call.operation, self._loop.create_future(), for_reply=True)
        ticket.place = call.place
        self._enter(ticket, expires_in)
        return ticket

    def forget(self, ticket: Ticket) -> None:
        """Wait no longer; the call lives on."""
        tickets = self._tickets.get(ticket.id)
        if tickets is not None and ticket in tickets:
            tickets.remove(ticket)
            if not tickets:
                del self._tickets[ticket.id]
        self._expiry.over(ticket)

    def only_store(self, ticket: Ticket) -> None:
        """Wait no longer for the outcome: the ticket is filled with None once the call is stored."""
        self.forget(ticket)
        ticket.for_reply = False
        if ticket.stored and not ticket.done.done():
            ticket.done.set_result(None)

    def is_waited_for(self, id: str) -> bool:
        """Say whether somebody in this process waits for the outcome of a call."""
        return id in self._tickets

    def watched(self) -> list[str]:
        """Return the calls that are waited for here and were sent from elsewhere."""
        here = {sent.id for sent in self.sent.values()}
        return [id for id in self._tickets if id not in here]

    def begun(self, asking: Asking) -> None:
        """Send what a step has stored and numbered."""
        for lane in asking.lanes:
            self.known_lane(lane)
            self.told[lane.lane] = (lane.peer.epoch, lane.final.floor, 0)  # it rides on the requests
        calls: list[Call] = []
        for stored in asking.stored:
            if (call := stored.call) is None:
                continue
            if not call.place:
                self.waiting = True
            elif not stored.earlier:
                calls.append(call)
        self.send(calls + asking.numbered)

    def send(self, calls: Sequence[Call]) -> None:
        """Send calls for the first time, and remember to send them again."""
        if not calls:
            return
        now = self._timers.time()
        by_service: dict[str, list[tuple[Sent, bytes]]] = {}
        for call in calls:
            sent = self.sent[call.place] = _sent(call, now)
            for ticket in self._tickets.get(call.id, ()):
                ticket.place = call.place  # it may have waited for its number
            by_service.setdefault(call.service, []).append((sent, call.frame))
        for service, some in by_service.items():
            self.carry(service, some)

    def remember(self, call: Call) -> None:
        """Take a call over, to be sent again."""
        self.sent[call.place] = _sent(call, self._timers.time())

    def carry(self, service: str, some: Sequence[tuple[Sent, bytes]]) -> None:
        """Hand frames to the courier, and say when they are due again."""
        lane = self.lanes.get(lane_of(some[0][0].place))
        store_id = "" if lane is None else lane.peer.id
        instances = self._courier.instances(service, store_id)
        if instances:
            peers = self._courier.ask(instances, [frame for _sent, frame in some])
        else:
            peers = [""] * len(some)
            fresh = [(sent.operation, frame, sent.was_not_deposited) for sent, frame in some if not sent.deposited]
            if fresh:
                self._courier.deposit(fresh)
        now = self._timers.time()
        reply_time = self._reply_times.get(lane_of(some[0][0].place), 0.0)
        for (sent, _frame), peer in zip(some, peers, strict=True):
            sent.tries += 1
            sent.peer = peer
            sent.deposited = sent.deposited or not peer
            sent.due = now + resend_after(sent.tries, reply_time=reply_time, rng=self._rng)

    def _store_asked(self) -> None:
        everything, self._asked = self._asked, []
        for first in range(0, len(everything), AT_ONCE):
            self._store_some(everything[first : first + AT_ONCE])

    def _store_some(self, batch: Sequence[tuple[Asked, Ticket]]) -> None:
        asks = [asked for asked, _ticket in batch]
        here = self._here
        stored = self._store.commit(lambda books: store(books, asks, here), name="ask", flush=True, weight=len(asks))
        stored.add_done_callback(lambda done: self._stored(batch, done))

    def _stored(self, batch: Sequence[tuple[Asked, Ticket]], done: asyncio.Future[Asking]) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            unsure = isinstance(error, NotFlushedError)
            for asked, ticket in batch:
                # A handler runs again, and finds what it has asked.
                told = _unsure(ticket) if unsure and asked.wants is not Wants.HANDLER else error
                self._fail(ticket, told)
            if unsure:
                self.on_not_flushed()
            return
        asking = done.result()
        for (_asked, ticket), stored in zip(batch, asking.stored, strict=True):
            if stored.error is not None:
                self._fail(ticket, stored.error)
            elif stored.call is not None:
                ticket.place = stored.call.place
                ticket.stored = True
                if stored.earlier and stored.call.state.final:
                    self._settle(ticket, stored.call)
                elif not ticket.for_reply and not ticket.done.done():
                    ticket.done.set_result(None)
        self.begun(asking)

    # --- answers ------------------------------------------------------------------------------------------

    def heard(self, messages: Iterable[Message]) -> None:
        """Take in replies and words of repliers."""
        if strange := [
            message for message in messages if not self._hear(message)
        ]:  # a sibling may have opened the lane
            lanes = self._store.read(lambda books: books.lanes_out())
            lanes.add_done_callback(lambda done: self._hear_again(strange, done))

    def _hear(self, message: Message) -> bool:
        """Take in a message; return whether its lane is known here."""
        stamps = message.lane
        if stamps is None:
            return True
        name = message.type if message.kind is _REPLY else message.subject
        lane = self._numbers.get((service_of(name), stamps.opened))
        if lane is None:
            return False
        if message.kind is _CONTROL and message.type in {"pending", "conflict"}:
            self._put_off(lane, message)
            return True
        if not self._answers:
            self._loop.call_soon(self._apply)
        self._answers.append((lane, message))
        return True

    def _hear_again(self, strange: Sequence[Message], done: asyncio.Future[list[LaneOut]]) -> None:
        if done.cancelled() or done.exception() is not None:  # they come again, as the calls are still open
            return
        for lane in done.result():
            if lane.lane not in self.lanes:
                self.known_lane(lane)
        for message in strange:  # one whose lane is not known now is of a life that nobody remembers
            self._hear(message)

    def known_lane(self, lane: LaneOut) -> None:
        """Remember a lane as it is now."""
        before = self.lanes.get(lane.lane)
        self.lanes[lane.lane] = lane
        if before is not None and before.peer.id and before.peer != lane.peer:
            self.on_moved()
        self._numbers[lane.service, lane.epoch] = lane.lane

    def _apply(self) -> None:
        everything, self._answers = self._answers, []
        for first in range(0, len(everything), AT_ONCE):
            self._apply_some(everything[first : first + AT_ONCE])

    def _apply_some(self, answers: Sequence[tuple[int, Message]]) -> None:
        here, numbers = self._here, self.waiting
        applied = self._store.commit(
            lambda books: apply(books, answers, here, numbers=numbers),
            name="apply",
            flush=numbers,
            weight=len(answers),
        )
        applied.add_done_callback(self._applied)

    def _applied(self, done: asyncio.Future[Applied]) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:  # they come again, as the calls are still open
            _log.warning("replies could not be applied yet: %s", error)
            if isinstance(error, NotFlushedError):
                self.on_not_flushed()
            return
        applied = done.result()
        now = self._timers.time()
        for place, stored in applied.told:
            sent = self.sent.pop(place, None)
            if sent is None:
                continue
            if sent.tries == 1:
                lane = lane_of(place)
                self._reply_times[lane] = smoothed(self._reply_times.get(lane, 0.0), now - sent.at)
            self.fill(sent.id, stored, self.lanes[lane_of(place)].peer.epoch, place=place)
        for place in applied.late:
            if (sent := self.sent.get(place)) is not None:
                sent.due = now  # the next sweep finds the outcome, and tells whoever waits here
        for place in applied.over:
            self._unknown(place)
        for place in applied.parked:
            if (sent := self.sent.get(place)) is not None:
                sent.due = now + _FLOOR_MAY_WAIT
        for lane in applied.lanes:
            self.known_lane(lane)
        self.send(applied.numbered)
        if applied.woken:
            self.on_work(applied.woken)
        self.on_floor(applied.lanes)

    def _put_off(self, lane: int, message: Message) -> None:
        """It is stored there, and undecided: nothing is gained by asking soon."""
        stamps = message.lane
        sent = self.sent.get(lane << 40 | stamps.number) if stamps is not None else None
        if message.type == "conflict":
            _log.error(
                "%s: another request has the number of %s at %s; it stays open: see `posthouse messages why %s`",
                self._here.service,
                message.id,
                message.source,
                message.id,
            )
        if sent is not None:
            sent.due = self._timers.time() + _FLOOR_MAY_WAIT * self._rng.uniform(0.5, 1.5)

    def fill(self, id: str, outcome: bytes, epoch: int, *, place: int) -> None:
        """Tell those who wait for a call what came of it."""
        tickets = self._tickets.pop(id, None)
        if tickets is None:
            return
        told = outcome_of(outcome) if outcome else Outcome(b"")
        for ticket in tickets:
            self._expiry.over(ticket)
            ticket.place, ticket.epoch = place, epoch
            if not ticket.done.done():
                ticket.done.set_result(told)

    def _settle(self, ticket: Ticket, call: Call) -> None:
        """Tell one who waits what came of a call that was final when it was asked again."""
        self.forget(ticket)
        ticket.id = call.id
        ticket.epoch = call.outcome_epoch
        if not call.outcome:
            self._fail(ticket, _forgotten(call.service, call.operation, call.id))
        elif not ticket.done.done():
            ticket.done.set_result(outcome_of(call.outcome))

    def unknown(self, call: Call) -> None:
        """Tell those who wait for a call that nobody can say what became of it."""
        for ticket in self._tickets.pop(call.id, ()):
            self._fail(ticket, _forgotten(call.service, call.operation, call.id))

    def _unknown(self, place: int) -> None:
        sent = self.sent.pop(place, None)
        if sent is None:
            return
        for ticket in self._tickets.pop(sent.id, ()):
            self._fail(ticket, _forgotten(sent.service, sent.operation, sent.id))

    def _enter(self, ticket: Ticket, expires_in: Seconds | None) -> None:
        self._tickets.setdefault(ticket.id, []).append(ticket)
        if expires_in is not None:
            self._expiry.begin(ticket, expires_in)

    def _expire(self, ticket: Ticket) -> None:
        self.forget(ticket)
        if not ticket.done.done():
            ticket.done.set_exception(_pending(ticket, "it has not answered in time"))

    def _fail(self, ticket: Ticket, error: BaseException) -> None:
        """Tell one who waits; the error may be that of many, so it is not changed."""
        self.forget(ticket)
        if not ticket.done.done():
            ticket.done.set_exception(error)


def _sent(call: Call, now: float) -> Sent:
    unwanted = call.state is _CANCEL_WANTED
    return Sent(call.place, call.id, call.service, call.operation, now, now, unwanted=unwanted)


def _pending(ticket: Ticket, why: str) -> PendingError:
    return PendingError(
        f"{ticket.name} is pending: {why}; the request is stored, and its reply will be kept", id=ticket.id
    )


def _unsure(ticket: Ticket) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"{ticket.name} was stored, and whether that outlives a power cut is not known: the disk could not be flushed;"
        " it is sent once it can be",
        message_id=ticket.id,
    )


def _forgotten(service: str, operation: str, id: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(f"{service} has forgotten {operation}", message_id=id)


def _nobody(_: Iterable[Any]) -> None:
    """Nobody wants to know."""


def _nothing() -> None:
    """Nobody goes on with it."""
