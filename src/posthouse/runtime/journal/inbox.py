"""The replier's side at work: stores requests, claims them, brings them to their runners, takes over from the dead.

What arrives in one turn of the loop is one step, and so is all that ends in one. A request that cannot
be claimed at once waits in the store, not here: any instance may take it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from posthouse.contracts.transport import ACCEPTED
from posthouse.flow.credit import Credit
from posthouse.message.message import Kind, Message
from posthouse.runtime.journal.duties import Duties
from posthouse.runtime.journal.ends import Ends
from posthouse.runtime.steps.applying import run_of
from posthouse.runtime.steps.claiming import claim, message_of
from posthouse.runtime.steps.receiving import Answer, Receiving
from posthouse.runtime.steps.taking_over import let_go_of_unknown, received_again, take_over
from posthouse.runtime.steps.wire import asked_again
from posthouse.runtime.timers import timers_of
from posthouse.runtime.workplace import Claim, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books, Store
    from posthouse.protocol.inbox import Request
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.journal.outbox import Outbox
    from posthouse.runtime.journal.publisher import Publisher
    from posthouse.runtime.journal.relay import Relay
    from posthouse.runtime.runner import Runner
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settler import Settler
    from posthouse.runtime.steps.claiming import Claimed
    from posthouse.runtime.steps.feeding import Fed
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.receiving import Arrived, Received
    from posthouse.runtime.steps.taking_over import TakenOver
    from posthouse.runtime.timers import Timer

T = TypeVar("T")

_log: Final = logging.getLogger("posthouse.journal")

# Members that are looked at for each message; in Python 3.11 a look at one through its class takes 70 ns.
_REPLY, _CONTROL = Kind.REPLY, Kind.CONTROL

LOOK: Final[Seconds] = 1.0
"""How often an instance looks for requests that another one has stored or put back."""

TAKE_OVER: Final[Seconds] = 2.0
"""How often dead instances are looked for."""

_IDLE_WORDS: Final = frozenset({"pending", "parked", "resync"})

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


class Inbox:
    """All requests to one service, as far as this process has to do with them.

    Attributes:
        ends: what runs, and how it ends.
        on_room: is told the name of a subscription of which more may be claimed again.
    """

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
        self._settler = settler
        self._loop = asyncio.get_running_loop()
        self._timers = timers_of(seams.clock)
        self._places: dict[str, Place] = {}
        self._arrived: list[Arrived] = []
        self._timer: Timer | None = None
        self._take_over = 0.0
        self._unserved: set[str] = set()
        self._taking = True
        self._duties = Duties(store, service=here.service, timers=self._timers, rng=seams.rng)
        self._duties.on_not_flushed = self._let_go_of_unknown_soon
        self.ends = Ends(
            store,
            here,
            courier,
            outbox,
            relay,
            publisher=publisher,
            duties=self._duties,
            ran=self._ran,
            look=self.look,
        )
        self.on_room: Callable[[str], None] = _nothing
        outbox.on_work = self.look

    # --- life ---------------------------------------------------------------------------------------------

    def serve(self, runners: Iterable[Runner]) -> None:
        """Begin to claim for these runners."""
        now = self._timers.time()
        self._taking = self._duties.repeats = True  # again, after a drain
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
        self._taking = self._duties.repeats = False
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
        while self._duties.under_way or self.ends.pending or self._arrived:
            await self._duties.idle()

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
        self._duties.run(
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

        self._duties.run(lambda books: step(books, self._room), fed, name=name, weight=weight)

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
        for place, peer, life in received.again:  # a run that is under way answers who waits now
            if (work := self.ends.running.get(place)) is not None:
                work.message = asked_again(work.message, peer=peer, life=life)
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
            self._duties.run(
                _nothing, lambda _: self.ends.moved(received.lanes, received.unwanted), name="answer", flush=True
            )
        else:
            self.ends.moved(received.lanes, ())
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
            self._duties.run(_nothing, lambda _: self._courier.answer(acts), name="answer", flush=True)

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
            work = self.ends.running[request.place] = Work(message, None, claim)
            by_operation.setdefault(request.operation, []).append(work)
        for operation, works in by_operation.items():
            self._places[operation].runner.take(works)

    def _let_go(self, claimed: Sequence[Request]) -> None:
        """Put requests back that nobody has begun with."""
        for request in claimed:
            self.ends.let_go(received_again(request, due=request.due, deaths=request.deaths))

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
        self._duties.run(
            lambda books: claim(books, place.runner.name, wanted, self._here, suspects=place.suspect is None),
            lambda claimed: self._claimed(place, wanted, claimed),
            name="claim",
            failed=lambda: self._claim_failed(place),
        )

    def _claimed(self, place: Place, wanted: int, claimed: Claimed) -> None:
        self._tell_of(claimed.damaged)
        place.claiming = False
        works: list[tuple[Request, Message]] = []
        for request in claimed.requests:
            if request.deaths:
                place.suspect = request.place
            works.append((request, message_of(request, self._here)))
        self._hand_over(works)
        place.backlog = place.again or len(claimed.requests) >= wanted
        if place.backlog:
            self._claim_for(place)
            return
        self.on_room(place.runner.name)
        if claimed.due is not None and claimed.due != float("inf"):
            self._wake_at(place, claimed.due)

    def _tell_of(self, damaged: Sequence[str]) -> None:
        for text in damaged:
            _log.error("%s: %s; it is parked, and the others go on (`posthouse dead ls`)", self._here.service, text)

    def _claim_failed(self, place: Place) -> None:
        place.claiming = False  # the next look tries again

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
            self._duties.run(lambda books: take_over(books, self._here), self._took_over, name="take over")

    def _took_over(self, taken: TakenOver) -> None:
        self._tell_of(taken.damaged)
        for letter in taken.parked:
            _log.error("%s parks %s: %s (`posthouse dead ls`)", letter.operation, letter.id, letter.reason)
        self.look(taken.operations)

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

    # --- what was let go ------------------------------------------------------------------------------------

    def _let_go_of_unknown_soon(self) -> None:
        self._timers.call_later(LOOK, self._let_go_of_unknown)

    def _let_go_of_unknown(self) -> None:
        running = self.ends.running
        self._duties.run(lambda books: let_go_of_unknown(books, running, self._here), self.look, name="let go")

    def _ran(self, work: Work) -> None:
        place = None if work.claim is None else self._places.get(work.claim.name)
        if place is not None and work.claim is not None and place.suspect == work.claim.place:
            place.suspect = None
            place.backlog = True
            self._loop.call_soon(self._claim_for, place)


def _nothing(_: object) -> None:
    """Nothing is to be done then."""
