"""The replier's side at work: stores requests, brings them to their runners, ends them in the books, answers.

What arrives in one turn of the loop is one step, and so is all that ends in one. A request that cannot
be claimed at once waits in the store, not here: any instance may take it.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from posthouse.contracts.flushing import NotFlushedError
from posthouse.contracts.store import Deceased
from posthouse.contracts.transport import ACCEPTED
from posthouse.errors import DeadlyError, PosthouseError, UnavailableError
from posthouse.flow.backoff import full_jitter
from posthouse.flow.credit import Credit
from posthouse.message.codec import decode
from posthouse.message.message import Kind, Message, Mode
from posthouse.protocol.inbox import DEATHS, Request, RequestState
from posthouse.protocol.lane import SELF, lane_of
from posthouse.protocol.stream import is_of_feed
from posthouse.runtime.steps.applying import run_of
from posthouse.runtime.steps.damage import sound
from posthouse.runtime.steps.deciding import Ended, PutBack, decide, events_had, put_back
from posthouse.runtime.steps.receiving import Answer, Receiving
from posthouse.runtime.steps.wire import outcome_of, reply_to, stamps_back
from posthouse.runtime.timers import timers_of
from posthouse.runtime.workplace import Claim, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books, LaneOut, Store, Tail
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.journal.outbox import Outbox
    from posthouse.runtime.journal.publisher import Publisher
    from posthouse.runtime.journal.relay import Relay
    from posthouse.runtime.runner import Runner
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settler import Settler
    from posthouse.runtime.steps.deciding import Decided, Decision
    from posthouse.runtime.steps.feeding import Fed
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.receiving import Arrived, Received
    from posthouse.runtime.steps.telling import Pushed
    from posthouse.runtime.timers import Timer

T = TypeVar("T")

_log: Final = logging.getLogger("posthouse.journal")

# Members that are looked at for each message; in Python 3.11 a look at one through its class takes 70 ns.
_REQUEST, _REPLY, _CONTROL = Kind.REQUEST, Kind.REPLY, Kind.CONTROL
_WELL: Final = Ended.WELL

LOOK: Final[Seconds] = 1.0
"""How often an instance looks for requests that another one has stored or put back."""

TAKE_OVER: Final[Seconds] = 2.0
"""How often dead instances are looked for."""

_IDLE_WORDS: Final = frozenset({"pending", "parked", "resync"})

_OWN_RUNS: Final = frozenset({"on_reply", "on_ack", "on_gap"})

AT_ONCE: Final = 128
"""The most requests of one step."""


class Place:
    """What runs one operation here, and how much of it may be claimed.

    Attributes:
        runner: runs it.
        credit: how much is claimed.
        backlog: requests may be there that nobody has claimed.
        claiming: a step that claims is under way.
        again: something was stored or put back since that step was begun.
        suspect: the place of the suspect that runs here; None for none.
        timer: set for the next request that is due.
    """

    __slots__ = ("again", "backlog", "claiming", "credit", "runner", "suspect", "timer")

    def __init__(self, runner: Runner, now: float) -> None:
        self.runner = runner
        wanted = max(runner.slots.limit, 2 * runner.batch if runner.batch > 1 else 1)
        self.credit = Credit(wanted, measured_at=now)
        self.backlog = True
        self.claiming = False
        self.again = False
        self.suspect: int | None = None
        self.timer: Timer | None = None


class Ending:
    """The end of one run of a handler, of one request or of a batch.

    Attributes:
        works: what ran.
        decisions: what became of each.
        tail: the handler's own transaction, if it opened one.
        alone: all of it commits, or nothing, and it may fail without others failing with it.
        told: is told of each that was not decided, and why.
    """

    __slots__ = ("alone", "decisions", "tail", "told", "works")

    def __init__(
        self,
        works: Sequence[Work],
        decisions: Sequence[Decision],
        tail: Tail | None,
        told: Callable[[Work, Ended | BaseException], None],
    ) -> None:
        self.works = works
        self.decisions = decisions
        self.tail = tail
        self.told = told
        self.alone = tail is not None or len(works) > 1 or bool(decisions[0].asks)


class Inbox:
    """All requests to one service, as far as this process has to do with them."""

    def __init__(
        self,
        store: Store,
        here: Here,
        courier: Courier,
        outbox: Outbox,
        relay: Relay,
        *,
        publisher: Publisher,
        settler: Settler,
        seams: Seams,
    ) -> None:
        self._store = store
        self._here = here
        self._courier = courier
        self._outbox = outbox
        self._relay = relay
        self._settler = settler
        self._rng = seams.rng
        self._loop = asyncio.get_running_loop()
        self._timers = timers_of(seams.clock)
        self._places: dict[str, Place] = {}
        self._arrived: list[Arrived] = []
        self._endings: list[Ending] = []
        self._had: list[tuple[Work, Callable[[Work, Ended | BaseException], None]]] = []
        self._running: dict[int, Work] = {}
        self._put_back: list[PutBack] = []
        self._timer: Timer | None = None
        self._take_over = 0.0
        self._unserved: set[str] = set()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._taking = True
        self._told: Callable[[Sequence[Pushed | PosthouseError]], None] = publisher.push
        self.on_room: Callable[[str], None] = _nothing
        outbox.on_work = self.look

    # --- life ---------------------------------------------------------------------------------------------

    def serve(self, runners: Iterable[Runner]) -> None:
        """Begin to claim for these runners."""
        now = self._timers.time()
        self._taking = True  # again, after a drain
        if self._timer is not None:
            self._timer.cancel()
        for runner in runners:
            self._places[runner.name] = Place(runner, self._loop.time())
            name = runner.name
            runner.on_low = lambda name=name: self._low(name)
        self._take_over = now
        self.look(self._places)
        self._look_around()
        self._look_for_unserved()

    def stop(self) -> None:
        """Claim nothing more; what is here ends as usual."""
        self._taking = False
        for place in self._places.values():
            if place.timer is not None:
                place.timer.cancel()

    def close(self) -> None:
        """Stop the timers."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def ended(self) -> None:
        """Wait until everything that was handed over is in the books."""
        while self._under_way or self._endings or self._had or self._put_back or self._arrived:
            self._idle.clear()
            await self._idle.wait()

    # --- what arrives -------------------------------------------------------------------------------------

    def arrive(self, arrived: Iterable[Arrived]) -> None:
        """Take in messages of callers."""
        if not self._arrived:
            self._loop.call_soon(self._receive)
        self._arrived.extend(arrived)

    def _receive(self) -> None:
        everything, self._arrived = self._arrived, []
        for first in range(0, len(everything), AT_ONCE):
            self._receive_some(everything[first : first + AT_ONCE])

    def _receive_some(self, arrived: Sequence[Arrived]) -> None:
        flush = any(each.message.lane is None or each.message.kind is _CONTROL for each in arrived)
        self._run(
            lambda books: Receiving(books, self._here, self._room).take(arrived),
            lambda received: self._received(arrived, received),
            name="receive",
            flush=flush,
            weight=len(arrived),
            refused=lambda error: self._not_received(arrived, error),
        )

    def feed(
        self,
        step: Callable[[Books, Callable[[str], int]], Fed],
        then: Callable[[Fed], object],
        *,
        name: str,
        weight: int = 1,
    ) -> None:
        """Run a step that stores events, and may claim them at once.

        Args:
            step: is given the books, and how many of a subscription may be claimed.
            then: is given what came of it.
            name: of the step.
            weight: how many events it is about.
        """

        def fed(result: Fed) -> None:
            self._hand_over(result.claimed)
            self.look(result.backlog)
            then(result)

        self._run(lambda books: step(books, self._room), fed, name=name, weight=weight)

    def _not_received(self, arrived: Sequence[Arrived], error: BaseException) -> None:
        """One of these cannot be taken in, now or later: let it not hold back the others."""
        if len(arrived) > 1:
            for each in arrived:
                self._receive_some((each,))
            return
        [each] = arrived
        _log.error("%s: message %s could not be taken in", self._here.service, each.message.id, exc_info=error)

    def _room(self, operation: str) -> int:
        place = self._places.get(operation)
        if place is None or not self._taking or place.backlog:  # what waits already goes first
            return 0
        wanted = self._wanted(place)
        if wanted <= 0:
            place.runner.low_water = place.credit.low_water
        return wanted

    def has_room(self, name: str) -> bool:
        """Say whether more of a subscription's events would be claimed now; if not, `on_room` tells when."""
        place = self._places.get(name)
        if place is None or place.backlog:
            return False
        if place.runner.pressing <= place.credit.low_water:
            return True
        place.runner.low_water = place.credit.low_water
        return False

    def _wanted(self, place: Place) -> int:
        runner, credit = place.runner, place.credit
        credit.done += runner.done
        runner.done = 0
        return credit.ask(held=runner.pressing, now=self._loop.time())

    def _received(self, arrived: Sequence[Arrived], received: Received) -> None:
        for each in arrived:
            if each.delivery is not None:
                self._settler.add(each.delivery, ACCEPTED)
        self._hand_over(received.claimed)
        for place, peer in received.waits:  # a run that is under way answers who waits now
            work = self._running.get(place)
            if work is not None and work.message.reply_to != peer:
                work.message = msgspec.structs.replace(work.message, reply_to=peer)
        if received.answers:
            self._answer_again(received.answers)
        for caller, meant in received.strangers:
            _log.error(
                "%s: %s asks for another store of ours (%s...), and was refused; do two instances have different data"
                " directories?",
                self._here.service,
                caller,
                meant[:8],
            )
        for id in received.conflicts:
            _log.error("%s: request %s has the number of another one, and was not taken", self._here.service, id)
        if received.unwanted:  # whoever is told so acts on it
            self._run(_nothing, lambda _: self._moved(received.lanes, received.unwanted), name="answer", flush=True)
        else:
            self._moved(received.lanes, ())
        self.look(received.backlog)
        if not received.backlog <= self._places.keys() | self._unserved:
            self._look_for_unserved()

    def _answer_again(self, answers: Sequence[Answer]) -> None:
        """Answer what came again, or was acked.

        On an outcome, or on how far we have forgotten, the caller acts: both may have been committed by another
        instance of ours that has not flushed it yet. Whoever is told to wait acts on nothing.
        """
        waits = [answer for answer in answers if answer.message.type in _IDLE_WORDS]
        if waits:
            self._courier.answer(waits)
        acts = [answer for answer in answers if answer.message.type not in _IDLE_WORDS]
        if acts:
            self._run(_nothing, lambda _: self._courier.answer(acts), name="answer", flush=True)

    def _hand_over(self, claimed: Sequence[tuple[Request, Message]]) -> None:
        if not self._taking:  # a drain has begun meanwhile, and nobody would wait for their handlers
            self._let_go([request for request, _message in claimed])
            return
        by_operation: dict[str, list[Work]] = {}
        for request, message in claimed:
            claim = Claim(request.place, request.attempt, request.failures, request.deaths, request.operation)
            if message.kind is _REPLY:
                run = run_of(request.frame)
                claim.uses = (run.call, run.epoch) if run.call else None
            work = self._running[request.place] = Work(message, None, claim)
            by_operation.setdefault(request.operation, []).append(work)
        for operation, works in by_operation.items():
            self._places[operation].runner.take(works)

    def _let_go(self, claimed: Sequence[Request]) -> None:
        """Put requests back that nobody has begun with."""
        if claimed and not self._put_back:
            self._loop.call_soon(self._put_all_back)
        for request in claimed:
            row = PutBack(
                request.operation,
                request.place,
                request.attempt,
                RequestState.RECEIVED,
                due=request.due,
                failures=request.failures,
                deaths=request.deaths,
            )
            self._put_back.append(row)

    # --- claiming -------------------------------------------------------------------------------------------

    def look(self, operations: Iterable[str]) -> None:
        """Claim for these operations, as far as there is room: something was stored or put back."""
        named = frozenset(operations)
        if not named:
            return
        for name, place in self._places.items():  # in an order that is the same in every run
            if name in named:
                place.backlog = place.again = True
                self._claim_for(place)

    def _low(self, name: str) -> None:
        place = self._places[name]
        place.runner.low_water = -1  # once is enough: whoever finds no room sets it again
        if place.backlog:
            self._claim_for(place)
        else:
            self.on_room(name)

    def _claim_for(self, place: Place) -> None:
        if place.claiming or not self._taking:
            return
        wanted = min(AT_ONCE, self._wanted(place))
        if wanted <= 0:
            place.runner.low_water = place.credit.low_water
            return
        place.claiming, place.again = True, False
        self._run(
            lambda books: self._claim(books, place, wanted),
            lambda claimed: self._claimed(place, wanted, claimed),
            name="claim",
            failed=lambda: self._claim_failed(place),
        )

    def _claim(self, books: Books, place: Place, wanted: int) -> tuple[list[Request], float | None, list[str]]:
        now = self._here.now()
        name = place.runner.name
        damaged: list[str] = []

        def read() -> list[Request]:
            claimed = books.claimable(name, now, 1, suspects=True) if place.suspect is None else []
            return claimed + (books.claimable(name, now, wanted - len(claimed)) if len(claimed) < wanted else [])

        claimed = sound(read, books, damaged, now=now)
        if claimed:
            books.claim(self._here.instance, [request.place for request in claimed])
        due = books.next_due(name)
        if due is not None and due <= now:
            due = None  # beyond what was wanted, or suspects: they wait for the one that runs, whose end looks again
        return claimed, due, damaged

    def _claimed(self, place: Place, wanted: int, result: tuple[list[Request], float | None, list[str]]) -> None:
        claimed, due, damaged = result
        self._tell_of(damaged)
        place.claiming = False
        works: list[tuple[Request, Message]] = []
        for request in claimed:
            request.attempt += 1
            if request.deaths:
                place.suspect = request.place
            works.append((request, self._message_of(request)))
        self._hand_over(works)
        place.backlog = place.again or len(claimed) >= wanted
        if place.backlog:
            self._claim_for(place)
            return
        self.on_room(place.runner.name)
        if due is not None and due != float("inf"):
            self._wake_at(place, due)

    def _tell_of(self, damaged: Sequence[str]) -> None:
        for text in damaged:
            _log.error("%s: %s; it is parked, and the others go on (`posthouse dead ls`)", self._here.service, text)

    def _claim_failed(self, place: Place) -> None:
        place.claiming = False  # the next look tries again

    def _message_of(self, request: Request) -> Message:
        if lane_of(request.place) == SELF and request.operation.split(".")[1] in _OWN_RUNS:
            if request.operation.split(".")[1] == "on_gap":
                return _gap_message(request, self._here)
            run = run_of(request.frame)
            of = decode(run.request) if run.request else None
            return Message(
                Kind.REPLY,
                request.id,
                request.operation,
                self._here.service if of is None else of.source,
                self._here.now() if of is None else of.time,
                request.frame,
                Mode.JOURNALED,
            )
        message = decode(request.frame)
        if message.reply_to != request.reply_to:
            message = msgspec.structs.replace(message, reply_to=request.reply_to)
        return message

    def _wake_at(self, place: Place, due: float) -> None:
        if place.timer is not None:
            place.timer.cancel()
        wait = max(0.0, due - self._here.now())
        place.timer = self._timers.call_later(wait, self.look, (place.runner.name,))

    def _look_around(self) -> None:
        """Once a second: what nobody told us of."""
        self._timer = self._timers.call_later(LOOK, self._look_around)
        if not self._taking:
            return
        self._look_for_due()
        now = self._timers.time()
        if now >= self._take_over:
            self._take_over = now + TAKE_OVER
            self._heed(self._store.read(lambda books: books.dead(self._here.now())), self._bury)

    def _look_for_due(self) -> None:
        self._heed(self._store.read(self._due), self.look)

    def _look_for_unserved(self) -> None:
        self._heed(self._store.read(lambda books: books.waiting_requests()), self._tell_of_unserved)

    def _tell_of_unserved(self, waiting: dict[str, int]) -> None:
        """Say of each operation that nobody runs here that requests wait for it; once in the life of a process."""
        for name in sorted(waiting.keys() - self._places.keys() - self._unserved):
            self._unserved.add(name)
            _log.warning(
                "%s: requests that wait for %s: %d. This instance has no journaled handler of that (removed, renamed,"
                " or of another mode now?): they wait until an instance that has one is there",
                self._here.service,
                name,
                waiting[name],
            )

    def _due(self, books: Books) -> list[str]:
        now = self._here.now()
        return [name for name in self._places if (due := books.next_due(name)) is not None and due <= now]

    def _bury(self, dead: list[str]) -> None:
        if dead:
            self._run(self._take_over_dead, self._took_over, name="take over")

    def _took_over(self, result: tuple[set[str], list[str]]) -> None:
        operations, damaged = result
        self._tell_of(damaged)
        self.look(operations)

    def _heed(self, done: asyncio.Future[T], then: Callable[[T], object]) -> None:
        """Go on with what was read; if it could not be, the next look tries again."""

        def over(done: asyncio.Future[T]) -> None:
            if done.cancelled() or not self._taking:
                return
            if (error := done.exception()) is None:
                then(done.result())
            else:
                _log.warning("the store of %s could not be read: %s", self._here.service, error)

        done.add_done_callback(over)

    # --- the dead -------------------------------------------------------------------------------------------

    def _take_over_dead(self, books: Books) -> tuple[set[str], list[str]]:
        """Let go of what dead instances ran; return the operations that have work by that, and what was damaged.

        One of them may have killed its instance. Those that were suspects already are charged with the death;
        where none was, all become suspects, which run one at a time from then on: so the guilty one is found,
        and the others of its instance go on.
        """
        operations: set[str] = set()
        damaged: list[str] = []
        now = self._here.now()
        for instance in books.dead(now):
            if instance == self._here.instance:
                continue
            held = sound(lambda instance=instance: books.held_by(instance), books, damaged, now=now)
            charged = [request for request in held if request.deaths]
            for request in held:
                deaths = request.deaths + 1 if request in charged or not charged else request.deaths or 1
                row = PutBack(
                    request.operation,
                    request.place,
                    request.attempt,
                    RequestState.RECEIVED,
                    due=now,
                    failures=request.failures,
                    deaths=deaths,
                )
                if deaths >= DEATHS:
                    row.state = RequestState.PARKED
                    row.letter = self._poison(books, request)
                put_back(books, (row,), instance=instance, now=now)
                operations.add(request.operation)
            books.leave(instance)
        return operations, damaged

    def _poison(self, books: Books, request: Request) -> Deceased:
        reason = f"{DEATHS} instances of {self._here.service} died while it ran"
        whole = books.remains(request.place)
        return Deceased(
            place=request.place,
            id=request.id,
            operation=request.operation,
            frame=b"" if whole is None else whole.frame,
            state="parked",
            code=DeadlyError.code,
            reason=reason,
            detail="",
            attempts=request.attempt,
            cause=DeadlyError.code,
            at=self._here.now(),
        )

    # --- the ends of runs -------------------------------------------------------------------------------------

    def decide(self, ending: Ending) -> None:
        """Decide requests that ran, and answer their callers once that is on the disk."""
        for work in ending.works:
            self._ran(work)
        if ending.alone:
            self._decide((ending,))
            return
        if not self._endings:
            self._loop.call_soon(self._decide_all)
        self._endings.append(ending)

    def had(self, work: Work, told: Callable[[Work, Ended | BaseException], None]) -> None:
        """Count an event as had, whose handler ran for the first time, and has left nothing that commits with it."""
        if not self._had:
            self._loop.call_soon(self._all_had)
        self._had.append((work, told))

    def release(self, row: PutBack, work: Work) -> None:
        """Put a request back that was not decided."""
        self._ran(work)
        if not self._put_back:
            self._loop.call_soon(self._put_all_back)
        self._put_back.append(row)

    def _decide_all(self) -> None:
        endings, self._endings = self._endings, []
        for first in range(0, len(endings), AT_ONCE):
            self._decide(endings[first : first + AT_ONCE])

    def _all_had(self) -> None:
        everything, self._had = self._had, []
        for first in range(0, len(everything), AT_ONCE):
            self._some_had(everything[first : first + AT_ONCE])

    def _some_had(self, some: Sequence[tuple[Work, Callable[[Work, Ended | BaseException], None]]]) -> None:
        self._count(1)
        places = [work.claim.place for work, _told in some if work.claim is not None]

        def over(done: asyncio.Future[list[bool]]) -> None:
            for place in places:
                self._running.pop(place, None)
            try:
                if done.cancelled():
                    return
                if (error := done.exception()) is not None:
                    self._were_not_had(some, error)
                elif not all(held := done.result()):
                    for (work, told), was_held in zip(some, held, strict=True):
                        if not was_held:
                            told(work, Ended.FENCED)
            finally:
                self._count(-1)

        step = partial(events_had, places=places, instance=self._here.instance)
        self._store.commit(step, name="decide", weight=len(places)).add_done_callback(over)

    def _were_not_had(
        self, some: Sequence[tuple[Work, Callable[[Work, Ended | BaseException], None]]], error: BaseException
    ) -> None:
        if len(some) > 1 and not isinstance(error, UnavailableError):
            for each in some:  # one of them is at fault, and the others must not fail with it
                self._some_had((each,))
            return
        if not isinstance(error, PosthouseError):
            _log.error("counting events as had failed in a way that it should not", exc_info=error)
        for work, told in some:
            told(work, error)

    def _decide(self, endings: Sequence[Ending]) -> None:
        """Decide in one step: each for itself, or those of one handler all together."""
        self._count(1)
        decisions = [decision for ending in endings for decision in ending.decisions]
        together = endings[0].alone

        def step(books: Books) -> Decided:
            return decide(books, decisions, self._here, together=together)

        tail = endings[0].tail
        done = (
            tail.end(step)
            if tail is not None
            else self._store.commit(step, name="decide", flush=any(map(_leaves, decisions)), weight=len(decisions))
        )
        done.add_done_callback(lambda done: self._were_decided(endings, done))

    def _were_decided(self, endings: Sequence[Ending], done: asyncio.Future[Decided]) -> None:
        for ending in endings:
            for work in ending.works:
                if work.claim is not None:
                    self._running.pop(work.claim.place, None)
        try:
            if done.cancelled():
                return
            error = done.exception()
            if error is None:
                self._answer(endings, done.result())
                return
            if isinstance(error, NotFlushedError):  # what the handlers asked is in the books
                self._relay.take_up()
            if len(endings) > 1 and not isinstance(error, UnavailableError):
                for ending in endings:  # one of them is at fault, and the others must not fail with it
                    self._decide((ending,))
                return
            if not isinstance(error, PosthouseError):
                _log.error("deciding failed in a way that it should not", exc_info=error)
            for ending in endings:
                for work in ending.works:
                    ending.told(work, error)
        finally:
            self._count(-1)

    def _answer(self, endings: Sequence[Ending], decided: Decided) -> None:
        identity = self._store.identity
        now = self._here.now()
        answers: list[Answer] = []
        ended = iter(decided.ended)
        for ending in endings:
            for work, decision in zip(ending.works, ending.decisions, strict=True):
                what = next(ended)
                if what is not _WELL:
                    ending.told(work, what)
                    continue
                message = work.message
                if message.kind is not _REQUEST:
                    continue
                stamps = message.lane
                back = None if stamps is None else stamps_back(stamps, identity, stamps.floor)
                outcome = outcome_of(decision.outcome)
                reply = reply_to(message, outcome, back, source=self._here.service, now=now)
                answers.append(Answer(message.reply_to, "" if stamps is None else stamps.caller_store, reply))
        if answers:
            self._courier.answer(answers)
        if decided.asking is not None:
            self._outbox.begun(decided.asking)
        if decided.told:
            self._told(decided.told)
        self._moved(decided.lanes, decided.unwanted)

    def _moved(self, lanes: Sequence[LaneOut], unwanted: Sequence[Call]) -> None:
        """Let the caller's side go on with what the end of deliveries has changed in it."""
        if lanes:
            for lane in lanes:
                self._outbox.known_lane(lane)
            self._outbox.on_floor(lanes)
        if unwanted:
            self._relay.cancel(unwanted)

    def _put_all_back(self) -> None:
        rows, self._put_back = self._put_back, []
        operations = {row.operation for row in rows}
        for row in rows:
            self._running.pop(row.place, None)

        def done(kept: list[bool]) -> None:
            if not all(kept):
                _log.warning("%d requests are run by another instance by now", kept.count(False))
            self.look(operations)

        here = self._here
        self._run(lambda books: put_back(books, rows, instance=here.instance, now=here.now()), done, name="put back")

    def _ran(self, work: Work) -> None:
        place = None if work.claim is None else self._places.get(work.claim.name)
        if place is not None and work.claim is not None and place.suspect == work.claim.place:
            place.suspect = None
            place.backlog = True
            self._loop.call_soon(self._claim_for, place)

    # --- steps ------------------------------------------------------------------------------------------------

    def _run(
        self,
        step: Callable[[Books], T],
        then: Callable[[T], object],
        *,
        name: str,
        flush: bool = False,
        weight: int = 1,
        failed: Callable[[], None] | None = None,
        refused: Callable[[BaseException], None] | None = None,
        failures: int = 0,
    ) -> None:
        """Run a step until it succeeds: what it does is due, and nobody else does it.

        Args:
            step: what to do.
            then: is given what it returned.
            name: of the step.
            flush: something leaves because of it.
            weight: how many rows it is about.
            failed: is called instead of another try.
            refused: the same, where it is not the store that failed, so that another try would fail as well.
            failures: how often it has failed.
        """
        self._count(1)

        def over(done: asyncio.Future[T]) -> None:
            try:
                if done.cancelled():
                    return
                error = done.exception()
                if error is None:
                    then(done.result())
                elif refused is not None and not isinstance(error, UnavailableError):
                    refused(error)
                elif failed is not None:
                    _log.warning("%s: %s", self._here.service, error)
                    failed()
                else:
                    hold_off = full_jitter(failures + 1, base=0.1, cap=5.0, rng=self._rng)
                    _log.warning("the store of %s could not be used: %s", self._here.service, error)
                    if self._taking:
                        self._timers.call_later(hold_off, retry)
                        if isinstance(error, NotFlushedError):
                            self._timers.call_later(LOOK, self._let_go_of_unknown)
            finally:
                self._count(-1)

        def retry() -> None:
            self._run(step, then, name=name, flush=flush, weight=weight, refused=refused, failures=failures + 1)

        self._store.commit(step, name=name, flush=flush, weight=weight).add_done_callback(over)

    def _let_go_of_unknown(self) -> None:
        """Put back what the books say that we run, and nobody does: it was claimed, and the flush has failed."""
        instance = self._here.instance

        def step(books: Books) -> set[str]:
            unknown = [row for row in books.held_by(instance) if row.place not in self._running]
            for row in unknown:
                back = PutBack(
                    row.operation,
                    row.place,
                    row.attempt,
                    RequestState.RECEIVED,
                    due=row.due,
                    failures=row.failures,
                    deaths=row.deaths,
                )
                put_back(books, (back,), instance=instance, now=self._here.now())
            return {row.operation for row in unknown}

        self._run(step, self.look, name="let go")

    def _count(self, change: int) -> None:
        self._under_way += change
        if not self._under_way:
            self._idle.set()


def _leaves(decision: Decision) -> bool:
    """Say whether something leaves this process when a run is decided; of an event that was only had, nothing does."""
    if not is_of_feed(lane_of(decision.place)):
        return True
    return bool(decision.asks or decision.tells or decision.calls or decision.letter)


def _gap_message(request: Request, here: Here) -> Message:
    """Return what a handler is run for that hears of a gap."""
    return Message(Kind.EVENT, request.id, request.operation, here.service, here.now(), request.frame, Mode.JOURNALED)


def _nothing(_: object) -> None:
    """Nothing is to be done then."""
