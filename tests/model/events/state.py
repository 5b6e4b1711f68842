"""What a world of events looks like at one instant.

A payload is the place of an event among all that any history of the publisher ever committed. The network is the
set of messages sent since the last wipe; what is delivered stays in it, so that loss, repetition, reordering and
delay are one rule.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

NOTHING: Final = -1
NEVER: Final = -2
"""in `History.lost`: the event went with a power cut, before anybody could hear of it"""

# --- what stands at a number of the publisher's journal, beside a payload
DROPPED: Final = -1
"""retention has dropped it"""
HELD: Final = -2
"""broken numbering only: the number is taken, and its transaction has not ended"""
VOID: Final = -3
"""... and it was rolled back"""

# --- what a subscription knows of a number
ABSENT = "absent"
RECEIVED = "received"
RUNNING = "running"
DONE = "done"
PARKED = "parked"
REJECTED = "rejected"
"""an operator gave a parked event up"""
SKIPPED = "skipped"
"""it was there before the subscription was"""
TOLD = "told"
"""it cannot be had any more, and the subscription was told so"""
UNDECIDED = frozenset({RECEIVED, RUNNING})


class Stream(NamedTuple):
    """What the publisher keeps of one of its epochs, for one topic."""

    first: int = 0
    """the retention mark: what is below was dropped"""
    events: tuple[int, ...] = ()
    """by number, from 0"""


class Publisher(NamedTuple):
    """The publisher's store."""

    epoch: int
    epochs: frozenset[int]
    """all epochs that this store knows it had"""
    streams: tuple[Stream, ...]
    """by epoch"""


class Row(NamedTuple):
    """One number, as a subscription's store has it."""

    state: str = ABSENT
    payload: int = NOTHING
    attempt: int = NOTHING


class Feed(NamedTuple):
    """What a subscription knows of one epoch of the publisher."""

    rows: tuple[Row, ...]
    end: int = NOTHING
    """of an epoch that is over: the number from which on nothing is waited for"""
    open: bool = False
    """whether heads have said that there is such a stream; before, no event of it is taken"""


class Subscription(NamedTuple):
    """The rows of one subscription, and the effects that were committed with them."""

    made: int
    """when, by a clock that counts commits; looked at only where a feed begins by the clock"""
    heard: int
    """the newest epoch of the publisher that it has had heads of"""
    feeds: tuple[Feed, ...]
    effects: tuple[int, ...] = ()
    replayed: frozenset[int] = frozenset()
    """effects of parked events, which an operator had run"""
    epochs_told: frozenset[int] = frozenset()
    """the epochs with whose beginning it was told that the publisher had been restored"""


class Worker(NamedTuple):
    """A handler that runs in the subscriber's memory."""

    subscription: int
    epoch: int
    number: int
    payload: int
    attempt: int
    owes: str = ""
    """where effect and number are two transactions: which one is still to come"""


class Event(NamedTuple):
    """EVENT: pushed when it was committed, or answers a PULL."""

    epoch: int
    number: int
    payload: int
    stamp: int
    """the epoch in which the publisher sent it, which may be a later one than that of the stream"""


class Head(NamedTuple):
    """Of one stream."""

    epoch: int
    first: int
    next: int
    times: tuple[int, ...] = ()
    """when each event that is kept was committed, and before them when the newest that was dropped was"""


class Heads(NamedTuple):
    """HEADS: retention mark and next number of every stream that the journal knows."""

    epoch: int
    streams: tuple[Head, ...]


class Pull(NamedTuple):
    """PULL: asks for an event, and for heads."""

    epoch: int
    number: int


Message: TypeAlias = Event | Heads | Pull
Subscriber: TypeAlias = tuple[Subscription | None, ...]
"""the subscriber's store: its subscriptions, None before they are made"""


class Kept(NamedTuple):
    """What was put aside, what a power cut would leave, and how many restores there may still be."""

    publisher_backup: Publisher | None = None
    publisher_restores: int = 0
    subscriber_backup: Subscriber | None = None
    subscriber_restores: int = 0
    publisher_flushed: Publisher | None = None
    subscriber_flushed: Subscriber | None = None
    restored: bool = False
    """whether the subscriber's store was restored, and its first start is still to come"""


class History(NamedTuple):
    """What nobody in the world knows, and the judge needs."""

    committed: tuple[tuple[int, int], ...] = ()
    """epoch and number by payload"""
    lost: tuple[int, ...] = ()
    """by payload: with which new epoch of the publisher the event was lost, or NOTHING"""
    dropped: frozenset[tuple[int, int]] = frozenset()
    """what retention has ever dropped"""
    born: tuple[int, ...] = ()
    """by subscription: how many events there were when it was first made, NOTHING before"""
    owed: tuple[frozenset[int], ...] = ()
    """by subscription: earlier events that it asked for as well"""
    newest_epoch: int = 0


class State(NamedTuple):
    """One instant of a world."""

    publisher: Publisher
    subscriber: Subscriber
    workers: tuple[Worker, ...]
    net: frozenset[Message]
    kept: Kept
    history: History
    unsent: int = NOTHING
    """broken publisher: the number that it has sent and not committed"""
