"""What one queue holds, and who waits for it.

A message is in one of four places: `ready` in the order in which it was stored, `returned` (it was
handed out before, and goes before the ready ones since it is older), `delayed` until it is due, or
`leased` to a receiver. No step looks at more messages than it moves; leases that ran out are looked
for when the first of them can have run out, not before.

How much a queue may hold is judged in intake.py; what becomes of a delivery, in transport.py.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec

from posthouse.backends.memory.alarm import Alarm
from posthouse.clock import Instant
from posthouse.contracts.transport import Delivery, QueueInfo, QueueSpec

if TYPE_CHECKING:
    import asyncio

    from posthouse.backends.memory.alarm import Alarms
    from posthouse.clock import Seconds


class Stored(msgspec.Struct, gc=False):
    """A message of a queue, and its lease while it has one."""

    number: int
    frame: bytes
    at: Instant
    attempts: int = 0
    failures: int = 0
    until: Instant = 0.0
    holder: str = ""


class Waiter:
    """A receiver that waits for the next message."""

    __slots__ = ("alarm", "peer", "woken")

    def __init__(self, peer: str, woken: asyncio.Future[bool], alarms: Alarms) -> None:
        self.peer = peer
        self.woken = woken
        self.alarm = Alarm(alarms, self._give_up, patient=True)

    def wake(self) -> bool:
        """Tell it to look; return whether it still waited."""
        if self.woken.done():
            return False
        self.woken.set_result(True)
        return True

    def fail(self, error: Exception) -> None:
        """Tell it that it waits in vain."""
        if not self.woken.done():
            self.woken.set_exception(error)

    def _give_up(self) -> None:
        if not self.woken.done():
            self.woken.set_result(False)


class Queue:
    """One queue of the broker."""

    __slots__ = (
        "_alarm",
        "_delayed",
        "_leased",
        "_leased_size",
        "_look_at",
        "_ready",
        "_receivers",
        "_returned",
        "alarms",
        "count",
        "declared_by",
        "gone",
        "held",
        "size",
        "spec",
        "waiters",
    )

    def __init__(self, spec: QueueSpec, alarms: Alarms, declared_by: str) -> None:
        self.spec = spec
        self.alarms = alarms
        self.declared_by = declared_by
        self.gone = False
        self.count = 0
        self.size = 0
        self.waiters: deque[Waiter] = deque()
        self.held: deque[Any] = deque()  # sends that wait for room; intake.Held
        self._ready: deque[Stored] = deque()
        self._returned: list[tuple[int, Stored]] = []
        self._delayed: list[tuple[Instant, int, Stored]] = []
        self._leased: dict[int, Stored] = {}
        self._leased_size = 0
        self._look_at: Instant = math.inf  # nothing runs out or falls due before this
        self._alarm = Alarm(alarms, self._tick)
        self._receivers: dict[str, Instant] = {}

    # --- in ------------------------------------------------------------------------------------------

    def put(self, number: int, frame: bytes, now: Instant) -> None:
        """Store a message behind all others; `wake` is the caller's next step."""
        self._ready.append(Stored(number, frame, now))
        self.count += 1
        self.size += len(frame)

    def wake(self) -> None:
        """Wake the receiver that has waited longest, if there is something for it."""
        if not (self._ready or self._returned):
            return
        waiters = self.waiters
        while waiters:
            if waiters.popleft().wake():
                return

    def drop_oldest(self) -> bool:
        """Drop the oldest message that is not delivered; return whether there was one."""
        self._look(self.alarms.clock.now())
        oldest = self._next_number()
        # A scan, but only where a queue that drops is full and also has messages that were put off.
        put_off = min(self._delayed, key=lambda entry: entry[1], default=None)
        if put_off is not None and put_off[1] < oldest:
            self._delayed.remove(put_off)
            heapq.heapify(self._delayed)
            self._forget(put_off[2])
            return True
        if oldest == math.inf:
            return False
        self._forget(self._pop())
        return True

    # --- out -----------------------------------------------------------------------------------------

    def take(self, credit: int, *, holder: str, lease: Seconds, tag: int) -> list[Delivery]:
        """Hand out up to `credit` messages under leases with the tags from `tag` on, oldest first."""
        now = self.alarms.clock.now()
        self._look(now)
        self._receivers[holder] = now
        count = min(credit, len(self._ready) + len(self._returned))
        if count <= 0:
            return []
        until = now + lease
        name, leased, ready, returned = self.spec.name, self._leased, self._ready, self._returned
        deliveries: list[Delivery] = []
        for mark in range(tag, tag + count):
            stored = ready.popleft() if not returned else self._pop()
            stored.attempts += 1
            stored.until = until
            stored.holder = holder
            leased[mark] = stored
            self._leased_size += len(stored.frame)
            deliveries.append(Delivery(name, stored.frame, mark, stored.attempts, stored.failures))
        self._expect(until)
        self.wake()  # one waiter is woken at a time; who leaves something behind wakes the next
        return deliveries

    def held_by(self, tag: Any) -> Stored | None:
        """Return the message under this lease; None when the lease was lost."""
        self._look(self.alarms.clock.now())
        return self._leased.get(tag)

    def renew(self, tag: Any, lease: Seconds) -> bool:
        """Hold a delivery for another lease; return whether it was still held."""
        stored = self.held_by(tag)
        if stored is None:
            return False
        stored.until = self.alarms.clock.now() + lease
        return True

    def finish(self, tag: Any) -> None:
        """Forget a message that is under this lease."""
        stored = self._leased.pop(tag)
        self._leased_size -= len(stored.frame)
        self._forget(stored)

    def give_back(self, tag: Any, *, after: Seconds = 0.0, failed: bool = False, untouched: bool = False) -> None:
        """End a lease, so that the message is delivered again; `wake` is the caller's next step."""
        stored = self._leased.pop(tag)
        self._leased_size -= len(stored.frame)
        stored.attempts -= untouched
        stored.failures += failed and not untouched
        if after > 0:
            due = self.alarms.clock.now() + after
            heapq.heappush(self._delayed, (due, stored.number, stored))
            self._expect(due)
        else:
            heapq.heappush(self._returned, (stored.number, stored))

    def tags_of(self, holder: str) -> list[int]:
        """Return the tags of what a receiver holds, and count it among the receivers no more."""
        self._receivers.pop(holder, None)
        return [tag for tag, stored in self._leased.items() if stored.holder == holder]

    def leased_now(self) -> tuple[int, int]:
        """Return how many messages, and bytes of them, are delivered and not settled."""
        self._look(self.alarms.clock.now())
        return len(self._leased), self._leased_size

    # --- looking in ----------------------------------------------------------------------------------

    def info(self, *, dead: int, lease: Seconds) -> QueueInfo:
        """Return what it holds now; a receiver that was last seen a lease ago is not counted."""
        now = self.alarms.clock.now()
        self._look(now)
        active = {stored.holder for stored in self._leased.values()} | {waiter.peer for waiter in self.waiters}
        active.update(peer for peer, seen in self._receivers.items() if seen + lease > now)
        return QueueInfo(
            spec=self.spec,
            stored=self.count,
            stored_bytes=self.size,
            leased=len(self._leased),
            delayed=len(self._delayed),
            dead=dead,
            oldest=min((stored.at for stored in self._oldest(1)), default=None),
            receivers=len(active),
        )

    def peek(self, limit: int) -> list[Delivery]:
        """Return the oldest messages, delivered ones too, without taking them."""
        self._look(self.alarms.clock.now())
        name = self.spec.name
        return [Delivery(name, stored.frame, None, stored.attempts, stored.failures) for stored in self._oldest(limit)]

    def _oldest(self, limit: int) -> list[Stored]:
        first = chain(
            islice(self._ready, limit),
            (entry[1] for entry in self._returned),
            (entry[2] for entry in self._delayed),
            self._leased.values(),
        )
        return heapq.nsmallest(limit, first, key=lambda stored: stored.number)

    def close(self, error: Exception) -> None:
        """Send everybody away who waits for a message of this queue."""
        self.gone = True
        self._alarm.cancel()
        for waiter in self.waiters:
            waiter.fail(error)
        self.waiters.clear()

    # --- time ----------------------------------------------------------------------------------------

    def await_time(self) -> None:
        """Set the alarm for what runs out or falls due next; for when somebody waits."""
        if self._look_at < math.inf:
            self._alarm.set(self._look_at)

    def _expect(self, at: Instant) -> None:
        if at < self._look_at:
            self._look_at = at
            if self.waiters:
                self._alarm.set(at)

    def _tick(self) -> None:
        self._look(self.alarms.clock.now())
        self.wake()
        if self.waiters:
            self.await_time()

    def _look(self, now: Instant) -> None:
        """Take back the leases that ran out and the messages that fell due."""
        if now < self._look_at:
            return
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            _, number, stored = heapq.heappop(delayed)
            heapq.heappush(self._returned, (number, stored))
        for tag in [tag for tag, stored in self._leased.items() if stored.until <= now]:
            self.give_back(tag)
        soonest = min((stored.until for stored in self._leased.values()), default=math.inf)
        self._look_at = min(soonest, delayed[0][0] if delayed else math.inf)

    # --- places --------------------------------------------------------------------------------------

    def _next_number(self) -> float:
        ready = self._ready[0].number if self._ready else math.inf
        return min(ready, self._returned[0][0]) if self._returned else ready

    def _pop(self) -> Stored:
        returned, ready = self._returned, self._ready
        if returned and (not ready or returned[0][0] < ready[0].number):
            return heapq.heappop(returned)[1]
        return ready.popleft()

    def _forget(self, stored: Stored) -> None:
        self.count -= 1
        self.size -= len(stored.frame)
