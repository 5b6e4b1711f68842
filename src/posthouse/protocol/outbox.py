"""The caller's side of a journaled call: what each state may become, and when a request is sent again.

A call is stored before anything is sent, and is final only when the replier has said what became of it.
Every change of its state is a row of STEPS; nothing else moves it. This file stores and sends nothing.

    waiting -> open -> [answered] -> done | not done          unknown: only after a restore of this store
               open -> cancel wanted -> any of these          conflict: only after one of the replier's

*Answered* is a call whose outcome is used within a transaction to come: that of the handler that made it,
or of the one that hears the reply. Until that commits the outcome is neither final nor acked.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.clock import Instant, Seconds

if TYPE_CHECKING:
    from random import Random

RESEND_FIRST: Final[Seconds] = 1.0
RESEND_CAP: Final[Seconds] = 60.0


class CallState(enum.IntEnum):
    """What is known of a call; from DONE on it is final."""

    WAITING = 0
    OPEN = 1
    CANCEL_WANTED = 2
    ANSWERED = 3
    REDRIVING = 4
    DONE = 5
    NOT_DONE = 6
    UNKNOWN = 7
    CONFLICT = 8

    @property
    def final(self) -> bool:
        """Whether it never changes again, but for a restore of the replier."""
        return self in _FINAL

    @property
    def asked(self) -> bool:
        """Whether the replier is still to be asked for it."""
        return self in _ASKED


_FINAL: Final = frozenset(state for state in CallState if state >= CallState.DONE)
_ASKED: Final = frozenset({CallState.OPEN, CallState.CANCEL_WANTED, CallState.REDRIVING})


class Wants(enum.IntEnum):
    """Who takes the outcome of a call."""

    NOBODY = 0
    """A send: it is settled and acked at once."""
    CALLER = 1
    """A call outside a handler: the same, and whoever waits is told."""
    HANDLER = 2
    """A call inside a handler: held as answered until that handler commits."""
    REPLY_HANDLER = 3
    """A send whose reply a handler hears: held until that one commits."""

    @property
    def holds(self) -> bool:
        """Whether the outcome is held as answered."""
        return self >= Wants.HANDLER


class Heard(enum.IntEnum):
    """What can move a call; of integers, as their hashes are worked out in C."""

    NUMBER = enum.auto()
    CANCEL = enum.auto()
    """The application does not want it any more."""
    DONE = enum.auto()
    NOT_DONE = enum.auto()
    OVER = enum.auto()
    """The replier has forgotten the number."""
    USED = enum.auto()
    """The handler that used the outcome commits."""
    PEER_RESTORED = enum.auto()
    WE_RESTORED = enum.auto()


class Call(msgspec.Struct, gc=False):
    """One call as the caller's store keeps it.

    Attributes:
        place: lane and number; 0 while it waits for one.
        id: of the request.
        service: who is asked.
        operation: what.
        state: what is known of it.
        wants: who takes the outcome.
        frame: the request as it was encoded last.
        digest: of operation and data; another one under the same number is an alarm.
        work: the place, in this store's inbox, of the delivery whose handler made it; 0 outside one.
        nth: the how many-th call with this digest of that delivery it is, from 0.
        key: the ordering key; empty for none.
        deadline: after which it need not be done; 0 for none.
        created: when it was stored.
        owner: the instance that sends it, and sends it again.
        parked: the replier said that it waits for an operator there.
        outcome: what the replier said; empty until then.
        outcome_epoch: the replier's epoch in which it said so.
    """

    place: int
    id: str
    service: str
    operation: str
    state: CallState
    wants: Wants
    frame: bytes
    digest: bytes
    work: int = 0
    nth: int = 0
    key: str = ""
    deadline: Instant = 0.0
    created: Instant = 0.0
    owner: str = ""
    parked: bool = False
    outcome: bytes = b""
    outcome_epoch: int = 0


STEPS: Final[Mapping[tuple[CallState, Heard], CallState]] = {
    (CallState.WAITING, Heard.NUMBER): CallState.OPEN,
    (CallState.WAITING, Heard.CANCEL): CallState.NOT_DONE,  # nothing was sent, so nobody else can know of it
    (CallState.OPEN, Heard.CANCEL): CallState.CANCEL_WANTED,
    (CallState.OPEN, Heard.DONE): CallState.DONE,
    (CallState.OPEN, Heard.NOT_DONE): CallState.NOT_DONE,
    (CallState.OPEN, Heard.OVER): CallState.UNKNOWN,
    (CallState.CANCEL_WANTED, Heard.CANCEL): CallState.CANCEL_WANTED,
    (CallState.CANCEL_WANTED, Heard.DONE): CallState.DONE,
    (CallState.CANCEL_WANTED, Heard.NOT_DONE): CallState.NOT_DONE,
    (CallState.CANCEL_WANTED, Heard.OVER): CallState.UNKNOWN,
    (CallState.ANSWERED, Heard.PEER_RESTORED): CallState.OPEN,  # it may be answered otherwise now
    (CallState.ANSWERED, Heard.WE_RESTORED): CallState.OPEN,  # the lost history may have heard another answer
    (CallState.DONE, Heard.PEER_RESTORED): CallState.REDRIVING,
    (CallState.REDRIVING, Heard.DONE): CallState.DONE,
    (CallState.REDRIVING, Heard.NOT_DONE): CallState.CONFLICT,
    (CallState.REDRIVING, Heard.OVER): CallState.DONE,
    (CallState.REDRIVING, Heard.PEER_RESTORED): CallState.REDRIVING,
}
"""(ANSWERED, USED) is not here: it depends on the outcome, see `used`."""

_HELD: Final = frozenset({Heard.DONE, Heard.NOT_DONE})


def step(state: CallState, heard: Heard, *, holds: bool = False) -> CallState | None:
    """Return what a call becomes, or None when what was heard does not concern it any more.

    Args:
        state: what it is.
        heard: what happened.
        holds: its outcome is held as answered, see Wants.
    """
    after = STEPS.get((state, heard))
    if after is not None and holds and heard in _HELD and state is not CallState.REDRIVING:
        return CallState.ANSWERED
    return after


def used(*, done: bool) -> CallState:
    """Return what an answered call becomes when the handler that used its outcome commits."""
    return CallState.DONE if done else CallState.NOT_DONE


def stands(call: CallState, epoch: int, *, used_epoch: int) -> bool:
    """Say whether the answer that a handler used is still the one that is stored.

    Without this a handler could commit with an answer that a restored replier has taken back, and
    answered otherwise.
    """
    return call is CallState.ANSWERED and epoch == used_epoch


def resend_after(tries: int, *, reply_time: Seconds, rng: Random) -> Seconds:
    """Return how long to wait for an answer before a request is sent again.

    Args:
        tries: how often it was sent; 1 or more.
        reply_time: the lane's smoothed reply time.
        rng: spreads the wait by half either way.
    """
    first = max(RESEND_FIRST, 4 * reply_time)
    return min(first * 2.0 ** min(tries - 1, 16), RESEND_CAP) * (0.5 + rng.random())


def smoothed(before: Seconds, measured: Seconds) -> Seconds:
    """Return a reply time smoothed over about the last eight, as TCP does it.

    Source: V. Jacobson, "Congestion Avoidance and Control", 1988.
    """
    return measured if before == 0.0 else before + (measured - before) / 8
