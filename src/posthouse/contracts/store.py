"""What a service's own database promises, so that a delivery takes effect exactly once.

The first backend comes with journaled delivery: until then nothing implements this contract, and
nothing is run against it. It stands here so that what is built now leaves the right room.

A store belongs to one service, and all instances of that service share it. What a handler does is
one transaction: the row that says "this message took effect", the user's own rows, the messages
that it sends, and the events that it tells are there together or not at all. Nothing leaves a
process before the transaction that says so has committed.

States, numbers, floors, and who may forget what, are rules, and stand in `posthouse.protocol`; the
loops that send, repeat and apply stand in `posthouse.runtime`. A store only keeps and finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from posthouse.clock import Instant
    from posthouse.message.message import Message


class Identity(msgspec.Struct, frozen=True):
    """Which store it is, and in which life.

    Attributes:
        id: random, and unique for ever; an instance with another one is refused at start.
        epoch: a number that only grows; a new one is minted at creation and at every restore, so
            that the other side of each lane notices that this one has forgotten something.
    """

    id: str
    epoch: int


class Numbered(msgspec.Struct, frozen=True):
    """A place in a lane: the messages from one store and epoch to one service, or of one topic.

    Attributes:
        sender: the store that gave the number.
        lane: the service that is asked, or the topic that is told.
        number: 0, 1, 2 ... without gaps; taken by the commit, never before it.
    """

    sender: Identity
    lane: str
    number: int


class Transaction(Protocol):
    """What commits together. It ends with the block that opened it, and is rolled back by an error.

    Every method may raise UnavailableError; then nothing of the transaction has happened.
    """

    async def execute(self, statement: str, values: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        """Run one statement on the user's own tables, with named values; return its rows."""
        ...

    async def put_out(self, messages: Sequence[Message]) -> None:
        """Outbox: keep messages to be sent after the commit, until each of them is final.

        Raises:
            QueueFullError: the outbox towards that service is at its capacity.
        """
        ...

    async def take_in(self, places: Sequence[Numbered], messages: Sequence[Message]) -> list[bool]:
        """Inbox: keep messages that arrived; return for each whether it was new.

        A unique key decides, inside the commit: a message whose place is known is not kept again,
        however long ago that was.
        """
        ...

    async def decide(self, place: Numbered, outcome: Message) -> None:
        """Inbox: keep what became of a request. What was decided never changes.

        Raises:
            LeaseLostError: another attempt runs it now, so this one may not commit.
        """
        ...

    async def tell(self, events: Sequence[Message]) -> None:
        """Journal: append events to the lanes of their topics, whether or not anybody listens."""
        ...


class Store(Protocol):
    """A service's own database. Every method may raise UnavailableError."""

    identity: Identity
    """Known once it is open."""

    async def open(self) -> None:
        """Connect, create what is not there, and find out who it is.

        A store that was copied from another machine mints a new epoch here.

        Raises:
            UnsafeEngineError: the engine is of a version that can lose data.
            StorageError: the place for the data cannot be used.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; what was committed stays."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open the one transaction of a handler; it commits when the block ends well.

        Many of one turn of the loop may share one commit; if that fails, all of them run again.
        """
        ...

    async def outbox(self, *, due: Instant, limit: int) -> list[tuple[Numbered, Message]]:
        """Return messages that are to be sent, or sent again, by this instant; oldest first."""
        ...

    async def journal(self, lane: str, *, start: int, limit: int) -> list[tuple[Numbered, Message]]:
        """Return events of a topic from this number on, for a subscription that missed them.

        The first number that is returned is larger than `start` when retention has passed it: the
        caller tells the subscription of the gap.
        """
        ...

    async def backup(self, to: Path) -> None:
        """Write a copy that is whole, while the store is in use; restoring it mints a new epoch."""
        ...
