"""The step that takes in what repliers said: outcomes, and words about requests.

What concerns no open call any more, or was meant for another life of either store, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.message.message import Kind
from posthouse.protocol.inbox import Request, RequestState, waits_for_caller
from posthouse.protocol.lane import SELF, lane_of, number_of, place_of
from posthouse.protocol.outbox import CallState, Heard, Wants, step
from posthouse.runtime.steps.asking import number_waiting
from posthouse.runtime.steps.wire import IS_CLOSED, outcome_bytes, outcome_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books, LaneOut, Standing
    from posthouse.message.message import Message
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.steps.here import Here


# Members that are looked at for each message; in Python 3.11 a look at one through its class takes 70 ns.
_REPLY: Final = Kind.REPLY
_DONE, _NOT_DONE, _OVER = Heard.DONE, Heard.NOT_DONE, Heard.OVER
_HANDLER: Final = Wants.HANDLER
_ANSWERED, _REDRIVING, _UNKNOWN = CallState.ANSWERED, CallState.REDRIVING, CallState.UNKNOWN

APART: Final = 256
"""Numbers of a lane that are further apart than this are not read in one range."""


class ReplyRun(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a handler that hears a reply, or an ack, is run for; the frame of its row in the store's own lane.

    Attributes:
        call: the place of the call whose outcome it uses; 0 for an ack, and for a call that was never sent.
        epoch: the replier's, in which the outcome was given.
        request: the frame of the request.
        outcome: as it is stored.
    """

    call: int
    epoch: int
    request: bytes
    outcome: bytes


run_to_bytes: Final = msgspec.msgpack.Encoder().encode
run_of: Final = msgspec.msgpack.Decoder(ReplyRun).decode


class Applied:
    """What some answers came to.

    Attributes:
        told: (place, outcome as stored) of the calls that they settled.
        late: places of calls that were settled before, perhaps by an instance of ours that nobody asked through.
        over: places of calls that they leave unknown for ever.
        parked: places of calls that wait for an operator at the replier.
        woken: operations of ours that have work now: a suspended handler, or one that hears a reply.
        numbered: calls that waited, and were given a number now.
        lanes: those whose floors may have moved, as they are now.
    """

    __slots__ = ("lanes", "late", "numbered", "over", "parked", "told", "woken")

    def __init__(self) -> None:
        self.told: list[tuple[int, bytes]] = []
        self.late: list[int] = []
        self.over: list[int] = []
        self.parked: list[int] = []
        self.woken: set[str] = set()
        self.numbered: list[Call] = []
        self.lanes: list[LaneOut] = []


def apply(
    books: Books,
    answers: Sequence[tuple[int, Message]],
    here: Here,
    *,
    numbers: bool,
) -> Applied:
    """Take in answers.

    Args:
        books: the store's.
        answers: (lane here, message): replies, and the words `over` and `parked`.
        here: our place.
        numbers: give numbers to what waits, too; then the step must be flushed.
    """
    result = Applied()
    by_lane: dict[int, list[Message]] = {}
    for lane, message in answers:
        by_lane.setdefault(lane, []).append(message)
    for number, messages in by_lane.items():
        lane = books.lane_out(number)
        if lane is None:
            continue
        _apply_to(books, lane, messages, here, result)
        if numbers and lane.waiting:
            result.numbered += number_waiting(books, lane, here)
        books.save_lane_out(lane)
        result.lanes.append(lane)
    return result


