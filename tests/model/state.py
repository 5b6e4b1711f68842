"""What a world looks like at one instant: two stores, the workers' memory, and all that is in transit.

Everything here is an immutable tuple, so that a state is its own key. A payload stands for what a call
says: payload 0 is the first call that the application ever made, and an effect is remembered by it.

The network is the set of all messages sent since the last wipe. A delivered message stays in the set: loss
(never delivered), duplication (delivered again), reordering and any delay are one rule. States hold
the set as bits; `Mail` knows which bit is which message.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

CLOSED: Final = 99
"""the floor of a lane that its caller has closed for ever"""
NOTHING: Final = -1

# --- states of a row at the caller; the words of docs/explanation/protocol.md
HELD = "held"  # broken numbering only: a number is taken, the transaction has not committed
VOID = "void"  # ... and such a transaction was rolled back
OPEN = "open"
CANCEL_WANTED = "cancel wanted"
DONE = "done"
NOT_DONE = "not done"
UNKNOWN = "unknown"
CONFLICT = "conflict"
REDRIVING = "re-driving"
FORGOTTEN = "forgotten"  # done, acked, and no row any more: whoever judges still knows the call, its caller does not
ANSWERED = "answered"  # a call inside a handler: the outcome is stored, the handler has not committed
FINAL = frozenset({VOID, DONE, NOT_DONE, UNKNOWN, CONFLICT, FORGOTTEN})

# --- states of a row at the replier (DONE and NOT_DONE as above)
ABSENT = "absent"
RECEIVED = "received"
RUNNING = "running"
PARKED = "parked"
DROPPED = "dropped"
FAILED = "failed"  # broken variant only: told as not done, and replayed all the same
UNDECIDED = frozenset({RECEIVED, RUNNING, PARKED})

# --- outcomes on the wire, beside DONE and NOT_DONE
OVER = "over"


class CallerRow(NamedTuple):
    """One numbered call in the caller's store."""

    payload: int
    state: str = OPEN
    reply: int = NOTHING
    """the payload that the stored reply belongs to"""
    answer: str = ""
    """the outcome, where it is stored and not applied"""
    place: int = NOTHING
    """for a call inside a handler: the how many-th call of its delivery it is"""


class Waiting(NamedTuple):
    """One call in the caller's store that has no number yet."""

    payload: int
    born: int
    """the epoch of the caller in which it was made, or in which it was found that it never had a number"""


class Seen(NamedTuple):
    """What a running handler was told at one of its calls."""

    outcome: str
    peer_epoch: int


class CallerStore(NamedTuple):
    """All that survives a crash of the caller."""

    epoch: int
    lanes: tuple[tuple[CallerRow, ...], ...]
    """one lane per epoch of this store"""
    applied: tuple[int, ...]
    peer_epoch: int
    """the newest epoch of the replier that this store has heard of; NOTHING before the lane is bound"""
    waiting: tuple[Waiting, ...] = ()
    unknown: tuple[int, ...] = ()
    """calls without a number of which nobody knows any more whether they were sent"""
    reply_run: Seen | None = None
    """the row of the run that hears the reply, with the outcome as it was when the row was made"""
    handled: bool = False
    """whether the one delivery has been handled, where calls are made inside a handler"""


class ReplierRow(NamedTuple):
    """One request in the replier's store."""

    state: str = ABSENT
    payload: int = NOTHING
    confirmed: int = NOTHING
    """the replier's epoch in which the caller last asked for it"""
    asker: int = NOTHING
    """the newest epoch of the caller that asked for it"""
    attempt: int = NOTHING


class ReplierLane(NamedTuple):
    """What the replier knows of one lane."""

    floor: int
    rows: tuple[ReplierRow, ...]


class ReplierStore(NamedTuple):
    """All that survives a crash of the replier."""

    epoch: int
    lanes: tuple[ReplierLane, ...]
    effects: tuple[int, ...]
    restore_floors: tuple[int, ...]
    newest_caller: int
    """the newest epoch of the caller that was worked for"""


class Worker(NamedTuple):
    """A handler that runs in the replier's memory."""

    lane: int
    number: int
    payload: int
    attempt: int
    stage: str = "runs"
    """"runs"; or, where effect and row are two transactions, "owes the row" or "owes the effect" """


class Backups(NamedTuple):
    """What was put aside, how many restores of each side may still come, and whether there was one."""

    caller: CallerStore | None = None
    caller_used: bool = False
    caller_left: int = 0
    replier: ReplierStore | None = None
    replier_used: bool = False
    replier_left: int = 0
    newest_caller: int = 0
    """the newest epoch that any history of the caller's store had"""
    newest_replier: int = 0


class Uncommitted(NamedTuple):
    """Broken caller: it has sent a call that it has not committed."""

    payload: int


class Unsent(NamedTuple):
    """The caller has committed a call and not sent it yet."""

    lane: int
    number: int


Memory: TypeAlias = Uncommitted | Unsent | None


class Flushed(NamedTuple):
    """What a power cut leaves of each store; None where power never fails (any more)."""

    caller: CallerStore | None = None
    replier: ReplierStore | None = None


class State(NamedTuple):
    """One instant of a world."""

    caller: CallerStore
    replier: ReplierStore
    workers: tuple[Worker, ...]
    net: int
    memory: Memory
    created: int
    """calls that the application has made, ever"""
    backups: Backups
    run: tuple[Seen, ...] | None = None
    """what the handler that makes the calls has been told so far; None while it does not run"""
    flushed: Flushed = Flushed()


# --- messages


class Request(NamedTuple):
    """REQUEST: stamped with the caller's epoch and the replier's, as the caller knows it."""

    lane: int
    number: int
    payload: int
    caller_epoch: int
    replier_epoch: int


class Cancel(NamedTuple):
    """CANCEL: asks that a request be decided as not done."""

    lane: int
    number: int
    caller_epoch: int
    replier_epoch: int


class Reply(NamedTuple):
    """REPLY: the outcome, the caller's epoch echoed, the replier's stamped."""

    lane: int
    number: int
    outcome: str
    payload: int
    caller_epoch: int
    replier_epoch: int


class Ack(NamedTuple):
    """ACK: all below the floor is final, and so are the listed numbers above it."""

    lane: int
    floor: int
    final: tuple[int, ...]
    replier_epoch: int


class Resync(NamedTuple):
    """RESYNC: the replier's epoch, and the floors of all lanes of this caller."""

    floors: tuple[int, ...]
    replier_epoch: int


class Probe(NamedTuple):
    """PROBE: a restored caller asks what it may have numbered in its lost history, and fences that history off."""

    caller_epoch: int


class Tops(NamedTuple):
    """TOPS: for each lane the number above all that the replier ever received in it."""

    tops: tuple[int, ...]
    caller_epoch: int
    replier_epoch: int


Message: TypeAlias = Request | Cancel | Reply | Ack | Resync | Probe | Tops


class Mail:
    """Which bit of `State.net` is which message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._bits: dict[tuple[str, Message], int] = {}

    def bit(self, message: Message) -> int:
        """Return the bit of this message; a new one if it was never seen."""
        key = (type(message).__name__, message)  # tuples of two kinds may be equal
        bit = self._bits.get(key)
        if bit is None:
            bit = self._bits[key] = 1 << len(self.messages)
            self.messages.append(message)
        return bit

    def inside(self, net: int) -> list[tuple[int, Message]]:
        """Return the messages of a set, each with its bit."""
        found: list[tuple[int, Message]] = []
        while net:
            bit = net & -net
            found.append((bit, self.messages[bit.bit_length() - 1]))
            net ^= bit
        return found
