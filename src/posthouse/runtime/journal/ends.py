"""The ends of runs: decides requests, puts others back, and answers their callers once that is on the disk.

All that ends in one turn of the loop is one step.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.contracts.flushing import NotFlushedError
from posthouse.errors import PosthouseError, UnavailableError
from posthouse.message.message import Kind
from posthouse.protocol.lane import lane_of
from posthouse.protocol.stream import is_of_feed
from posthouse.runtime.steps.deciding import Ended, PutBack, decide, events_had, put_back
from posthouse.runtime.steps.receiving import Answer
from posthouse.runtime.steps.wire import outcome_of, reply_to, stamps_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from posthouse.contracts.store import Books, LaneOut, Store, Tail
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.journal.duties import Duties
    from posthouse.runtime.journal.outbox import Outbox
    from posthouse.runtime.journal.publisher import Publisher
    from posthouse.runtime.journal.relay import Relay
    from posthouse.runtime.steps.deciding import Decided, Decision
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.workplace import Work

_log: Final = logging.getLogger("posthouse.journal")

# Members that are looked at for each message; in Python 3.11 a look at one through its class takes 70 ns.
_REQUEST: Final = Kind.REQUEST
_WELL: Final = Ended.WELL

AT_ONCE: Final = 128
"""The most runs whose ends are one step."""


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


class Ends:
    """What has ended of all that one service runs in this process.

    Attributes:
        running: what runs, or waits here to be run, by place.
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
        duties: Duties,
        ran: Callable[[Work], None],
        look: Callable[[Iterable[str]], None],
    ) -> None:
        """Begin with nothing.

        Args:
            store: holds the requests.
            here: our place.
            courier: carries the answers.
            outbox: is told of calls that handlers made.
            relay: is told of calls that were made in vain.
            publisher: pushes the events that handlers told.
            duties: runs the steps.
            ran: is told of each run that has ended.
            look: is told which operations have work again.
        """
        self.running: dict[int, Work] = {}
        self._store = store
        self._here = here
        self._courier = courier
        self._outbox = outbox
        self._relay = relay
        self._push = publisher.push
        self._duties = duties
        self._ran = ran
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._endings: list[Ending] = []
        self._had: list[tuple[Work, Callable[[Work, Ended | BaseException], None]]] = []
        self._put_back: list[PutBack] = []

    @property
    def pending(self) -> bool:
        """Whether something has ended, and its step has not begun."""
        return bool(self._endings or self._had or self._put_back)

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
        self.let_go(row)

    def let_go(self, row: PutBack) -> None:
        """Put a request back that nobody has begun with."""
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
        self._duties.count(1)
        places = [work.claim.place for work, _told in some if work.claim is not None]

        def over(done: asyncio.Future[list[bool]]) -> None:
            for place in places:
                self.running.pop(place, None)
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
                self._duties.count(-1)

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
        self._duties.count(1)
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
                    self.running.pop(work.claim.place, None)
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
            self._duties.count(-1)

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
            self._push(decided.told)
        self.moved(decided.lanes, decided.unwanted)

    def _put_all_back(self) -> None:
        rows, self._put_back = self._put_back, []
        operations = {row.operation for row in rows}
        for row in rows:
            self.running.pop(row.place, None)

        def done(kept: list[bool]) -> None:
            if not all(kept):
                _log.warning("%d requests are run by another instance by now", kept.count(False))
            self._look(operations)

        here = self._here
        self._duties.run(
            lambda books: put_back(books, rows, instance=here.instance, now=here.now()), done, name="put back"
        )

    def moved(self, lanes: Sequence[LaneOut], unwanted: Sequence[Call]) -> None:
        """Let the caller's side go on with what the end of deliveries has changed in it."""
        if lanes:
            for lane in lanes:
                self._outbox.known_lane(lane)
            self._outbox.on_floor(lanes)
        if unwanted:
            self._relay.cancel(unwanted)


def _leaves(decision: Decision) -> bool:
    """Say whether something leaves this process when a run is decided; of an event that was only had, nothing does."""
    if not is_of_feed(lane_of(decision.place)):
        return True
    return bool(decision.asks or decision.tells or decision.calls or decision.letter)
