"""The step that takes in what repliers said: outcomes, and words about requests.

What concerns no open call any more, or was meant for another life of either store, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.message.message import Kind
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import SELF, place_of
from posthouse.protocol.outbox import CallState, Heard, Wants, step
from posthouse.runtime.steps.asking import number_waiting
from posthouse.runtime.steps.wire import outcome_bytes, outcome_told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthouse.contracts.store import Books, LaneOut, Standing
    from posthouse.message.message import Message
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.steps.here import Here


class ReplyRun(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a handler that hears a reply, or an ack, is run for; the frame of its row in the store's own lane.

    Attributes:
        call: the place of the call whose outcome it uses; 0 for an ack.
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
    is_waited_for: Callable[[str], bool],
    numbers: bool,
) -> Applied:
    """Take in answers.

    Args:
        books: the store's.
        answers: (lane here, message): replies, and the words `over` and `parked`.
        here: our place.
        is_waited_for: whether somebody in this process waits for the call with this id.
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
        _apply_to(
            books,
            lane,
            messages,
            result,
            is_waited_for=is_waited_for,
            woken=lambda standing, message, outcome: (
                None
                if is_waited_for(message.id)
                else _wake(books, standing, message, outcome, here=here, result=result)
            ),
        )
        if numbers and lane.waiting:
            result.numbered += number_waiting(books, lane, here)
        books.save_lane_out(lane)
        result.lanes.append(lane)
    return result


def _apply_to(
    books: Books,
    lane: LaneOut,
    messages: Sequence[Message],
    result: Applied,
    *,
    is_waited_for: Callable[[str], bool],
    woken: Callable[[Standing, Message, bytes], None],
) -> None:
    wanted = [message.lane.number for message in messages if message.lane is not None and message.lane.number >= 0]
    standings = books.standings(lane.lane, min(wanted), max(wanted)) if wanted else {}
    updates: list[tuple[CallState, bytes, int, bool, int]] = []
    ours = books.identity.epoch
    for message in messages:
        stamps = message.lane
        if stamps is None or stamps.caller_epoch != ours:
            continue
        if Identity(stamps.replier_store, stamps.replier_epoch) != lane.peer:
            continue
        lane.acked = max(lane.acked, stamps.floor)
        standing = standings.get(stamps.number)
        if standing is None:  # the word `floor`, or a call that was dropped long ago
            continue
        if message.kind is not Kind.REPLY and message.type == "parked":
            if standing.state.asked and not standing.parked:
                standing.parked = True
                lane.pending -= 1
                updates.append((standing.state, b"", 0, True, standing.place))
                result.parked.append(standing.place)
            continue
        if message.kind is Kind.REPLY:
            outcome = outcome_told(message)
            heard = Heard.DONE if outcome.done else Heard.NOT_DONE
            stored = outcome_bytes(outcome)
        else:
            heard, stored = Heard.OVER, b""
        before = standing.state
        holds = standing.wants.holds
        if standing.wants is Wants.HANDLER and (before is CallState.CANCEL_WANTED or not is_waited_for(message.id)):
            holds = not _has_ended(books, standing.work)
        after = step(before, heard, holds=holds)
        if after is None:
            result.late.append(standing.place)
            continue
        if before is not CallState.REDRIVING and not standing.parked:
            lane.pending -= 1
        standing.state = after
        standing.parked = False
        updates.append((after, stored, stamps.replier_epoch, False, standing.place))
        if after.final:
            lane.final.add(stamps.number)
        if after is CallState.UNKNOWN:
            result.over.append(standing.place)
            continue
        result.told.append((standing.place, stored))
        if after is CallState.ANSWERED:
            woken(standing, message, stored)
    if updates:
        books.set_calls(updates)


def _has_ended(books: Books, work: int) -> bool:
    """Say whether a delivery is over, so that nobody will use the outcome of what its handler asked."""
    rows = books.requests_at((work,))
    return not rows or rows[0].state.decided


def _wake(books: Books, standing: Standing, message: Message, outcome: bytes, *, here: Here, result: Applied) -> None:
    """Give work to the handler that waits for an answer: it was suspended, or hears of the reply only now."""
    if standing.wants is Wants.HANDLER:
        for request in books.requests_at((standing.work,)):
            if request.state is RequestState.SUSPENDED:
                books.set_requests(((RequestState.RECEIVED, here.now(), b"", request.place),))
                result.woken.add(request.operation)
        return
    name = f"{here.service}.on_reply.{message.type}"
    for call in books.calls_at((standing.place,)):
        assert message.lane is not None  # noqa: S101 - tells the type checker what _apply_to has seen
        run = ReplyRun(standing.place, message.lane.replier_epoch, call.frame, outcome)
        add_own(books, call.id, name, run_to_bytes(run), here)
        result.woken.add(name)


def add_own(books: Books, id: str, operation: str, frame: bytes, here: Here, *, reply_to: str = "") -> Request:
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
        due=here.now(),
        asked=epoch,
        asker=epoch,
        reply_to=reply_to,
    )
    own.next += 1
    books.add_requests((request,))
    books.save_lane_in(own)
    return request
