"""Requests that are not journaled, and whose outcome is asked for later: GET /requests/{id}, idempotency keys.

Both are kept in the memory of this gateway, so not across its restarts and not shared with its
replicas, and both are bounded in number, in time and in bytes: the oldest goes first. A request that is
dropped here is not undone; only its outcome is not heard of any more. Those of journaled operations
stand in the gateway's store, see journaled.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from posthouse.errors import (
    GatewayError,
    IdempotencyConflictError,
    IdempotencyRunningError,
    OutcomeUnknownError,
    PosthouseError,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from posthouse.clock import Clock, Instant, Seconds
    from posthouse.contracts.registry import OperationRecord
    from posthouse.gateway.idempotency import Given
    from posthouse.message.message import Message
    from posthouse.runtime.caller import Ticket


class Kept:
    """One request, and what has become of it.

    Attributes:
        record: the operation.
        id: of the request; empty until it is on its way.
        outcome: its reply, or the error that says why there is none; None while it is open.
        expires: when it is forgotten.
    """

    __slots__ = ("expires", "id", "outcome", "record", "ticket")

    def __init__(self, record: OperationRecord) -> None:
        self.record = record
        self.id = ""
        self.outcome: Message | PosthouseError | None = None
        self.expires: Instant = 0.0
        self.ticket: Ticket | None = None


class Room:
    """The memory that outcomes may take: for new ones, those that were there longest are let go.

    Args:
        size: most bytes of data, of all outcomes together.
        count: most outcomes.
    """

    def __init__(self, *, size: int, count: int) -> None:
        self._size = size
        self._count = count
        self._used = 0
        self._held: deque[tuple[Kept, int]] = deque()

    def keep(self, kept: Kept, outcome: Message | PosthouseError) -> None:
        """Keep what has become of a request; of one that is let go, only that it is over is still known."""
        kept.outcome = outcome
        taken = 0 if isinstance(outcome, PosthouseError) else len(outcome.data)
        self._held.append((kept, taken))
        self._used += taken
        while self._used > self._size or len(self._held) > self._count:
            oldest, freed = self._held.popleft()
            self._used -= freed
            oldest.outcome = _not_kept(oldest)


class Shelf:
    """Requests by their id.

    Args:
        count: most of them.
        length: seconds for which each is kept, from when it was put here and again from its outcome.
        clock: what time it is.
        room: for their outcomes.
        forget: is given the ticket of one that is dropped while it is open.
    """

    def __init__(
        self, *, count: int, length: Seconds, clock: Clock, room: Room, forget: Callable[[Ticket], None]
    ) -> None:
        self._count = count
        self._length = length
        self._clock = clock
        self._room = room
        self._forget = forget
        self._kept: dict[str, Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, kept: Kept, ticket: Ticket) -> None:
        """Keep a request whose reply is still to come, and its outcome when it does."""
        kept.id = ticket.id
        kept.ticket = ticket
        self._renew(kept)
        while len(self._kept) > self._count:
            self._drop(next(iter(self._kept.values())))
        ticket.reply.add_done_callback(lambda reply: self._ended(kept, reply))

    def get(self, id: str) -> Kept | None:
        """Return a request; None when it was never here, or is no longer."""
        self._purge()
        return self._kept.get(id)

    def close(self) -> None:
        """Drop everything."""
        for kept in list(self._kept.values()):
            self._drop(kept)

    def _ended(self, kept: Kept, reply: asyncio.Future[Message]) -> None:
        kept.ticket = None
        self._room.keep(kept, outcome_of(reply, kept))
        if kept.id in self._kept:
            self._renew(kept)

    def _renew(self, kept: Kept) -> None:
        self._purge()
        kept.expires = self._clock.now() + self._length
        self._kept.pop(kept.id, None)
        self._kept[kept.id] = kept  # last: the order is that in which they expire

    def _purge(self) -> None:
        now = self._clock.now()
        while self._kept and (oldest := next(iter(self._kept.values()))).expires <= now:
            self._drop(oldest)

    def _drop(self, kept: Kept) -> None:
        del self._kept[kept.id]
        if kept.ticket is not None:
            self._forget(kept.ticket)
            kept.outcome = _not_kept(kept)  # whose key is used again hears that, not that it still runs


class Keys:
    """Idempotency keys, with what was asked and what became of it.

    Args:
        count: most of them.
        length: seconds for which each is kept.
        clock: what time it is.
    """

    def __init__(self, *, count: int, length: Seconds, clock: Clock) -> None:
        self._count = count
        self._length = length
        self._clock = clock
        self._used: dict[tuple[str, str], tuple[bytes, Instant, Kept]] = {}

    def __len__(self) -> int:
        return len(self._used)

    def begin(self, route: str, given: Given, kept: Kept) -> Kept | None:
        """Reserve a key for `kept`; return the request that used it before, when it has its outcome.

        Args:
            route: what is asked; other routes' keys are others.
            given: the key, with what is asked under it.
            kept: what will be known of it.

        Raises:
            IdempotencyConflictError: it was used for other data.
            IdempotencyRunningError: the request that used it is still open.
        """
        now = self._clock.now()
        while self._used and next(iter(self._used.values()))[1] <= now:
            del self._used[next(iter(self._used))]
        before = self._used.get((route, given.key))
        if before is None:
            self._used[route, given.key] = (given.digest, now + self._length, kept)
            while len(self._used) > self._count:
                del self._used[next(iter(self._used))]
            return None
        if before[0] != given.digest:
            raise IdempotencyConflictError("this idempotency key was used before, with other data")
        if before[2].outcome is None:
            raise IdempotencyRunningError(
                "a request with this idempotency key is still running", message_id=before[2].id or None
            )
        return before[2]

    def release(self, route: str, given: Given) -> None:
        """Free a key again: nothing was stored under it."""
        self._used.pop((route, given.key), None)


def _not_kept(kept: Kept) -> PosthouseError:
    return OutcomeUnknownError(
        "the gateway has no room to keep what became of this request", message_id=kept.id or None
    )


def outcome_of(reply: asyncio.Future[Message], kept: Kept) -> Message | PosthouseError:
    """Return what a future that is done says: the reply, or why there is none."""
    if reply.cancelled():
        return OutcomeUnknownError("nobody waits for the reply any more", message_id=kept.id or None)
    error = reply.exception()
    if error is None:
        return reply.result()
    return error if isinstance(error, PosthouseError) else GatewayError(str(error), message_id=kept.id or None)
