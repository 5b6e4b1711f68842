"""What carries messages: queues, topics, and a direct path between instances.

A transport is a pipe with a memory. It stores frames that it does not read, hands them out under
a lease, and is told what became of them. It never decides about retries: it is told `Released`.

- **queue**: each message goes to one receiver. Whoever declares a queue says what it may hold.
- **topic**: each message goes to every queue that is bound to it, in one step, or to none.
- **direct**: to one running instance, kept nowhere: volatile requests, replies, heartbeats.

A message that `send` has confirmed is delivered until it is settled as accepted or rejected, whoever
dies meanwhile. It may be delivered more than once. What an engine cannot do stands in `features`.

An engine may lose all that it holds while it is used: somebody wipes its data. Then it goes on empty, without a
restart of anybody, and says so (`on_reset`): queues, bindings, messages and leases are gone; the direct path goes on.

Addresses were checked by `message.names` before they come here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from posthouse.clock import Instant, Seconds

Overflow: TypeAlias = Literal["reject", "wait", "drop-oldest"]
"""What a full queue does: refuse the message, hold the sender back, or drop its oldest message."""


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do; the conformance tests and the start-up check ask here, nobody guesses.

    Attributes:
        durable: a confirmed message survives the death of every process.
        direct: it has a path to one instance.
        delay: `Released(after)` is kept to within a second.
        capacity: queues have limits in messages and in bytes.
        dead_letters: rejected messages are kept, and can be listed and replayed.
        inspection: `queues` counts.
        shared: several processes can open it at once.
        emulated: names of those above that we add to the engine, and how; for `doctor`.
    """

    durable: bool
    direct: bool = True
    delay: bool = True
    capacity: bool = True
    dead_letters: bool = True
    inspection: bool = True
    shared: bool = True
    emulated: dict[str, str] = {}


CAPACITY_BYTES: Final = 1 << 30
"""The most bytes of a queue for which nobody said anything else: 1 GiB."""


class QueueSpec(msgspec.Struct, frozen=True):
    """What a queue may hold.

    Attributes:
        name: its address.
        capacity: most messages, delivered but unsettled ones included; 1 or more.
        capacity_bytes: most bytes of their frames.
        overflow: what happens beyond that.
        owner: the service that receives from it.
        ephemeral: the instance with which it goes, or empty: one copy per instance.
    """

    name: str
    capacity: int = 100_000
    capacity_bytes: int = CAPACITY_BYTES
    overflow: Overflow = "reject"
    owner: str = ""
    ephemeral: str = ""


class Outgoing(msgspec.Struct, gc=False):
    """One frame to be stored.

    Attributes:
        address: a queue, or a topic.
        frame: the bytes; never read.
        topic: whether the address is a topic.
    """

    address: str
    frame: bytes
    topic: bool = False


class Delivery(msgspec.Struct, gc=False):
    """One hand-over of a message, under a lease of this receiver.

    Attributes:
        queue: where it came from.
        frame: the bytes as they were sent.
        tag: the engine's handle for settling; opaque.
        attempt: 1, 2, ...: how often it was handed over, this time included.
        failures: how often it was released because a handler failed.
    """

    queue: str
    frame: bytes
    tag: Any
    attempt: int = 1
    failures: int = 0


class Accepted(msgspec.Struct, frozen=True):
    """It took effect: forget it."""


class Released(msgspec.Struct, frozen=True):
    """Deliver it again.

    Attributes:
        after: how long to hold it back.
        failed: whether a handler failed at it; `Delivery.failures` counts these.
        untouched: no handler saw it, so that this delivery is no attempt (a drain hands it back).
    """

    after: Seconds = 0.0
    failed: bool = True
    untouched: bool = False


class Rejected(msgspec.Struct, frozen=True):
    """Never deliver it again: keep it as a dead letter.

    Attributes:
        state: parked (undecided, an operator may replay it) or failed (decided, the caller was told).
        code: the stable code of the error that ended it.
        reason: its text, one line.
        detail: what helps a person: the traceback, without the values of variables.
    """

    state: Literal["parked", "failed"]
    code: str
    reason: str
    detail: str = ""


Outcome: TypeAlias = Accepted | Released | Rejected

ACCEPTED: Final = Accepted()


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue holds now.

    Attributes:
        spec: what it may hold.
        stored: messages in it, delivered but unsettled ones included.
        stored_bytes: the bytes of their frames.
        leased: delivered and not settled.
        delayed: released, and not due yet.
        dead: dead letters that came from it.
        oldest: when the oldest stored message was stored; None when empty.
        receivers: instances that receive from it now.
    """

    spec: QueueSpec
    stored: int
    stored_bytes: int
    leased: int
    delayed: int
    dead: int
    oldest: Instant | None
    receivers: int


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was rejected, with the reason.

    Attributes:
        id: the dead letter's own handle: what `replay` and `drop` take.
        queue: where it was.
        frame: the bytes as they were sent.
        outcome: why.
        attempts: how often it was delivered.
        at: when it was rejected.
    """

    id: str
    queue: str
    frame: bytes
    outcome: Rejected
    attempts: int
    at: Instant


