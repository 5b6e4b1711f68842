"""Runs one handler: work in, outcomes out.

A *turn* is a task that holds a slot of the service and works off the backlog, one message after
another; it ends when nothing is left. So a handler that never waits costs no task for each message,
and when one does wait, the next turn starts. Every handler still runs inside a real task (so that
asyncio.timeout and cancellation work), and never sees the context variables that another one set:
a turn whose context was changed is not used again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from posthouse.declare.options import rate_of
from posthouse.declare.schema_of import encode
from posthouse.declare.target import Handler
from posthouse.errors import ExpiredError, FailedError, InvalidDataError, Reject
from posthouse.flow.concurrency import Slots
from posthouse.flow.rate import TokenBucket
from posthouse.protocol.settlement import Decided, End, Failed
from posthouse.runtime.attempt import Attempt
from posthouse.runtime.caller import FRAME_LIMIT
from posthouse.runtime.context import Context, SyncContext
from posthouse.runtime.ending import Ending, end_of
from posthouse.runtime.workplace import NEVER, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.transport import Delivery
    from posthouse.declare.target import Target
    from posthouse.runtime.ending import Ends
    from posthouse.runtime.workplace import Work, Workplace

_log: Final = logging.getLogger("posthouse.service")

DEFAULT_TIMEOUT: Final[Seconds] = 300.0
"""For one attempt of a handler that says nothing else: one that hangs must not hang for ever."""

BREATH: Final = 128
"""Messages after which a turn lets the loop look at everything else."""

WAITING: Final = 1024
"""Handlers that wait for a reply, and for which as many other messages are taken; beyond, they count as at work."""

LAST_WORD: Final[Seconds] = 2.0
"""How long a handler that is canceled at the end of a drain may take to end."""

UNFIT: Final = object()
"""In place of data that may not be run."""


class Run(msgspec.Struct, eq=False, gc=False):
    """How one run of a handler ended.

    Attributes:
        end: its reply, encoded; or the end that it came to.
        attempt: the door behind its context; None where it had none.
        returned: it ended well: with the reply, or with a Reject that it returned.
    """

    end: bytes | End
    attempt: Attempt | None
    returned: bool


class Runner:
    """Runs one handler of a service in this process.

    Attributes:
        name: of the operation or subscription.
        queued: whether its messages wait in a queue, of the same name.
        slots: how many of it may be at work at once.
        held: messages here, waiting or at work.
        batch: the most messages of one run.
        done: messages that were ended, since the receiver last asked.
        low_water: `on_low` is called when `held` has sunk to this.
        on_low: tells the receiver that there is room.
        on_idle: tells a drain that nothing is here any more.
    """

    def __init__(
        self,
        place: Workplace,
        target: Target,
        decode: Callable[[bytes], Any],
        *,
        queued: bool,
        ending: Ends | None = None,
    ) -> None:
        self.name = target.name
        self.queued = queued
        self.slots = Slots(target.run.concurrency or place.slots.limit)
        self.batch = target.batch or 1
        self.held = 0
        self.done = 0
        self.low_water = -1
        self.on_low: Callable[[], None] = _nothing
        self.on_idle: Callable[[], None] = _nothing
        self._backlog: deque[Work] = deque()
        self._turns: dict[Turn, None] = {}  # a dict, not a set: it keeps the order, so that every run is the same
        self._excused = 0
        self._stopped = False
        self._place = place
        self._target = target
        self._decode = decode
        self._ending: Ends = ending or Ending(place, target)
        self._loop = place.loop
        self._now = place.parts.seams.clock.now
        self._timeout = target.run.timeout or DEFAULT_TIMEOUT
        self._timer: asyncio.TimerHandle | None = None
        self._start_is_due = False
        self._rate = _bucket(target, self._loop.time())
        self._rest: asyncio.TimerHandle | None = None

    # --- what comes in, and what is here ---------------------------------------------------------------

    def take(self, works: Iterable[Work]) -> None:
        """Put work behind what waits already."""
        before = len(self._backlog)
        self._backlog.extend(works)
        self.held += len(self._backlog) - before
        self.start()

    @property
    def pressing(self) -> int:
        """Messages here, without those whose handlers wait for a reply: in their place others are taken."""
        return self.held - self._excused

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries that are here; their leases must not run out."""
        works = [*self._backlog, *(work for turn in self._turns for work in turn.works)]
        return [work.delivery for work in works if work.delivery is not None]

    @property
    def at_work(self) -> int:
        """Handlers that have begun and not ended."""
        return len(self._turns)

    def hand_back(self) -> list[Work]:
        """Return what waits, and forget it."""
        works = list(self._backlog)
        self._backlog.clear()
        self.held -= len(works)
        return works

    def forget(self, lost: set[int]) -> None:
        """Drop from what waits the deliveries, by id(), whose lease was lost: another receiver has them."""
        kept = [work for work in self._backlog if id(work.delivery) not in lost]
        self.held -= len(self._backlog) - len(kept)
        self._backlog = deque(kept)
        self._look_low()

    # --- turns -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a turn if there is work that is due, and a slot for it."""
        self._start_is_due = False
        place = self._place
        if self._rest is not None or not self._due():
            place.offer_slot()
            return
        if not place.take_slot(self):
            return
        turn = Turn(self)
        self._turns[turn] = None
        # In the context that every handler begins with: this may be called from within another one.
        turn.task = place.context.run(place.parts.seams.spawn, self._work_off(turn), f"posthouse {self.name}")
        turn.task.add_done_callback(lambda task: self._ended(turn, task))

    def start_soon(self) -> None:
        """Start a turn when the present one waits or has ended."""
        if not self._start_is_due:
            self._start_is_due = True
            self._loop.call_soon(self.start)

    async def stop(self) -> list[Work]:
        """Cancel every turn, wait for their ends, and return what they did not end.

        One that will not end is given up after LAST_WORD seconds, so that the process can.
        """
        self._stopped = True
        return await self._cancel(list(self._turns))

    async def stop_waiting(self) -> list[Work]:
        """Cancel those turns whose handlers wait for a reply; as `stop`."""
        self._stopped = True
        return await self._cancel([turn for turn in self._turns if not turn.has_slot])

    async def _cancel(self, chosen: Sequence[Turn]) -> list[Work]:
        turns = {turn.task: turn for turn in chosen if turn.task is not None}
        if not turns:
            return []
        for task, turn in turns.items():
            turn.is_ending = True
            task.cancel()
        _ended, deaf = await asyncio.wait(turns, timeout=LAST_WORD)
        if deaf:
            _log.error("%s: %d canceled handlers go on; they are given up", self.name, len(deaf))
        return [work for turn in turns.values() for work in turn.works]

    def close(self) -> None:
        """Stop the timers."""
        for timer in (self._timer, self._rest):
            if timer is not None:
                timer.cancel()
        self._timer = self._rest = None

    def _due(self) -> bool:
        return bool(self._backlog)

    def _next(self) -> Sequence[Work]:
        return (self._backlog.popleft(),)

    def _cost(self) -> int:
        """Return how many messages the next run takes."""
        return 1

    async def _work_off(self, turn: Turn) -> None:
        place = self._place
        clean = copy_context()
        turns = 0
        while self._due() and (self._rate is None or self._admitted(self._rate)):
            turn.works = works = self._next()
            if self._backlog:
                self.start_soon()
            await self._handle(turn, works)
            self.done += len(works)
            self.held -= len(turn.works)
            turn.works = ()
            if turn.excused:
                self.waits_no_more(turn)
            if self.held - self._excused <= self.low_water:
                self.on_low()
            if place.crowded or not turn.has_slot or copy_context() != clean:
                return  # another handler's turn, or this context is used up
            turns += 1
            if turns % BREATH == 0:
                await asyncio.sleep(0)

    def _admitted(self, rate: TokenBucket) -> bool:
        """Say whether the rate lets one more run begin; if not, come back when it does."""
        hold_off = rate.admit(self._loop.time(), self._cost())
        if hold_off and self._rest is None:
            self._rest = self._loop.call_later(hold_off, self._rested)
        return not hold_off

    def _rested(self) -> None:
        self._rest = None
        self.start()

    def _ended(self, turn: Turn, task: asyncio.Task[None]) -> None:
        place = self._place
        self._turns.pop(turn, None)
        turn.is_over = True
        if turn.has_slot:
            place.give_slot(self)
        if turn.excused:
            self.waits_no_more(turn)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("%s: an error of posthouse itself ended a turn", self.name, exc_info=error)
        if turn.works:
            self.held -= len(turn.works)
            if not self._stopped:  # else the drain that canceled it hands them back
                for work in turn.works:
                    end = Failed("its turn was canceled") if error is None else end_of(error)
                    self._ending.badly(work, end)
            self._look_low()
        if self._backlog:
            self.start_soon()
        elif not self._turns:
            self.on_idle()

    def waits(self, turn: Turn) -> None:
        """A handler waits for a reply, and holds no slot: what is behind it may begin, and more is taken in."""
        if self._excused < WAITING:
            turn.excused = len(turn.works)
            self._excused += turn.excused
            self._look_low()
        if self._backlog:
            self.start_soon()

    def waits_no_more(self, turn: Turn) -> None:
        """It has got its reply, or has ended."""
        self._excused -= turn.excused
        turn.excused = 0

    def _let_go(self, turn: Turn, works: Sequence[Work]) -> None:
        """Count what was ended as here no more, though its turn goes on."""
        turn.works = [work for work in turn.works if work not in works]
        self.held -= len(works)

    def _look_low(self) -> None:
        if self.held - self._excused <= self.low_water:
            self.on_low()

    # --- one attempt -----------------------------------------------------------------------------------

    async def _handle(self, turn: Turn, works: Sequence[Work]) -> None:
        (work,) = works
        data = self._open(work)
        if data is UNFIT:
            return
        run = await self._attempt(turn, work, data)
        self._end(works, run)
        if turn.thread is not None:
            self._let_go(turn, works)  # ended, whatever the thread still does
            await self._wait_for_thread(turn)

    def _open(self, work: Work) -> Any:
        """Return the data of a message that may be run; else end it, and return UNFIT."""
        message = work.message
        if message.deadline and message.deadline <= self._now():
            self._ending.badly(work, Decided(ExpiredError(f"the deadline passed before {self.name} was run")))
            return UNFIT
        if self._ending.crashes(work):
            return UNFIT
        try:
            return self._decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._ending.badly(work, Decided(InvalidDataError(f"the data does not fit {self.name}: {error}")))
        except Exception as error:  # from the user's own type: its __post_init__, say
            self._ending.badly(work, end_of(error))
        return UNFIT

    def _end(self, works: Sequence[Work], run: Run) -> None:
        """Carry out the end of a run."""
        if run.returned:
            self._ending.well(works, cast("bytes | Decided", run.end), run.attempt)
            return
        for work in works:
            self._ending.badly(work, cast("End", run.end), run.attempt)

    async def _attempt(self, turn: Turn, work: Work, data: Any) -> Run:
        """Run the handler once."""
        target = self._target
        attempt = None
        returned = False
        turn.expires = self._loop.time() + self._timeout
        if self._timer is None:
            self._timer = self._loop.call_at(turn.expires, self._expire)
        try:
            if not target.is_async:
                attempt = self._ending.attempt_for(turn, work)
                arguments = (data,) if target.context == "none" else (data, _context(SyncContext, attempt, work))
                result = await self._in_thread(turn, *arguments)
            elif target.context == "none":
                result = await target.function(data)
            else:
                attempt = self._ending.attempt_for(turn, work)
                result = await target.function(data, _context(Context, attempt, work))
            end = Decided(result) if isinstance(result, Reject) else encode(result)
            if type(end) is bytes and len(end) > FRAME_LIMIT and work.message.reply_to:
                raise FailedError(f"the reply of {self.name} has {len(end):,} bytes; a message takes {FRAME_LIMIT:,}")
            if attempt is not None and attempt.leaves:
                await attempt.leave()  # returned, a Reject keeps what was sent
            returned = True
        except asyncio.CancelledError:
            if turn.timed_out:
                end = Failed(f"it timed out after {self._timeout:g} s")
            elif turn.task is not None and turn.task.cancelling():
                if attempt is not None:
                    attempt.abandon()
                raise
            else:  # something that the handler waited for was canceled, not the handler
                end = Failed("CancelledError: what it waited for was canceled")
        except Exception as error:
            end = end_of(error)
        if attempt is not None:
            attempt.close()
        turn.expires = NEVER
        if turn.timed_out:  # taken back, also when the handler ended well in that very moment
            turn.timed_out = turn.is_ending = False
            if turn.task is not None:
                turn.task.uncancel()
        return Run(end, attempt, returned)

    async def _in_thread(self, turn: Turn, *arguments: Any) -> Any:
        function = self._target.function
        call = partial(copy_context().run, _in_its_thread, function, *arguments)
        thread = self._loop.run_in_executor(self._place.threads(), call)
        turn.thread = thread
        result = await asyncio.shield(thread)
        turn.thread = None
        return result

    async def _wait_for_thread(self, turn: Turn) -> None:
        """Hold the slot until a thread that timed out or failed has ended: it cannot be stopped."""
        thread, turn.thread = turn.thread, None
        if thread is not None and not thread.done():
            _log.warning("%s: a thread that timed out is still at work; its slot is held until it ends", self.name)
            await asyncio.wait([thread])
        if thread is not None and not thread.cancelled():
            thread.exception()  # already told as the end of the attempt, or too late to matter

    def _expire(self) -> None:
        """Cancel the turns that have timed out. One timer serves all, and mostly finds nothing to do."""
        now = self._loop.time()
        self._timer = None
        for turn in self._turns:
            if turn.expires <= now and not turn.timed_out and turn.task is not None:
                turn.timed_out = turn.is_ending = True
                turn.task.cancel()
        soonest = min((turn.expires for turn in self._turns if not turn.timed_out), default=NEVER)
        if soonest < NEVER:
            self._timer = self._loop.call_at(soonest, self._expire)


def _in_its_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except StopIteration as error:  # no future takes it, as no coroutine raises it
        raise RuntimeError("the handler raised StopIteration") from error


def _bucket(target: Target, now: Seconds) -> TokenBucket | None:
    if not isinstance(target, Handler) or not target.rate:
        return None
    count, period = rate_of(target.rate)
    burst = max(1.0, count)
    return TokenBucket(count / period, burst, burst, now)


def _context(kind: Any, attempt: Attempt, work: Work) -> Any:
    message = work.message
    return kind(
        attempt,
        id=message.id,
        attempt=_attempts(work),
        caller=message.source,
        sent=message.time,
        deadline=message.deadline,
    )


def _attempts(work: Work) -> int:
    if work.claim is not None:
        return work.claim.failures + work.claim.deaths + 1
    return 1 if work.delivery is None else work.delivery.attempt


def _nothing() -> None:
    """Nobody wants to know."""
