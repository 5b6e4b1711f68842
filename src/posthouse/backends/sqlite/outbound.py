"""The calls of `send` on their way: gathered into batches, and held back where a queue is full.

A send that is held back waits behind those that wait for the same room, and is tried again when the
process is rung, at the slow poll, and no longer than `overflow_wait`. What a batch does to the tables is
in sending.

When the file was deleted, those who made the queues and bindings make them again in the new one, soon. Until
then a send to what is not there fails as unavailable: nobody said that there is no such queue, and a topic
whose queues are on their way must not forget what it is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, final

from posthouse.backends.sqlite.sending import Lack, SendBatch
from posthouse.errors import QueueFullError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.backends.sqlite.database import Database
    from posthouse.clock import Clock, Instant, Seconds
    from posthouse.contracts.transport import Outgoing

_LARGEST_BATCH: Final = 2048
"""Messages after which a batch takes no more sends: the rest of the turn makes another transaction."""

RETURN: Final[Seconds] = 3.0
"""How long after the file was deleted queues and bindings are expected to come back: two polls, and some."""


@final
class _Held:
    """A send that waits for room.

    Args:
        messages: what to store.
        future: what its caller waits for.
    """

    __slots__ = ("deadline", "ends", "future", "lack", "messages", "timer")

    def __init__(self, messages: Sequence[Outgoing], future: asyncio.Future[None]) -> None:
        self.messages = messages
        self.future = future
        self.lack = Lack("", 0, "messages")
        self.deadline: Instant = 0.0  # when it is held back no longer, by the clock, should that be set by hand,
        self.ends = 0.0  # and by the loop's time; whichever comes first
        self.timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Stop the time."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def fail(self, error: Exception) -> None:
        """Tell that it was not stored."""
        self.stop()
        if not self.future.done():
            self.future.set_exception(error)


@final
class Outbound:
    """All calls of `send` of one open transport.

    Args:
        database: where the batches run.
        peer: this process.
        clock: tells when messages are stored.
        overflow_wait: how long a send is held back by a full queue, in seconds.
    """

    __slots__ = (
        "_again",
        "_batch",
        "_clock",
        "_database",
        "_held",
        "_loop",
        "_numbers",
        "_overflow_wait",
        "_peer",
        "_settled_at",
        "closed",
    )

    def __init__(self, database: Database, *, peer: str, clock: Clock, overflow_wait: Seconds) -> None:
        self._database = database
        self._peer = peer
        self._clock = clock
        self._overflow_wait = overflow_wait
        self._loop = asyncio.get_running_loop()
        self._batch: SendBatch | None = None
        self._numbers: dict[str, int] = {}  # of the queues that are sent to
        self._held: dict[str, deque[_Held]] = {}  # by the queue that is full
        self._again: dict[asyncio.Future[None], _Held] = {}  # of these, those that are being tried again
        self._settled_at = 0.0  # by the loop's time: when what is not in the file is not expected to come back
        self.closed = False

    def send(self, messages: Sequence[Outgoing]) -> asyncio.Future[None]:
        """Store these, all or none; the future is done when they are on the disk."""
        future = self._loop.create_future()
        if not messages:
            future.set_result(None)
        elif self._held and not messages[0].topic and messages[0].address in self._held:
            self._hold(_Held(messages, future), self._held[messages[0].address][0].lack)
        else:
            self._join(messages, future)
        return future

    def try_again(self) -> None:
        """Send again what waits for room, in its order."""
        held, self._held = self._held, {}
        for sends in held.values():
            for send in sends:
                send.stop()
                self._again[send.future] = send
                self._join(send.messages, send.future)

    def reset(self) -> None:
        """The file was deleted: nothing is held back by its queues."""
        self._settled_at = self._loop.time() + RETURN
        self._numbers.clear()
        self.try_again()

    def clock_was_set(self, now: Instant) -> None:
        """Refuse what was held back for long enough by the clock; the loop's time did not move."""
        for send in [send for held in self._held.values() for send in held if send.deadline <= now]:
            self._give_up(send)

    def close(self) -> None:
        """Hold nothing back any more."""
        self.closed = True
        held, self._held = self._held, {}
        for sends in held.values():
            for send in sends:
                send.fail(_closed())

    def _join(self, messages: Sequence[Outgoing], future: asyncio.Future[None]) -> None:
        batch = self._batch
        if batch is None or batch.weight >= _LARGEST_BATCH:
            batch = SendBatch(
                self._peer,
                self._clock,
                self._numbers,
                returning=self._is_returning,
                started=self._started,
                ended=self._ended,
            )
            self._database.submit(batch)
            self._batch = batch
        batch.sends.append(messages)
        batch.futures.append(future)
        batch.weight += len(messages)

    def _is_returning(self) -> bool:
        return self._loop.time() < self._settled_at

    def _started(self) -> None:
        self._batch = None

    def _ended(self, batch: SendBatch, error: Exception | None) -> None:
        if error is None and not batch.refused and not self._again:
            for future in batch.futures:
                if not future.done():
                    future.set_result(None)
            return
        for place, future in enumerate(batch.futures):
            refusal = error or batch.refused.get(place)
            waited = self._again.pop(future, None)
            if isinstance(refusal, Lack):  # even if its caller has stopped waiting: it is on its way
                self._hold(waited or _Held(batch.sends[place], future), refusal)
            elif future.done():
                continue
            elif refusal is not None:
                future.set_exception(refusal)
            else:
                future.set_result(None)

    def _hold(self, send: _Held, lack: Lack) -> None:
        send.lack = lack
        if self.closed:
            send.fail(_closed())
            return
        if not send.ends:
            send.deadline = self._clock.now() + self._overflow_wait
            send.ends = self._loop.time() + self._overflow_wait
        send.timer = self._loop.call_at(send.ends, self._give_up, send)
        self._held.setdefault(lack.queue, deque()).append(send)

    def _give_up(self, send: _Held) -> None:
        held = self._held[send.lack.queue]
        held.remove(send)
        if not held:
            del self._held[send.lack.queue]
        send.fail(QueueFullError(*send.lack))


def _closed() -> UnavailableError:
    return UnavailableError("the transport was closed while a full queue held this send back; it was not stored")