class Direct(Protocol):
    """The path to one running instance. Nothing sent here is kept, and nothing is sent twice."""

    peer: str
    """Where this process is reached: what others pass as `peer`."""

    def listen(self, receive: Callable[[str, list[bytes]], None], lost: Callable[[str, list[bytes]], None]) -> None:
        """Say who takes what arrives; once, before anything is sent.

        Args:
            receive: is given the peer that sent, and its frames, as many as there are; must not block.
            lost: is given a peer that went away or cannot be reached, and the frames to it that
                were certainly not delivered.
        """
        ...

    def send(self, peer: str, frame: bytes) -> None:
        """Write a frame to a peer, together with all others of this turn of the loop. Never waits."""
        ...


class Transport(Protocol):
    """Carries frames. Every method may raise UnavailableError."""

    features: Features
    direct: Direct

    async def open(self) -> None:
        """Connect, or create what is not there.

        Raises:
            UnsafeEngineError: the engine is of a version that can lose data.
            StorageError: the place for the data cannot be used.
        """
        ...

    async def close(self) -> None:
        """Give back every lease that is still held, as untouched, and let go of everything."""
        ...

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time when all that the engine held is gone, and it can be used again.

        It is called in every process that has the engine open, soon (within about a second), on the loop; it
        must not block or raise. Until then, what is sent may be confirmed and lost; what is confirmed after it is
        in the engine as it is now. What was received before it is lost: settling and renewing say so.

        Receives that wait are told QueueUnknownError, as after `delete`, or wait on if the queue is there again.
        For a few seconds a send to a queue or topic that is not there (yet again) may raise UnavailableError.
        """
        ...

    async def declare(self, *queues: QueueSpec) -> None:
        """Make these queues, or bring their limits up to date. What they hold stays."""
        ...

    async def delete(self, queue: str) -> None:
        """Remove a queue with all that it holds, and its bindings; no error when there is none.

        Dead letters that came from it stay, until they are dropped.
        """
        ...

    async def bind(self, topic: str, queue: str) -> None:
        """From now on, what is sent to the topic goes to this queue too. Twice is once.

        Raises:
            QueueUnknownError: nobody declared the queue.
        """
        ...

    async def unbind(self, topic: str, queue: str) -> None:
        """From now on, no longer; what the queue holds stays."""
        ...

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these, all or none; when the awaitable is done, they are as safe as the engine promises.

        Many calls of one turn of the loop share one write. A topic without queues takes a message
        and forgets it. Once called, the messages are on their way: canceling the wait takes nothing back.

        Raises (when awaited):
            QueueUnknownError: nobody declared the queue.
            QueueFullError: it is full and rejects, or a sender was held back for `overflow_wait`.
        """
        ...

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Take up to `credit` messages, oldest first; wait for the first one up to `wait`.

        Each is under a lease until it is settled, or until this process dies or fails to renew.
        Canceling it loses nothing.

        Raises:
            QueueUnknownError: nobody declared the queue.
        """
        ...

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries; return those whose lease was lost, which were not settled.

        Settling may be lost with the machine (not with a process): the message comes again.
        """
        ...

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Hold on to these for another lease; return those that were lost."""
        ...

    @property
    def lease(self) -> Seconds:
        """How long a delivery is held before it must be renewed."""
        ...

    async def queues(self) -> list[QueueInfo]:
        """Return what every queue holds."""
        ...

    async def bindings(self) -> list[tuple[str, str]]:
        """Return every (topic, queue)."""
        ...

    async def peek(self, queue: str, *, limit: int = 20) -> list[Delivery]:
        """Return the oldest messages without taking them; their tags settle nothing."""
        ...

    async def dead(self, *, queue: str = "", after: str = "", limit: int = 100) -> list[DeadLetter]:
        """Return dead letters, oldest first.

        Args:
            queue: only those of this queue.
            after: only those behind the one with this id.
            limit: at most so many.
        """
        ...

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Put dead letters back into their queues, as new deliveries; return the ids that were there.

        An operator wants it so: no capacity stands against it.

        Raises:
            QueueUnknownError: the queue of one is gone; none was put back.
        """
        ...

    async def drop(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters; return the ids that were there."""
        ...
