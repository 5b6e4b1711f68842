"""What a test lets go wrong with its messages, and how that is played.

Only what can really happen is played: what a mode promises not to happen is refused where it is ordered. Crashes are
played elsewhere (watched.py), as they happen to stores.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from posthouse.declare.operation import Event, Operation
from posthouse.errors import UsageError
from posthouse.message.message import Kind, Mode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from posthouse.message.message import Message

Fault: TypeAlias = Literal[
    "crash before commit",
    "crash after commit",
    "lose request",
    "lose reply",
    "lose ack",
    "duplicate request",
    "duplicate reply",
    "lose event",
    "reorder",
    "away",
]
"""What may go wrong.

- crash before commit: the handler has ended, and its instance dies before that is stored; another one takes over.
- crash after commit: it is stored, and the instance dies before anybody hears of it.
- lose request, lose reply, lose ack, lose event: it vanishes on its way. Who hears a journaled event asks for it.
- duplicate request, duplicate reply: it arrives twice.
- reorder: a request is overtaken by the next one, if there is one before everything rests.
- away: a request finds nobody.
"""

CRASHES: Final[frozenset[Fault]] = frozenset({"crash before commit", "crash after commit"})

_KEPT: Final = "a queue keeps it until it is settled, and loses it only with all that it holds"
_NEVER: Final = "it is sent once only, and never again"
_NO_COMMIT: Final = "it has no store in which anything could be committed"

_IMPOSSIBLE: Final[Mapping[tuple[Mode, Fault], str]] = {
    (Mode.QUEUED, "lose request"): _KEPT,
    (Mode.QUEUED, "away"): "a queue keeps it until somebody is there; serve it later",
    (Mode.QUEUED, "lose ack"): "its replies are not acked",
    (Mode.QUEUED, "crash before commit"): _NO_COMMIT,
    (Mode.QUEUED, "crash after commit"): _NO_COMMIT,
    (Mode.VOLATILE, "duplicate request"): _NEVER,
    (Mode.VOLATILE, "lose ack"): "its replies are not acked",
    (Mode.VOLATILE, "crash before commit"): _NO_COMMIT,
    (Mode.VOLATILE, "crash after commit"): _NO_COMMIT,
}
_OF_EVENTS: Final[frozenset[Fault]] = frozenset({"lose event"})


class Faults:
    """What was ordered, and is still to come."""

    def __init__(self) -> None:
        self._due: Counter[tuple[str, Fault]] = Counter()
        self._lost: dict[str, set[str]] = {}

    def order(self, where: Operation[Any, Any] | Event[Any], what: Fault, *, times: int) -> None:
        """Let something go wrong the next so many times.

        Raises:
            UsageError: it cannot happen there.
        """
        if times < 1:
            raise UsageError(f"times={times}: a fault happens once or more often")
        if (what in _OF_EVENTS) is not isinstance(where, Event):
            kind = "an event" if isinstance(where, Event) else "an operation"
            raise UsageError(f"{where.name} is {kind}, to which {what!r} cannot happen")
        if (why := _IMPOSSIBLE.get((where.promise, what))) is not None:
            raise UsageError(f"{what!r} cannot happen to {where.name}, which is {where.promise.name.lower()}: {why}")
        self._due[where.name, what] += times

    def strikes(self, name: str, what: Fault) -> bool:
        """Return whether this goes wrong now, and count it."""
        if self._due[name, what] <= 0:
            return False
        self._due[name, what] -= 1
        return True

    def loses_event(self, event: Message, peer: str) -> bool:
        """Return whether an event is lost, to all to whom it is sent; a journaled one until they ask for it."""
        if event.id not in self._lost:
            if not self.strikes(event.type, "lose event"):
                return False
            self._lost[event.id] = set()
        lost_to = self._lost[event.id]
        comes_again = event.mode is Mode.JOURNALED and peer in lost_to
        lost_to.add(peer)
        return not comes_again

    def loses_ack(self, operations: set[str]) -> bool:
        """Return whether an ack of requests to these operations is lost."""
        return any(self.strikes(name, "lose ack") for name in sorted(operations))

    def copies(self, message: Message) -> int:
        """Return how many copies of a request or reply arrive; the other faults were asked for before."""
        name, kind = message.type, message.kind
        if kind is Kind.REQUEST:
            if self.strikes(name, "lose request"):
                return 0
            return 2 if self.strikes(name, "duplicate request") else 1
        if kind is Kind.REPLY:
            if self.strikes(name, "lose reply"):
                return 0
            return 2 if self.strikes(name, "duplicate reply") else 1
        return 1