def _apply_to(books: Books, lane: LaneOut, messages: Sequence[Message], here: Here, result: Applied) -> None:
    wanted = {message.lane.number for message in messages if message.lane is not None and message.lane.number >= 0}
    standings = _standings(books, lane.lane, sorted(wanted))
    updates: list[tuple[CallState, bytes, int, bool, int]] = []
    ours, peer = books.identity.epoch, lane.peer
    for message in messages:
        stamps = message.lane
        if stamps is None or stamps.caller_epoch != ours:
            continue
        if stamps.replier_store != peer.id or stamps.replier_epoch != peer.epoch:
            continue
        lane.acked = max(lane.acked, stamps.floor)
        if message.kind is Kind.CONTROL and message.type == "floor" and message.data == IS_CLOSED:
            lane.closed = True
        standing = standings.get(stamps.number)
        if standing is None:  # the word `floor`, or a call that was dropped long ago
            continue
        if message.kind is not _REPLY and message.type == "parked":
            if standing.state.asked and not standing.parked:
                standing.parked = True
                if standing.state is CallState.REDRIVING:
                    updates.append((standing.state, *_first_outcome(books, standing), True, standing.place))
                else:
                    lane.pending -= 1
                    updates.append((standing.state, b"", 0, True, standing.place))
                result.parked.append(standing.place)
            continue
        if message.kind is _REPLY:
            outcome = outcome_told(message)
            heard = _DONE if outcome.done else _NOT_DONE
            stored = outcome_bytes(outcome)
        else:
            heard, stored = _OVER, b""
        before = standing.state
        after = step(before, heard, holds=standing.wants.holds)
        if after is None:
            result.late.append(standing.place)
            continue
        if before is CallState.REDRIVING and heard is Heard.OVER and lane.epoch != ours:
            after = CallState.UNKNOWN  # we were put back as well: it may be over for a reason that we have forgotten
        if standing.wants is _HANDLER and not _wake(books, standing, here, result):
            after = step(before, heard)  # its delivery has ended without it
            assert after is not None  # noqa: S101 - who holds an answer changes what a call becomes, not whether
        if before is not _REDRIVING and not standing.parked:
            lane.pending -= 1
        standing.state = after
        standing.parked = False
        epoch = stamps.replier_epoch
        if before is _REDRIVING and after is CallState.DONE:
            stored, epoch = _first_outcome(books, standing)
        updates.append((after, stored, epoch, False, standing.place))
        if after.final:
            lane.final.add(stamps.number)
        if after is _UNKNOWN:
            result.over.append(standing.place)
            continue
        result.told.append((standing.place, stored))
        if after is _ANSWERED and standing.wants is Wants.REPLY_HANDLER:
            _have_heard(books, standing, message, stored, here=here, result=result)
    if updates:
        books.set_calls(updates)


def _first_outcome(books: Books, standing: Standing) -> tuple[bytes, int]:
    """Return what a call that was done has come to, and in which epoch: that was used, whatever is told again."""
    [call] = books.calls_at((standing.place,))
    return call.outcome, call.outcome_epoch


def _standings(books: Books, lane: int, numbers: Sequence[int]) -> dict[int, Standing]:
    """Read how calls stand; those far apart by themselves, since a million settled ones may lie between them."""
    found: dict[int, Standing] = {}
    first = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] - numbers[at - 1] > APART:
            found |= books.standings(lane, numbers[first], numbers[at - 1])
            first = at
    return found


def _wake(books: Books, standing: Standing, here: Here, result: Applied) -> bool:
    """Let a delivery go on that rests until its call is answered; return whether anybody will use the answer.

    This is not left to who waits for the call in this process: it may be somebody else than the handler, or an
    attempt that lost its claim.
    """
    number = number_of(standing.work)
    delivery = books.known(lane_of(standing.work), number, number).get(number)
    if delivery is None or delivery.state.decided:
        return False
    waits = waits_for_caller(standing.work, delivery.asked, epoch=books.identity.epoch)
    if delivery.state is RequestState.SUSPENDED and not waits:
        for request in books.requests_at((standing.work,)):
            books.set_requests(((RequestState.RECEIVED, here.now(), b"", request.place),))
            result.woken.add(request.operation)
    return True


def _have_heard(
    books: Books, standing: Standing, message: Message, outcome: bytes, *, here: Here, result: Applied
) -> None:
    """Give work to the handler that hears a reply."""
    name = name_of_hearing(here.service, message.type)
    for call in books.calls_at((standing.place,)):
        assert message.lane is not None  # noqa: S101 - tells the type checker what _apply_to has seen
        run = ReplyRun(standing.place, message.lane.replier_epoch, call.frame, outcome)
        add_own(books, call.id, name, run_to_bytes(run), now=here.now())
        result.woken.add(name)


def name_of_hearing(service: str, operation: str) -> str:
    """Return the name under which a service hears of the replies of an operation."""
    return f"{service}.on_reply.{operation}"


def add_own(books: Books, id: str, operation: str, frame: bytes, *, now: Instant, reply_to: str = "") -> Request:
    """Store a request of this store to itself, and return it."""
    own = books.lane_in(SELF)
    assert own is not None  # noqa: S101 - the contract of the books: it is always there
    epoch = books.identity.epoch
    request = Request(
        place_of(SELF, own.next),
        id,
        operation,
        RequestState.RECEIVED,
        b"",
        frame,
        due=now,
        asked=epoch,
        asker=epoch,
        reply_to=reply_to,
    )
    own.next += 1
    books.add_requests((request,))
    books.save_lane_in(own)
    return request
