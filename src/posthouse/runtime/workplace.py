"""Where the handlers of a service work: slots, threads, and the way back to who asked.

A slot is held by a handler at work and given up by one that waits for a reply, so that services
which call each other in a ring cannot block each other. A freed slot goes first to a handler that
had begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from posthouse.contracts.transport import Delivery
from posthouse.flow.concurrency import Slots
from posthouse.message.message import Message
from posthouse.runtime.answers import answer, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import ThreadPoolExecutor

    from posthouse.errors import PosthouseError
    from posthouse.runtime.client import Client
    from posthouse.runtime.parts import Parts

THREADS: Final = 1024
"""The most threads for plain `def` handlers of a service: those at work, and those that wait for a reply."""

NEVER: Final = float("inf")


class Claim(msgspec.Struct, eq=False, gc=False):
    """A journaled request that is ours to run.

    Attributes:
        place: where it is in the store.
        attempt: how often it was claimed: who decides it must name the newest.
        failures: how often its handler failed before.
        deaths: how often its instance died at it.
        name: of the operation or subscription that runs.
        uses: (place, epoch of the answer) of the call whose reply it is run for; None for a request.
        has_calls: its handler has made calls.
    """

    place: int
    attempt: int
    failures: int
    deaths: int
    name: str = ""
    uses: tuple[int, int] | None = None
    has_calls: bool = False


class Work(msgspec.Struct, eq=False, gc=False):
    """A message to be handled, and what it came by.

    Attributes:
        message: what is to be handled.
        delivery: that of the queue which brought it; None for a volatile or journaled one.
        claim: the one on the store; None for one that is not journaled.
    """

    message: Message
    delivery: Delivery | None
    claim: Claim | None = None


class Worker(Protocol):
    """Who takes slots: the runner of one handler."""

    slots: Slots
    """How many of it may be at work at once."""

    def start_soon(self) -> None:
        """Try again for a slot."""
        ...

    def waits(self, turn: Turn) -> None:
        """One of its handlers waits for a reply now."""
        ...

    def waits_no_more(self, turn: Turn) -> None:
        """It does not."""
        ...


class Turn:
    """A task that works off a backlog.

    Attributes:
        worker: whose turn it is.
        task: the task.
        works: what it works on now.
        expires: when the attempt times out, in the loop's time.
        timed_out: whether it was canceled because of that.
        has_slot: whether it holds a slot; not while it waits for a reply.
        thread: the thread of a plain `def` handler, which a time-out cannot end.
        excused: how many messages its worker does not count as pressing, since it waits for a reply.
        is_ending: whether it was canceled for good: by its time-out, or by a drain.
        is_over: whether its task has ended.
    """

    __slots__ = (
        "attempt",
        "excused",
        "expires",
        "has_slot",
        "is_ending",
        "is_over",
        "task",
        "thread",
        "timed_out",
        "worker",
        "works",
    )

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.task: asyncio.Task[None] | None = None
        self.works: Sequence[Work] = ()
        self.expires = NEVER
        self.timed_out = False
        self.has_slot = True
        self.thread: asyncio.Future[Any] | None = None
        self.excused = 0
        self.is_ending = False
        self.is_over = False


class Workplace:
    """The slots, threads and answers of one service in this process.

    Attributes:
        name: of the service.
        parts: the shared parts of the process.
        client: sends and asks in the service's name.
        loop: where it all runs.
        slots: how many of its handlers may be at work at once.
        context: the context variables that each handler begins with: those of the lifespan.
    """

    def __init__(self, name: str, *, parts: Parts, client: Client, concurrency: int) -> None:
        self.name = name
        self.parts = parts
        self.client = client
        self.loop = asyncio.get_running_loop()
        self.slots = Slots(concurrency)
        self.context = copy_context()
        self._hungry: deque[Worker] = deque()
        self._resuming: deque[tuple[Turn, asyncio.Future[None]]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    # --- slots -----------------------------------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for a slot."""
        return bool(self._hungry or self._resuming)

    def take_slot(self, worker: Worker) -> bool:
        """Hold a slot for a worker; one that gets none is started when there is one."""
        if not worker.slots.take():
            return False  # one of its own turns will look at the backlog again
        if not self.slots.take():
            worker.slots.give()
            if worker not in self._hungry:
                self._hungry.append(worker)
            return False
        return True

    def give_slot(self, worker: Worker) -> None:
        """Give a slot back, to whoever waits for one: first those who had begun."""
        worker.slots.give()
        self.slots.give()
        if self._resuming:
            self._resume_those_who_can()
        self.offer_slot()

    def offer_slot(self) -> None:
        """Let the next worker try, if a slot is free: whoever was asked before had no use for it."""
        if self._hungry and self.slots.taken < self.slots.limit:
            self._hungry.popleft().start_soon()

    def pause(self, turn: Turn) -> None:
        """Give up the slot of a turn that waits for a reply."""
        if turn.has_slot:
            turn.has_slot = False
            turn.worker.waits(turn)
            self.give_slot(turn.worker)

    async def resume(self, turn: Turn) -> None:
        """Hold a slot again; waits for one. A turn that waits for several replies at once holds one slot."""
        if self._hold(turn):
            return
        woken: asyncio.Future[None] = self.loop.create_future()
        self._resuming.append((turn, woken))
        await woken

    def _resume_those_who_can(self) -> None:
        """Wake who has got its reply and finds a slot; who is over its own handler's limit waits on."""
        for _ in range(len(self._resuming)):
            turn, woken = self._resuming.popleft()
            if woken.done():
                continue
            if self._hold(turn):
                woken.set_result(None)
            else:
                self._resuming.append((turn, woken))

    def _hold(self, turn: Turn) -> bool:
        if turn.has_slot or turn.is_over:  # what a handler has left behind in a task of its own holds nothing
            return True
        if not turn.worker.slots.take():
            return False
        if not self.slots.take():
            turn.worker.slots.give()
            return False
        turn.has_slot = True
        turn.worker.waits_no_more(turn)
        return True

    # --- threads ---------------------------------------------------------------------------------------

    def threads(self) -> ThreadPoolExecutor:
        """Return the threads of plain `def` handlers; slots say how many are used."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"posthouse-{self.name}")
        return self._pool

    def close(self) -> None:
        """Let the threads go; one that is still at work ends by itself."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    # --- answers ---------------------------------------------------------------------------------------

    def reply(self, request: Message, data: bytes) -> None:
        """Answer a request with data."""
        parts = self.parts
        answer(parts.transport.direct, request, data, None, source=self.name, now=parts.seams.clock.now())

    def refuse(self, request: Message, error: PosthouseError) -> None:
        """Answer a request with an error."""
        parts = self.parts
        refuse(parts.transport.direct, request, error, source=self.name, now=parts.seams.clock.now())
