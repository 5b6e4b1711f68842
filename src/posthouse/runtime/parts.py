"""What a process has one of, and everybody in it uses.

A host makes them, opens and closes them; those who send and receive are given them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asyncio import Future

    from posthouse.clock import Seconds
    from posthouse.contracts.transport import Transport
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.caller import Caller
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settler import Settler
    from posthouse.runtime.steps.asking import Asked
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.telling import Telling
    from posthouse.runtime.steps.ticket import Ticket


class Asks(Protocol):
    """Where journaled calls are stored, and waited for."""

    def ask(self, asked: Asked, *, for_reply: bool, expires_in: Seconds | None = None) -> Ticket:
        """Store a call, and send it once it is on the disk; never waits."""
        ...

    def watch(self, call: Call, *, expires_in: Seconds | None = None) -> Ticket:
        """Wait for a call that is in the books and was not answered when it was read."""
        ...

    def forget(self, ticket: Ticket) -> None:
        """Wait no longer; the call lives on."""
        ...

    def only_store(self, ticket: Ticket) -> None:
        """Wait no longer for the outcome: the ticket is filled with None once the call is stored."""
        ...


class Tells(Protocol):
    """Where journaled events are stored."""

    def tell(self, telling: Telling) -> Future[None]:
        """Store an event, and push it once it is on the disk; the future is done when it is there."""
        ...


class JournalOfCaller(Protocol):
    """A service's journal, as those who ask use it."""

    here: Here

    @property
    def tells(self) -> Tells:
        """The publisher's side."""
        ...

    @property
    def asks(self) -> Asks:
        """The caller's side."""
        ...

    def knows(self, service: str) -> bool:
        """Say whether a service was ever known to this store."""
        ...

    async def call(self, id: str) -> Call | None:
        """Return a call by its id."""
        ...

    async def cancel(self, id: str) -> bool:
        """Ask that a call is not done; return whether there is such a call."""
        ...


class Journals(Protocol):
    """The journals of a process, opened when they are first needed."""

    async def need(self, service: str) -> JournalOfCaller | None:
        """Return the journal of a service, and open it; None for a caller that has no store."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The shared parts of a process.

    Attributes:
        seams: time, chance, ids, tasks.
        transport: carries messages.
        directory: what is known of the registry.
        caller: volatile messages, and requests that wait for replies.
        settler: outcomes on their way to the transport.
        journals: the stores of the services of this process.
    """

    seams: Seams
    transport: Transport
    directory: Directory
    caller: Caller
    settler: Settler
    journals: Journals
