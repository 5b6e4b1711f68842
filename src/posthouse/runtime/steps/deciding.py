"""The steps that end the run of a handler: decide its request, or put it back.

Whoever decides must still hold the claim, and the answers that the handler used must still be those that
are stored; else nothing of it is kept. What it asked and what it decided commit together.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.contracts.store import Deceased
from posthouse.errors import LeaseLostError
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import SELF, lane_of, number_of, place_of
from posthouse.protocol.outbox import CallState, Heard, step, used
from posthouse.protocol.stream import FEEDS, is_of_feed
from posthouse.runtime.steps.asking import Asked, Asking, store
from posthouse.runtime.steps.telling import Telling, tell
from posthouse.runtime.steps.wire import outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books, LaneOut
    from posthouse.errors import PosthouseError
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.telling import Pushed


FIRST_OF_FEEDS: Final = place_of(FEEDS, 0)
"""Places from here on are those of events."""


class Ended(enum.Enum):
    """What became of an attempt to decide."""

    WELL = enum.auto()
    FENCED = enum.auto()
    """Another attempt has the request; this one leaves nothing."""
    ANSWERS_CHANGED = enum.auto()
    """The replier took back an answer that the handler used; it must run again."""


_WELL: Final = Ended.WELL
"""As looked at for each run; in Python 3.11 a look at a member through its class takes 70 ns."""


class Decision(msgspec.Struct, eq=False, gc=False):
    """The end of a run, with all that commits with it.

    Attributes:
        place: of the request.
        attempt: of the claim.
        state: DONE or NOT_DONE.
        outcome: as it is stored.
        keeps_frame: somebody will want the request itself: who hears of the ack.
        letter: the dead letter that it leaves.
        asks: what the handler sent.
        tells: what it published.
        used: (place, epoch of the answer) of the calls whose outcome it used.
        calls: whether it made calls, in this run or an earlier one.
        ours: it ran for a reply or an ack, so that nobody will ask what came of it.
    """

    place: int
    attempt: int
    state: RequestState
    outcome: bytes
    keeps_frame: bool = False
    letter: Deceased | None = None
    asks: Sequence[Asked] = ()
    tells: Sequence[Telling] = ()
    used: Sequence[tuple[int, int]] = ()
    calls: bool = False
    ours: bool = False


class Decided:
    """What deciding came to.

    Attributes:
        ended: for each Decision, in order.
        asking: what storing the calls of all of them came to; None when there were none.
        lanes: lanes out whose floors may have moved.
        unwanted: calls that are to be canceled at their repliers, and were asked in vain.
        told: events that were stored.
        had: numbers of events that are over now, by the lane of their feed.
    """

    __slots__ = ("asking", "ended", "had", "lanes", "told", "unwanted")

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.asking: Asking | None = None
        self.lanes: list[LaneOut] = []
        self.unwanted: list[Call] = []
        self.told: Sequence[Pushed | PosthouseError] = ()
        self.had: dict[int, list[int]] = {}

    def are_over(self, books: Books) -> None:
        """Write which events were had."""
        for lane, numbers in self.had.items():
            events_over(books, lane, numbers)


class PutBack:
    """The end of a run that decides nothing.

    Attributes:
        operation: what ran.
        place: of the request.
        attempt: of the claim.
        state: RECEIVED, SUSPENDED or PARKED.
        due: when it may be claimed again.
        failures: how often its handler failed by now.
        deaths: how often its instance died at it.
        letter: the dead letter of a parked one.
        awaits: ids of the calls for which a suspended one waits.
    """

    __slots__ = ("attempt", "awaits", "deaths", "due", "failures", "letter", "operation", "place", "state")

    def __init__(
        self, operation: str, place: int, attempt: int, state: RequestState, *, due: Instant, failures: int, deaths: int
    ) -> None:
        self.operation = operation
        self.place = place
        self.attempt = attempt
        self.state = state
        self.due = due
        self.failures = failures
        self.deaths = deaths
        self.letter: Deceased | None = None
        self.awaits: Sequence[str] = ()


def decide(books: Books, decisions: Sequence[Decision], here: Here, *, together: bool) -> Decided:
    """Decide what has ended, with all that its handlers asked.

    Args:
        books: the store's.
        decisions: what was decided.
        here: our place.
        together: they share one transaction of the user's, so that all of them commit or none.

    Raises:
        LeaseLostError: `together`, and one is not ours any more, or used an answer that was taken back.
        QueueFullError: what a handler sent finds no room.
    """
    result = Decided()
    asks: list[Asked] = []
    tells: list[Telling] = []
    had = _end_events(books, decisions, here)
    for decision in decisions:
        ended = had.get(decision.place) if had else None
        if ended is None:
            ended = _decide_one(books, decision, here, result)
        elif ended is _WELL:
            result.had.setdefault(lane_of(decision.place), []).append(number_of(decision.place))
            if decision.letter is not None:
                books.add_dead(decision.letter)
        result.ended.append(ended)
        if ended is _WELL:
            asks += decision.asks
            tells += decision.tells
        elif together:
            raise LeaseLostError(f"request {decision.place} is not ours to decide any more ({ended.name.lower()})")
    result.are_over(books)
    if tells:
        result.told = tell(books, tells, here)
    if asks:
        result.asking = store(books, asks, here)
        for stored in result.asking.stored:
            if stored.error is not None:  # the handler has not ended well after all
                raise stored.error
    return result


def put_back(books: Books, rows: Sequence[PutBack], *, instance: str, now: Instant) -> list[bool]:
    """Let go of requests that are not decided; return for each whether the instance still held it."""
    kept: list[bool] = []
    for row in rows:
        state, due = row.state, row.due
        if state is RequestState.SUSPENDED and not _can_rest(books, row):
            state, due = RequestState.RECEIVED, now
        held = books.put_back(
            row.place,
            instance=instance,
            attempt=row.attempt,
            state=state,
            due=due,
            failures=row.failures,
            deaths=row.deaths,
        )
        if held and row.letter is not None:
            books.add_dead(row.letter)
        if held and state is RequestState.PARKED and is_of_feed(lane_of(row.place)):  # the others pass it by
            events_over(books, lane_of(row.place), (number_of(row.place),))
        kept.append(held)
    return kept


def _can_rest(books: Books, row: PutBack) -> bool:
    """Say whether there is a call whose answer will wake it, and none that was answered before this step."""
    calls = [call for id in row.awaits if (call := books.call(id)) is not None and call.work == row.place]
    return bool(calls) and all(call.state.asked or call.state is CallState.WAITING for call in calls)


def _decide_one(books: Books, decision: Decision, here: Here, result: Decided) -> Ended:
    calls = books.calls_of(decision.place) if decision.calls else []
    expected = dict(decision.used)
    if expected:
        at = {call.place: call for call in calls}
        for call in books.calls_at([place for place in expected if place not in at]):  # the call of a reply handler
            at[call.place] = call
        for place, epoch in expected.items():
            call = at.get(place)
            if call is None or not _stands(call, epoch):
                return Ended.ANSWERS_CHANGED
        calls = list(at.values())
    if is_of_feed(lane_of(decision.place)):
        return _end_event(books, decision, calls, here, result)
    decided = books.decide(
        decision.place,
        instance=here.instance,
        attempt=decision.attempt,
        state=decision.state,
        outcome=decision.outcome,
        frame=None if decision.keeps_frame else b"",
    )
    if not decided:
        return Ended.FENCED
    if decision.letter is not None:
        books.add_dead(decision.letter)
    if decision.ours:  # nobody will ask for it
        number = number_of(decision.place)
        books.forget_requests(SELF, below=0, ranges=((number, number),))
    if calls:
        end_calls(books, calls, result.lanes, result.unwanted)
    return _WELL


def _end_events(books: Books, decisions: Sequence[Decision], here: Here) -> dict[int, Ended]:
    """End at once the runs of events that used no answers; return by place how."""
    plain = [
        (decision.place, decision.attempt)
        for decision in decisions
        if decision.place >= FIRST_OF_FEEDS and not decision.calls and not decision.used
    ]
    if not plain:
        return {}
    held = books.end_runs(plain, instance=here.instance)
    return {place: _WELL if was_held else Ended.FENCED for (place, _), was_held in zip(plain, held, strict=True)}


def _end_event(books: Books, decision: Decision, calls: Sequence[Call], here: Here, result: Decided) -> Ended:
    """Count an event whose handler made calls as had: its row goes, since nobody will ask what came of it."""
    if not all(books.end_runs(((decision.place, decision.attempt),), instance=here.instance)):
        return Ended.FENCED
    result.had.setdefault(lane_of(decision.place), []).append(number_of(decision.place))
    if decision.letter is not None:
        books.add_dead(decision.letter)
    if calls:
        end_calls(books, calls, result.lanes, result.unwanted)
    return _WELL


def events_had(books: Books, *, places: Sequence[int], instance: str) -> list[bool]:
    """Count events as had that were run for the first time, and left nothing; return for each whether it was ours."""
    held = books.end_runs([(place, 1) for place in places], instance=instance)
    had: dict[int, list[int]] = {}
    for place, was_held in zip(places, held, strict=True):
        if was_held:
            had.setdefault(lane_of(place), []).append(number_of(place))
    for lane, numbers in had.items():
        events_over(books, lane, numbers)
    return held


def events_over(books: Books, lane: int, numbers: Iterable[int]) -> None:
    """Count events of a feed as had."""
    feed = books.feed(lane)
    if feed is not None:
        feed.over.add_all(numbers)
        books.save_feed(feed)


def _stands(call: Call, epoch: int) -> bool:
    """Say whether an answer is still the one that was used. What is final already changes no more."""
    return call.state.final or (call.state is CallState.ANSWERED and call.outcome_epoch == epoch)


def end_calls(books: Books, calls: Sequence[Call], lanes: list[LaneOut], unwanted: list[Call]) -> None:
    """Make what was answered final, and cancel what was asked in vain: the delivery that asked has ended.

    Args:
        books: the store's.
        calls: of the delivery.
        lanes: is given the lanes whose floors may have moved.
        unwanted: is given the calls that are to be canceled at their repliers.
    """
    updates: list[tuple[CallState, bytes, int, bool, int]] = []
    final: dict[int, list[int]] = {}
    for call in calls:
        if call.state is CallState.ANSWERED:
            state = used(done=outcome_of(call.outcome).done)
            updates.append((state, call.outcome, call.outcome_epoch, False, call.place))
            final.setdefault(lane_of(call.place), []).append(number_of(call.place))
        elif call.state is CallState.WAITING:
            books.drop_waiting(call.id)
            lane = books.lane_to(call.service)
            if lane is not None:
                lane.waiting -= 1
                books.save_lane_out(lane)
        elif (after := step(call.state, Heard.CANCEL)) is not None and not call.state.final:
            call.state = after
            updates.append((after, call.outcome, call.outcome_epoch, call.parked, call.place))
            unwanted.append(call)
    if updates:
        books.set_calls(updates)
    for number, numbers in final.items():
        lane = books.lane_out(number)
        if lane is not None:
            lane.final.add_all(numbers)
            books.save_lane_out(lane)
            lanes.append(lane)
