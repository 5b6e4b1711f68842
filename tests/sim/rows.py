"""Every change of a row, in every commit, is a step that protocol/ knows, and breaks none of its guards.

A step of the store is watched from before to after, within its transaction: what became of calls, requests and lanes
is compared with the tables of protocol/outbox and protocol/inbox. What leaves a process is compared with what its
store had flushed: on a request, a cancel, a reply or an ack the other side acts or forgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from posthouse.message.message import Kind
from posthouse.message.names import service_of
from posthouse.protocol import inbox, outbox
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import SELF, Numbers, lane_of, number_of, place_of
from posthouse.protocol.outbox import CallState
from posthouse.protocol.stream import is_of_feed
from posthouse.runtime.steps.wire import numbers_acked, outcome_bytes, outcome_told
from tests.sim.news_rows import events_too_early, feed_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from posthouse.contracts.store import Books, LaneIn, LaneOut
    from posthouse.contracts.streams import Feed, Stream
    from posthouse.message.message import Lane, Message
    from posthouse.protocol.inbox import Request
    from posthouse.protocol.outbox import Call

T = TypeVar("T")

MANY: Final = 1_000_000

CHANGES: Final = frozenset(
    {
        "add_calls", "set_calls", "set_frames", "add_waiting", "take_waiting", "drop_waiting", "forget_calls",
        "open_lane_out", "save_lane_out", "open_lane_in", "save_lane_in", "add_requests", "claim", "decide", "put_back",
        "set_requests", "revive", "ask_again", "forget_requests", "leave",
        "open_stream", "save_stream", "open_feed", "save_feed", "end_runs",
    }
)  # fmt: skip
"""The methods of the books after which calls, requests, lanes, streams and feeds are looked at again."""

_CALL_STEPS: Final = frozenset((before, after) for (before, _), after in outbox.STEPS.items()) | {
    (CallState.OPEN, CallState.ANSWERED),
    (CallState.CANCEL_WANTED, CallState.ANSWERED),
    (CallState.ANSWERED, CallState.DONE),
    (CallState.ANSWERED, CallState.NOT_DONE),
}
_AFTER_RESTORES: Final = frozenset({(CallState.REDRIVING, CallState.UNKNOWN), (CallState.WAITING, CallState.UNKNOWN)})
"""These no table of outbox has: they depend on in which life the call was made."""

_USED: Final = frozenset({CallState.DONE, CallState.NOT_DONE})
_PENDING: Final = frozenset({CallState.OPEN, CallState.CANCEL_WANTED})
_REQUEST_STEPS: Final = frozenset((before, after) for (before, _), after in inbox.STEPS.items())


class Pages:
    """What a store holds at one moment."""

    def __init__(self, books: Books) -> None:
        self.calls: dict[str, Call] = {call.id: call for call in books.calls_listed(limit=MANY)}
        self.requests: dict[int, Request] = {row.place: row for row in books.requests_listed(limit=MANY)}
        self.lanes_out: dict[int, LaneOut] = {lane.lane: lane for lane in books.lanes_out()}
        self.lanes_in: dict[int, LaneIn] = {lane.lane: lane for lane in books.lanes_in()}
        self.streams: dict[tuple[str, int], Stream] = {(each.topic, each.epoch): each for each in books.streams()}
        self.feeds: dict[int, Feed] = {feed.lane: feed for feed in books.feeds()}
        self.places: dict[int, Call] = {call.place: call for call in self.calls.values() if call.place}


class Watch:
    """Looks at the steps of one service's store, and at what leaves its processes.

    Args:
        service: whose it is.
        tell: is told what is wrong.

    Attributes:
        is_strict: no store has been put back yet: what happens then only must not happen.
    """

    def __init__(self, service: str, tell: Callable[[str], None]) -> None:
        self.service = service
        self.steps = 0
        self.is_strict = True
        self._tell = tell
        self._now: Pages | None = None
        self._flushed: Pages | None = None
        self._flush_is_unseen = False

    def watched(self, name: str, step: Callable[[Books], T]) -> Callable[[Books], T]:
        """Return a step whose changes are looked at."""

        def run(books: Books) -> T:
            before = self._now or Pages(books)
            if self._flush_is_unseen:
                self._flushed, self._flush_is_unseen = before, False
            self._now = None  # if the step fails, what was written is rolled back, perhaps with more
            seen = _Seen(books)
            result = step(cast("Any", seen))
            if not seen.has_changed:
                self._now = before
                return result
            self.steps += 1
            self._now = after = Pages(books)
            for wrong in changes(before, after, is_strict=self.is_strict):
                self._tell(f"{self.service}: {name}: {wrong}")
            return result

        return run

    def flushed(self) -> None:
        """All that is committed is on the disk."""
        self._flushed = self._now
        self._flush_is_unseen = self._now is None

    def put_back(self) -> None:
        """The store is another one now."""
        self._now = self._flushed = None
        self._flush_is_unseen = True

    def forget(self) -> None:
        """What was written last may have been rolled back."""
        self._now = None

    def leaves(self, message: Message) -> None:
        """Look at a message that leaves."""
        if self._flushed is None or message.lane is None:
            return
        for wrong in too_early(self._flushed, message, message.lane):
            said = message.type if message.kind is Kind.CONTROL else message.kind.name.lower()
            self._tell(f"{self.service}: sends {said} {message.id} {message.lane.number}: {wrong}")


class _Seen:
    """Books that notice when something is changed."""

    def __init__(self, books: Books) -> None:
        self.has_changed = False
        self._books = books

    def __getattr__(self, name: str) -> Any:
        if name in CHANGES:
            self.has_changed = True
        return getattr(self._books, name)


# --- what may become of rows ------------------------------------------------------------------------------------


def changes(before: Pages, after: Pages, *, is_strict: bool = True) -> Iterator[str]:
    """Yield what is wrong with what a step did; what only a restore explains, if `is_strict`."""
    for id, call in after.calls.items():
        yield from _call_change(before.calls.get(id), call, is_strict=is_strict)
    for id, call in before.calls.items():
        if id not in after.calls and call.state is not CallState.WAITING and not call.state.final:
            yield f"call {id} was {call.state.name} and is gone"
    for number, lane in after.lanes_out.items():
        yield from _lane_out_change(before.lanes_out.get(number), lane, before, after)
    if is_strict:
        yield from _keys(after)
    for place, row in after.requests.items():
        yield from _request_change(before.requests.get(place), row, before)
    for place, row in before.requests.items():
        if place not in after.requests:
            yield from _request_gone(row, after, is_strict=is_strict)
    for number, lane in after.lanes_in.items():
        yield from _lane_in_change(before.lanes_in.get(number), lane, after)
    yield from feed_changes(before, after)


def _call_change(before: Call | None, call: Call, *, is_strict: bool) -> Iterator[str]:
    state = call.state
    if before is None:
        if state not in {CallState.OPEN, CallState.WAITING}:
            yield f"call {call.id} begins as {state.name}"
        return
    steps = _CALL_STEPS if is_strict else _CALL_STEPS | _AFTER_RESTORES
    if state is not before.state and (before.state, state) not in steps:
        yield f"call {call.id} was {before.state.name} and is {state.name}"
    if before.place not in {0, call.place}:
        yield f"call {call.id} has another number"
    if state is before.state and (state.final or state is CallState.ANSWERED) and call.outcome != before.outcome:
        yield f"call {call.id} is {state.name} with another outcome"
    if before.state is CallState.ANSWERED and state in _USED and call.outcome != before.outcome:
        yield f"call {call.id} ends with another outcome than the one that was used"


def _lane_out_change(before: LaneOut | None, lane: LaneOut, old: Pages, new: Pages) -> Iterator[str]:
    what = f"lane {lane.lane} to {lane.service}"
    calls = [call for place, call in new.places.items() if lane_of(place) == lane.lane]
    fresh = sorted(number_of(call.place) for call in calls if call.place not in old.places)
    first = 0 if before is None else before.next
    if fresh != list(range(first, lane.next)):
        yield f"{what}: numbers {fresh} were given, from {first}, and the next is {lane.next}"
    if before is not None and before.peer == lane.peer:
        if not _covers(lane.final, before.final):
            yield f"{what}: what was final is not: {before.final} and {lane.final}"
        if lane.acked < before.acked:
            yield f"{what}: the replier's floor falls from {before.acked} to {lane.acked}"
    for call in calls:
        if call.state.final is not lane.final.holds(number_of(call.place)):
            yield f"{what}: call {call.id} is {call.state.name}, and the floor is {lane.final}"
    pending = sum(call.state in _PENDING and not call.parked for call in calls)
    if lane.pending != pending:
        yield f"{what}: {pending} calls are under way, and {lane.pending} are counted"
    newest = max(each.epoch for each in new.lanes_out.values() if each.service == lane.service)
    waiting = sum(call.state is CallState.WAITING and call.service == lane.service for call in new.calls.values())
    waiting *= lane.epoch == newest
    if lane.waiting != waiting:
        yield f"{what}: {waiting} calls wait, and {lane.waiting} are counted"


def _keys(after: Pages) -> Iterator[str]:
    under_way: dict[tuple[str, str], str] = {}
    for call in after.places.values():
        if call.key and call.state.asked:
            other = under_way.setdefault((call.service, call.key), call.id)
            if other != call.id:
                yield f"calls {other} and {call.id} of key {call.key!r} are both under way"


def _request_change(before: Request | None, row: Request, old: Pages) -> Iterator[str]:
    state, what = row.state, f"request {row.id}"
    if before is None:
        begins = {RequestState.RECEIVED: 0, RequestState.RUNNING: 1, RequestState.NOT_DONE: 0}
        if begins.get(state) != row.attempt:
            yield f"{what} begins as {state.name}, attempt {row.attempt}"
        lane = old.lanes_in.get(lane_of(row.place)) or old.feeds.get(lane_of(row.place))
        if lane is not None and lane.over.holds(number_of(row.place)):
            yield f"{what} is there again, below the floor {lane.over}"
        return
    if state is not before.state and (before.state, state) not in _REQUEST_STEPS:
        yield f"{what} was {before.state.name} and is {state.name}"
    claimed = state is RequestState.RUNNING and before.state is not RequestState.RUNNING
    if row.attempt != before.attempt + claimed:
        yield f"{what}: attempt {before.attempt} became {row.attempt}, {before.state.name} became {state.name}"
    if state is before.state is RequestState.RUNNING and row.instance != before.instance:
        yield f"{what} went from {before.instance} to {row.instance} without being let go"
    if before.state.decided and row.outcome != before.outcome:
        yield f"{what} was decided, and has another outcome"


def _request_gone(row: Request, after: Pages, *, is_strict: bool) -> Iterator[str]:
    lane = lane_of(row.place)
    if is_of_feed(lane):
        if not after.feeds[lane].over.holds(number_of(row.place)):
            yield f"event {row.id} is gone, and its number is not over"
        return
    if lane == SELF and (row.state is RequestState.RUNNING or not is_strict):
        return  # a run for a reply or an ack is decided and forgotten at once; or its answer was taken back
    if is_strict and not row.state.decided:
        yield f"request {row.id} was {row.state.name} and is gone"
    elif lane != SELF and not after.lanes_in[lane].over.holds(number_of(row.place)):
        yield f"request {row.id} is gone, and its number is not over"


def _lane_in_change(before: LaneIn | None, lane: LaneIn, new: Pages) -> Iterator[str]:
    what = f"lane {lane.lane} from {lane.service or 'the store itself'}"
    if before is not None:
        if not _covers(lane.over, before.over):
            yield f"{what}: the floor falls from {before.over} to {lane.over}"
        if lane.next < before.next:
            yield f"{what}: the next number falls from {before.next} to {lane.next}"
    for place, row in new.requests.items():
        if lane_of(place) == lane.lane and lane.over.holds(number_of(place)):
            yield f"{what}: request {row.id} ({number_of(place)}) is {row.state.name}, and below the floor {lane.over}"


def _covers(now: Numbers, before: Numbers) -> bool:
    """Say whether all that was over still is."""
    edges = [number for first, last in before.ranges for number in (first, last)]
    return now.floor >= before.floor and all(map(now.holds, edges))


# --- what may leave ------------------------------------------------------------------------------------------------


def too_early(flushed: Pages, message: Message, stamps: Lane) -> Iterator[str]:
    """Yield why a message leaves too early: the other side acts on what the disk does not hold yet."""
    if message.kind is Kind.REQUEST or (message.kind is Kind.CONTROL and message.type == "cancel"):
        call = flushed.calls.get(message.id)
        if call is None or number_of(call.place) != stamps.number or call.state is CallState.WAITING:
            yield "the call is not on the disk"
        elif message.kind is Kind.CONTROL and call.state is CallState.OPEN:
            yield "that it is not wanted is not on the disk"
        service = service_of(message.type if message.kind is Kind.REQUEST else message.subject)
        lane = _lane_to(flushed, service, stamps)
        if lane is not None and stamps.floor > lane.final.floor:
            yield f"it tells the floor {stamps.floor}, and on the disk it is {lane.final.floor}"
    elif message.kind is Kind.ACK:
        lane = _lane_to(flushed, message.type, stamps)
        if lane is not None and not _covers(lane.final, numbers_acked(message)):
            yield "what it acks is not final on the disk"
    elif message.kind is Kind.EVENT or message.type == "heads":
        yield from events_too_early(flushed.streams, message, stamps)
    elif message.kind is Kind.REPLY or message.type in {"over", "floor"}:
        yield from _told_too_early(flushed, message, stamps)


def _told_too_early(flushed: Pages, message: Message, stamps: Lane) -> Iterator[str]:
    lanes = [
        lane
        for lane in flushed.lanes_in.values()
        if (lane.caller.id, lane.caller.epoch) == (stamps.caller_store, stamps.opened)
    ]
    if not lanes:
        yield "its lane is not on the disk"
        return
    [lane] = lanes
    if stamps.floor > lane.over.floor:
        yield f"it tells the floor {stamps.floor}, and on the disk it is {lane.over.floor}"
    if message.kind is not Kind.REPLY or lane.over.holds(stamps.number):
        return
    row = flushed.requests.get(place_of(lane.lane, stamps.number))
    if row is None or not row.state.decided or row.outcome != outcome_bytes(outcome_told(message)):
        yield "that outcome is not on the disk"


def _lane_to(flushed: Pages, service: str, stamps: Lane) -> LaneOut | None:
    """Return the lane that stamps name, unless it leads to another life of its store by now: that does not listen."""
    for lane in flushed.lanes_out.values():
        if (lane.service, lane.epoch) == (service, stamps.opened):
            return lane if lane.peer == Identity(stamps.replier_store, stamps.replier_epoch) else None
    return None
