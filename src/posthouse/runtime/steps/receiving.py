"""The steps that take in what callers sent: requests, deposits, acks, cancels.

What can be run at once is claimed in the transaction that stores it. A request that comes again is
never swallowed: its caller is told how it stands.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.contracts.transport import Delivery
from posthouse.errors import StoreDamagedError
from posthouse.message.message import Kind, Lane, Message
from posthouse.protocol.epoch import Identity, Meant, meant_for
from posthouse.protocol.inbox import Known, Request, RequestState, Then, Verdict, judge, step
from posthouse.protocol.lane import SELF, Numbers, place_of
from posthouse.runtime.steps.applying import ReplyRun, add_own, run_to_bytes
from posthouse.runtime.steps.closing import close, close_lost, tops, undecided
from posthouse.runtime.steps.damage import acked as acked_rows
from posthouse.runtime.steps.deciding import end_calls
from posthouse.runtime.steps.deposits import DEPOSIT, keep_refused, key_of, reused
from posthouse.runtime.steps.wire import (
    CANCELED,
    CLOSES,
    IS_CLOSED,
    digest_of,
    floors_to_bytes,
    numbers_acked,
    outcome_bytes,
    outcome_of,
    reply_to,
    stamps_back,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthouse.contracts.store import Books, LaneIn, LaneOut
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.wire import Word

_log: Final = logging.getLogger("posthouse.journal")

# Members that are looked at for each message; in Python 3.11 a look at one through its class takes 70 ns.
_REQUEST, _US, _NEW = Kind.REQUEST, Meant.US, Verdict.NEW
_RECEIVED, _RUNNING = RequestState.RECEIVED, RequestState.RUNNING

_FIRST_LIFE: Final = 1

AT_ONCE: Final = 256
"""Rows that a handler of acks is to hear of are read so many at a time."""


class Arrived(msgspec.Struct, eq=False, gc=False):
    """A message that came for the inbox.

    Attributes:
        message: it.
        frame: as it came.
        delivery: of the transport's copy; None when it came by the direct path.
    """

    message: Message
    frame: bytes
    delivery: Delivery | None = None


class Answer(msgspec.Struct, eq=False, gc=False):
    """A message for a caller.

    Attributes:
        peer: the instance that waits for it, as a hint.
        store: the caller's store, any instance of which may have it; empty for a caller without one.
        message: what it is told.
    """

    peer: str
    store: str
    message: Message


class Received:
    """What some arrivals came to.

    Attributes:
        claimed: requests that are ours to run now, with their messages.
        answers: for their callers.
        backlog: operations for which requests were stored and not claimed.
        strangers: (caller, store that it means): callers that mean another store of our name.
        conflicts: ids of requests whose number another one has.
        lanes: lanes out whose floors may have moved.
        unwanted: calls that a canceled delivery has made, to be canceled at their repliers.
        again: (place, instance, life) of undecided requests that were asked for again: who waits for them now.
    """

    __slots__ = ("again", "answers", "backlog", "claimed", "conflicts", "lanes", "strangers", "unwanted")

    def __init__(self) -> None:
        self.claimed: list[tuple[Request, Message]] = []
        self.answers: list[Answer] = []
        self.backlog: set[str] = set()
        self.strangers: list[tuple[str, str]] = []
        self.conflicts: list[str] = []
        self.lanes: list[LaneOut] = []
        self.unwanted: list[Call] = []
        self.again: list[tuple[int, str, int]] = []


class Receiving:
    """One transaction's worth of arrivals at work.

    Args:
        books: the store's.
        here: our place.
        room: how many requests of an operation may be claimed now.
    """

    def __init__(self, books: Books, here: Here, room: Callable[[str], int]) -> None:
        self.result = Received()
        self._books = books
        self._identity = books.identity
        self._here = here
        self._room_of = room
        self._room: dict[str, int] = {}
        self._new: list[Request] = []
        self._again: list[tuple[int, int, str, int]] = []

    def take(self, arrived: Sequence[Arrived]) -> Received:
        """Take in messages of all kinds, in the order in which they came as far as it matters."""
        lanes: dict[tuple[str, int], list[Arrived]] = {}
        for each in arrived:
            message = each.message
            stamps = message.lane
            if stamps is None:
                if message.kind is _REQUEST:
                    self._adopt(each)
            elif self._is_meant(message, stamps):
                lanes.setdefault((stamps.caller_store, stamps.opened), []).append(each)
        for (store, opened), some in lanes.items():
            self._take_lane(Identity(store, opened), some)
        if self._new:
            self._books.add_requests(self._new)
        if self._again:
            self._books.ask_again(self._again, self._here.now())
            self.result.again += [(place, peer, asker) for _asked, asker, peer, place in self._again]
        return self.result

    # --- whom it is for -------------------------------------------------------------------------------

    def _is_meant(self, message: Message, stamps: Lane) -> bool:
        """Say whether a message is for this life of our store; tell its sender which that is, if not."""
        meant = meant_for(self._identity, stamps.replier_store, stamps.replier_epoch)
        if meant is not _US:
            if meant is Meant.ANOTHER_STORE:
                self.result.strangers.append((message.source, stamps.replier_store))
            self._say("resync", message, stamps, 0, self._floors_for(stamps))
            return False
        return True

    def _floors_for(self, stamps: Lane) -> bytes:
        """Return what was over in the caller's lanes when the first life began of which it has not heard."""
        known = stamps.replier_epoch
        if not known or stamps.replier_store != self._identity.id:
            return b""
        books = self._books
        since = min((life.epoch for life in books.lives() if life.epoch > known), default=0)
        floors = books.floors_at(since) if since else {}
        ours = [lane for lane in books.lanes_in() if lane.caller.id == stamps.caller_store and lane.lane in floors]
        return floors_to_bytes({lane.caller.epoch: floors[lane.lane] for lane in ours})

    # --- lanes ------------------------------------------------------------------------------------------

    def _hold_earlier(self, store: str) -> None:
        """A caller was put back: what it asked for earlier, and is undecided, runs only if it asks for it again.

        A later call of the same key may have been made in the life that was lost. Who runs one now may not decide it.
        """
        for lane in self._books.lanes_in():
            if lane.caller.id == store:
                self._books.hold(lane.lane)

    def _take_lane(self, caller: Identity, some: Sequence[Arrived]) -> None:
        books = self._books
        newest = books.newest_epoch(caller.id)
        epochs = [each.message.lane.caller_epoch for each in some if each.message.lane is not None]
        if (heard := max(epochs)) > newest:
            books.hear_epoch(caller.id, heard)
            if newest:
                self._hold_earlier(caller.id)
            newest = heard
        some = [each for each in some if each.message.lane is not None and each.message.lane.caller_epoch == newest]
        if not some:
            return
        lane = self._lane_of(caller, some[0].message.source)
        if lane is None:
            return
        if lane.closed:
            for each in some:
                if each.message.lane is not None:
                    said: Word = "floor" if each.message.kind is Kind.ACK else "over"
                    self._say(said, each.message, each.message.lane, lane.over.floor, IS_CLOSED)
            return
        floor = 0
        requests: list[Arrived] = []
        changed = False
        for each in some:
            message = each.message
            assert message.lane is not None  # noqa: S101 - they were sorted by their stamps
            floor = max(floor, message.lane.floor)
            if message.kind is _REQUEST:
                requests.append(each)
            elif message.kind is Kind.ACK:
                changed |= self._forget(lane, numbers_acked(message))
                if message.subject == CLOSES:
                    self._end(close(books, lane, message.lane.floor, now=self._here.now()))
                    changed = True
                self._say("floor", message, message.lane, lane.over.floor, IS_CLOSED if lane.closed else b"")
            elif message.type == "probe":
                self._end(close_lost(books, message, Identity(caller.id, newest), now=self._here.now()))
                self._say("tops", message, message.lane, lane.over.floor, tops(books, caller.id))
            elif message.type == "cancel":
                self._cancel(lane, msgspec.structs.replace(message, type=message.subject), message.lane)
                changed = True
        if floor > lane.over.floor:
            changed |= self._forget(lane, Numbers(floor))
        if requests:
            before = lane.next
            self._take_requests(lane, requests)
            changed |= lane.next != before
        if changed:
            books.save_lane_in(lane)

    def _lane_of(self, caller: Identity, service: str) -> LaneIn | None:
        """Return the lane of a caller; None when it is damaged: then nothing is taken from it, and the others go on."""
        try:
            return self._books.lane_from(caller) or self._books.open_lane_in(caller, service)
        except StoreDamagedError as error:
            _log.error("%s; what %s sends is not taken (%s)", error, service, error.code)
            return None

    def _take_requests(self, lane: LaneIn, requests: Sequence[Arrived]) -> None:
        numbers = [each.message.lane.number for each in requests if each.message.lane is not None]
        first, last = min(numbers), max(numbers)
        # Nothing that was never received can be known; most batches lie above all that was.
        known = self._books.known(lane.lane, first, last) if first < lane.next else {}
        decided: list[tuple[int, Message, Lane]] = []
        for each in requests:
            message, stamps = each.message, each.message.lane
            assert stamps is not None  # noqa: S101 - they were sorted by their stamps
            number = stamps.number
            verdict = judge(number, stamps.digest, forgotten=lane.over, known=known.get(number))
            if verdict is _NEW:
                known[number] = self._add(lane, number, each, stamps)
            elif verdict is Verdict.DECIDED:
                decided.append((place_of(lane.lane, number), message, stamps))
            elif verdict is Verdict.OVER:
                self._say("over", message, stamps, lane.over.floor)
            elif verdict is Verdict.CONFLICT:
                self.result.conflicts.append(message.id)
                self._say("conflict", message, stamps, lane.over.floor)
            else:
                self._again.append(
                    (self._identity.epoch, stamps.caller_epoch, message.reply_to, place_of(lane.lane, number))
                )
                if verdict is Verdict.PENDING and known[number].asked < self._identity.epoch:
                    self.result.backlog.add(message.type)  # it waited for this since we were restored
                self._say("parked" if verdict is Verdict.PARKED else "pending", message, stamps, lane.over.floor)
        if decided:
            self._tell_again(lane, decided)

    def _add(self, lane: LaneIn, number: int, each: Arrived, stamps: Lane) -> Known:
        message = each.message
        epoch = self._identity.epoch
        request = Request(
            place_of(lane.lane, number),
            message.id,
            message.type,
            _RECEIVED,
            stamps.digest,
            each.frame,
            due=message.time if message.time < self._here.now() else self._here.now(),
            deadline=message.deadline,
            asked=epoch,
            asker=stamps.caller_epoch,
            reply_to=message.reply_to,
        )
        self._claim(request, message)
        self._new.append(request)
        lane.next = max(lane.next, number + 1)
        return Known(request.state, stamps.digest, epoch, stamps.caller_epoch)

    def _claim(self, request: Request, message: Message) -> None:
        """Claim a new request, if there is room for it here."""
        operation = request.operation
        room = self._room.get(operation)
        if room is None:
            room = self._room_of(operation)
        if room > 0:
            request.state = _RUNNING
            request.instance = self._here.instance
            request.attempt = 1
            self.result.claimed.append((request, message))
        else:
            self.result.backlog.add(operation)
        self._room[operation] = room - 1

    def _tell_again(self, lane: LaneIn, decided: Sequence[tuple[int, Message, Lane]]) -> None:
        rows = {row.place: row for row in self._books.requests_at([place for place, _, _ in decided])}
        for place, message, stamps in decided:
            if (row := rows.get(place)) is not None:
                self._answer(message, stamps, row.outcome, lane.over.floor)

    # --- deposits -----------------------------------------------------------------------------------------

    def _adopt(self, each: Arrived) -> None:
        """Make a deposit a request of this store to itself; its id is its key."""
        message = each.message
        books = self._books
        digest = digest_of(message.type, message.data)
        key = books.key(DEPOSIT, message.id)
        if key is not None:
            if key.digest == digest:
                self._ask_about(message, int(key.reference))
            else:
                self._refuse(each)
            return
        own = books.lane_in(SELF)
        assert own is not None  # noqa: S101 - the contract of the books: it is always there
        epoch = self._identity.epoch
        request = Request(
            place_of(SELF, own.next),
            message.id,
            message.type,
            RequestState.RECEIVED,
            digest,
            each.frame,
            due=self._here.now(),
            deadline=message.deadline,
            asked=epoch,
            asker=epoch,
            reply_to=message.reply_to,
        )
        self._claim(request, message)
        own.next += 1
        books.add_requests((request,))
        books.save_lane_in(own)
        books.add_key(key_of(message.id, digest, request.place, now=self._here.now()))

    def _refuse(self, each: Arrived) -> None:
        """Another request was deposited under this id before: tell who waits, or whoever reads the dead letters."""
        message = each.message
        if message.reply_to:
            self._answer(message, None, outcome_bytes(reused(message.id)), 0)
        else:
            keep_refused(self._books, message, each.frame, now=self._here.now())

    def _ask_about(self, message: Message, place: int) -> None:
        """A deposit came again: whoever waits for its reply is told how it stands."""
        for row in self._books.requests_at((place,)):
            if row.state.decided:
                self._answer(message, None, row.outcome, 0)
            elif message.reply_to:
                self._again.append((row.asked, row.asker, message.reply_to, place))

    # --- acks and cancels -----------------------------------------------------------------------------------

    def _forget(self, lane: LaneIn, acked: Numbers) -> bool:
        """Forget what the caller has applied; return whether that was anything new."""
        before = lane.over.floor
        ranges = [(first, last) for first, last in acked.ranges if not _covers(lane.over, first, last)]
        if acked.floor <= before and not ranges:
            return False
        if self._here.ack_handlers:
            self._run_for_acks(lane, before, acked.floor, ranges)
        if self._identity.epoch > _FIRST_LIFE:  # before, all that is acked is decided
            self._end(undecided(self._books, lane.lane, [(before, acked.floor - 1), *ranges]))
        self._books.forget_requests(lane.lane, below=max(before, acked.floor), ranges=ranges)
        lane.over.merge(acked)
        return True

    def _end(self, rows: Sequence[Request]) -> None:
        """What was undecided goes, since its caller knows how it ended, or knows nothing of it: end what it asked."""
        for row in rows:
            end_calls(self._books, self._books.calls_of(row.place), self.result.lanes, self.result.unwanted)
            if (letter := self._books.dead_at(row.place)) is not None and letter.state == "parked":
                self._books.drop_dead((letter.number,))

    def _run_for_acks(self, lane: LaneIn, before: int, floor: int, ranges: Sequence[tuple[int, int]]) -> None:
        books, now = self._books, self._here.now()
        numbers = set(books.known(lane.lane, before, floor - 1))  # a floor may jump far over numbers without a row
        for first, last in ranges:
            numbers.update(books.known(lane.lane, first, last))
        places = [place_of(lane.lane, number) for number in sorted(numbers)]
        for at in range(0, len(places), AT_ONCE):
            for row in acked_rows(books, places[at : at + AT_ONCE], self._here.ack_handlers, now=now):
                name = self._here.ack_handlers.get(row.operation)
                if name is not None and row.state.decided and row.frame:  # canceled before it came, it has none
                    run = ReplyRun(0, 0, row.frame, row.outcome)
                    add_own(books, row.id, name, run_to_bytes(run), now=now)
                    self.result.backlog.add(name)

    def _cancel(self, lane: LaneIn, message: Message, stamps: Lane) -> None:
        """Decide that a request is not done, if nobody has begun with it; `message` names its operation by now."""
        number = stamps.number
        place = place_of(lane.lane, number)
        if lane.over.holds(number):
            self._say("over", message, stamps, lane.over.floor)
            return
        rows = self._books.requests_at((place,))
        if not rows:
            epoch = self._identity.epoch
            row = Request(
                place,
                message.id,
                message.type,
                RequestState.NOT_DONE,
                stamps.digest,
                b"",
                asked=epoch,
                asker=stamps.caller_epoch,
                outcome=CANCELED,
            )
            self._books.add_requests((row,))
            lane.next = max(lane.next, number + 1)
            self._answer(message, stamps, CANCELED, lane.over.floor)
            return
        (row,) = rows
        if row.state.decided:
            self._answer(message, stamps, row.outcome, lane.over.floor)
        elif (after := step(row.state, Then.CANCEL)) is not None:
            self._books.set_requests(((after, 0.0, CANCELED, place),))
            end_calls(self._books, self._books.calls_of(place), self.result.lanes, self.result.unwanted)
            if (letter := self._books.dead_at(place)) is not None:
                self._books.drop_dead((letter.number,))
            self._answer(message, stamps, CANCELED, lane.over.floor)
        else:
            self._say("pending", message, stamps, lane.over.floor)

    # --- answers --------------------------------------------------------------------------------------------

    def _answer(self, message: Message, stamps: Lane | None, outcome: bytes, floor: int) -> None:
        back = None if stamps is None else stamps_back(stamps, self._identity, floor)
        answer = reply_to(message, outcome_of(outcome), back, source=self._here.service, now=self._here.now())
        self.result.answers.append(Answer(message.reply_to, "" if stamps is None else stamps.caller_store, answer))

    def _say(self, said: Word, message: Message, stamps: Lane, floor: int, data: bytes = b"") -> None:
        told = word(
            said,
            stamps_back(stamps, self._identity, floor),
            id=message.id,
            about=message.type,
            source=self._here.service,
            now=self._here.now(),
            data=data,
        )
        self.result.answers.append(Answer(message.reply_to, stamps.caller_store, told))


def _covers(over: Numbers, first: int, last: int) -> bool:
    """Say whether all of a range are over already."""
    return last < over.floor or any(begin <= first and last <= end for begin, end in over.ranges)
