"""The transport in a SQLite file: queues, topics, and the direct path.

This file is the door: what goes in and out waits in outbound and inbound, operations on the tables are in
sending, claiming, settling, queues and letters, the direct path is in direct.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

from posthouse.backends.sqlite import letters, queues
from posthouse.backends.sqlite.direct import SqliteDirect
from posthouse.backends.sqlite.inbound import Inbound
from posthouse.backends.sqlite.leasing import LEASE
from posthouse.backends.sqlite.outbound import Outbound
from posthouse.backends.sqlite.place import LONGEST_PEER
from posthouse.backends.sqlite.waiting import RECEIVER
from posthouse.contracts.transport import Features
from posthouse.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from posthouse.backends.sqlite.database import Database
    from posthouse.clock import Clock, Seconds
    from posthouse.contracts.transport import DeadLetter, Delivery, Direct, Outcome, Outgoing, QueueInfo, QueueSpec

_PEER: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_PEER}}}")


@final
class SqliteTransport:
    """Carries frames through the file of a data directory; see contracts.transport.Transport.

    Args:
        database: the file, shared with the registry of this process.
        peer: the id of this process, which no other process has: the holder of its leases, and the name
            of its sockets; a word of at most 32 letters, digits, `-` and `_`.
        clock: tells when leases end and delays are over.
        overflow_wait: how long a send is held back by a full queue, in seconds.

    Raises:
        ValueError: the peer is not such a word.
    """

    features: Features = Features(durable=True)

    def __init__(self, database: Database, *, peer: str, clock: Clock, overflow_wait: Seconds = 5.0) -> None:
        if not _PEER.fullmatch(peer):
            raise ValueError(
                f"a peer's id is a word of at most {LONGEST_PEER} letters, digits, '-' and '_', not {peer!r}"
            )
        database.peer = peer
        database.queue_rung = self._rung
        database.polls.append(self._poll)
        database.resets.append(self._reset)
        self._resets: list[Callable[[], None]] = []
        self._database = database
        self._peer = peer
        self._clock = clock
        self._overflow_wait = overflow_wait
        self._outbound: Outbound | None = None  # there while the transport is open
        self._inbound: Inbound | None = None
        self._unwatch: Callable[[], None] | None = None  # ends what a clock that is set by hand tells us
        self._direct = SqliteDirect(peer, broken=database.bury)
        self.direct: Direct = self._direct

    @property
    def lease(self) -> Seconds:
        """How long a delivery is held before it must be renewed."""
        return LEASE

    async def open(self) -> None:
        """Open the file and be reachable."""
        if self._inbound is not None:
            return
        await self._database.open()
        try:
            await self._direct.open(self._database.sockets)
        except BaseException:
            await self._database.close()
            raise
        self._inbound = Inbound(self._database, peer=self._peer, clock=self._clock)
        self._outbound = Outbound(self._database, peer=self._peer, clock=self._clock, overflow_wait=self._overflow_wait)
        wake: Callable[[Callable[[], None]], Callable[[], None]] | None = getattr(self._clock, "wake", None)
        self._unwatch = wake(self._clock_was_set) if wake is not None else None

    async def close(self) -> None:
        """Give back every lease as untouched, and close."""
        if self._inbound is None or self._outbound is None:
            return
        self._inbound.close()
        self._outbound.close()
        self._inbound = self._outbound = None
        if self._unwatch is not None:
            self._unwatch()
        try:
            await self._direct.close()
        finally:
            await self._database.close()

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the file was deleted, and another one is open."""
        self._resets.append(callback)

    # --- queues and topics ---------------------------------------------------------------------------

    async def declare(self, *queues_: QueueSpec) -> None:
        """Make these queues, or bring their limits up to date."""
        rings = await self._database.call(lambda sql: queues.declare(sql, queues_, self._peer), flush=True)
        self._database.ring(rings)

    async def delete(self, queue: str) -> None:
        """Remove a queue with all that it holds."""
        rings = await self._database.call(lambda sql: queues.delete(sql, queue), flush=True)
        self._database.ring(rings)

    async def bind(self, topic: str, queue: str) -> None:
        """Let a topic go to a queue too."""
        await self._database.call(lambda sql: queues.bind(sql, topic, queue), flush=True)

    async def unbind(self, topic: str, queue: str) -> None:
        """Let it no longer."""
        await self._database.call(lambda sql: queues.unbind(sql, topic, queue), flush=True)

    # --- messages ------------------------------------------------------------------------------------

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these, all or none; they are on the disk when the awaitable is done."""
        return self._out().send(messages)

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Take up to `credit` messages, oldest first; wait for the first one up to `wait`."""
        return await self._in().receive(queue, credit=credit, wait=wait)

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries; return those that were lost."""
        return self._in().settle(outcomes)

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Hold on to these for another lease; return those that were lost."""
        return await self._in().renew(deliveries)

    # --- inspection ----------------------------------------------------------------------------------

    async def queues(self) -> list[QueueInfo]:
        """Return what every queue holds."""
        return await self._database.call(lambda sql: queues.inspect(sql, self._clock.now()), reads=True)

    async def bindings(self) -> list[tuple[str, str]]:
        """Return every (topic, queue)."""
        return await self._database.call(queues.bindings, reads=True)

    async def peek(self, queue: str, *, limit: int = 20) -> list[Delivery]:
        """Return the oldest messages without taking them."""
        return await self._database.call(lambda sql: queues.peek(sql, queue, limit), reads=True)

    async def dead(self, *, queue: str = "", after: str = "", limit: int = 100) -> list[DeadLetter]:
        """Return dead letters, oldest first."""
        return await self._database.call(
            lambda sql: letters.listed(sql, queue=queue, after=after, limit=limit), reads=True
        )

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Put dead letters back into their queues; return the ids that were there."""
        done, rings = await self._database.call(lambda sql: letters.replay(sql, ids, self._clock.now()), flush=True)
        self._database.ring(rings)
        return done

    async def drop(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters; return the ids that were there."""
        return await self._database.call(lambda sql: letters.drop(sql, ids), flush=True)

    # --- what wakes us -------------------------------------------------------------------------------

    def _out(self) -> Outbound:
        if self._outbound is None:
            raise UnavailableError(f"the transport at {self._database.directory} is not open")
        return self._outbound

    def _in(self) -> Inbound:
        if self._inbound is None:
            raise UnavailableError(f"the transport at {self._database.directory} is not open")
        return self._inbound

    def _rung(self, number: int, role: int) -> None:
        if role == RECEIVER:
            if self._inbound is not None:
                self._inbound.rung(number)
        elif self._outbound is not None:
            self._outbound.try_again()

    def _poll(self) -> None:
        if self._inbound is not None and self._outbound is not None:
            self._direct.rehang()
            self._inbound.poll()
            self._outbound.try_again()

    def _reset(self) -> None:
        if self._inbound is not None and self._outbound is not None:
            self._inbound.reset()
            self._outbound.reset()
            for tell in self._resets:
                tell()

    def _clock_was_set(self) -> None:
        if self._inbound is not None and self._outbound is not None:
            self._inbound.clock_was_set(self._clock.now())
            self._outbound.clock_was_set(self._clock.now())
            self._poll()
