"""The replier's side of a journaled call: what a request that arrives means, and what each state may become.

A request is stored before it is run; raising its attempt is the claim, and whoever commits must still
hold it. What was decided never changes: a request that comes again is told the same. Every change of its
state is a row of STEPS. This file stores and sends nothing.

    received -> running -> done | not done | parked | received (again later) | suspended (until a call is answered)

Parked is undecided: an operator may have it run again. Only the replier decides *not done*.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.clock import Instant
from posthouse.protocol.lane import SELF, lane_of
from posthouse.protocol.stream import FEEDS

if TYPE_CHECKING:
    from posthouse.protocol.lane import Numbers

DEATHS: Final = 3
"""So many instances died at a request before it is parked."""


class RequestState(enum.IntEnum):
    """What is known of a request; from DONE on it is decided."""

    RECEIVED = 1
    RUNNING = 2
    SUSPENDED = 3
    """Its handler waits for a call, and holds nothing; it runs again when the outcome is there."""
    PARKED = 4
    DONE = 5
    NOT_DONE = 6

    @property
    def decided(self) -> bool:
        """Whether it never changes again."""
        return self in _DECIDED


_DECIDED: Final = frozenset(state for state in RequestState if state >= RequestState.DONE)


class Then(enum.Enum):
    """What can move a request."""

    CLAIM = enum.auto()
    TAKE_EFFECT = enum.auto()
    REFUSE = enum.auto()
    """It is decided that it is not done: rejected, failed, expired, canceled."""
    RELEASE = enum.auto()
    """Run it again, now or later."""
    SUSPEND = enum.auto()
    WAKE = enum.auto()
    """A call that its handler waits for was answered."""
    PARK = enum.auto()
    REPLAY = enum.auto()
    CANCEL = enum.auto()
    """The caller does not want it any more."""


STEPS: Final[Mapping[tuple[RequestState, Then], RequestState]] = {
    (RequestState.RECEIVED, Then.CLAIM): RequestState.RUNNING,
    (RequestState.RECEIVED, Then.REFUSE): RequestState.NOT_DONE,  # expired before it was run
    (RequestState.RECEIVED, Then.CANCEL): RequestState.NOT_DONE,
    (RequestState.RECEIVED, Then.PARK): RequestState.PARKED,  # its instances died at it
    (RequestState.RUNNING, Then.TAKE_EFFECT): RequestState.DONE,
    (RequestState.RUNNING, Then.REFUSE): RequestState.NOT_DONE,
    (RequestState.RUNNING, Then.RELEASE): RequestState.RECEIVED,
    (RequestState.RUNNING, Then.SUSPEND): RequestState.SUSPENDED,
    (RequestState.RUNNING, Then.PARK): RequestState.PARKED,
    (RequestState.SUSPENDED, Then.CLAIM): RequestState.RUNNING,  # its deadline has passed, and it is told so
    (RequestState.SUSPENDED, Then.WAKE): RequestState.RECEIVED,
    (RequestState.SUSPENDED, Then.REFUSE): RequestState.NOT_DONE,  # its deadline passed meanwhile
    (RequestState.SUSPENDED, Then.CANCEL): RequestState.NOT_DONE,
    (RequestState.PARKED, Then.REPLAY): RequestState.RECEIVED,
    (RequestState.PARKED, Then.REFUSE): RequestState.NOT_DONE,  # an operator gives it up
    (RequestState.PARKED, Then.CANCEL): RequestState.NOT_DONE,
}


def step(state: RequestState, then: Then) -> RequestState | None:
    """Return what a request becomes, or None when that cannot happen to it."""
    return STEPS.get((state, then))


class Request(msgspec.Struct, gc=False):
    """One request as the replier's store keeps it.

    Attributes:
        place: its lane and number.
        id: of the request.
        operation: what is asked; of a run for a reply, an ack or an event, the name of what runs.
        state: what is known of it.
        digest: of operation and data.
        frame: as it came; empty once it is decided and nobody needs it.
        instance: who runs it.
        attempt: how often it was claimed; who commits must name the newest.
        failures: how often its handler failed.
        deaths: how often its instance died at it.
        due: when it may be claimed.
        deadline: after which it is not run; 0 for none.
        asked: our epoch in which the caller last asked for it.
        asker: the newest epoch of the caller that asked for it.
        reply_to: the instance that waits for the reply, as a hint.
        outcome: what was decided; empty until then.
    """

    place: int
    id: str
    operation: str
    state: RequestState
    digest: bytes
    frame: bytes
    instance: str = ""
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    due: Instant = 0.0
    deadline: Instant = 0.0
    asked: int = 0
    asker: int = 0
    reply_to: str = ""
    outcome: bytes = b""


class Known(msgspec.Struct, gc=False):
    """As much of a stored request as it takes to judge one that comes again."""

    state: RequestState
    digest: bytes
    asked: int
    asker: int


class Verdict(enum.Enum):
    """What a request that arrives is."""

    NEW = enum.auto()
    """Store it."""
    PENDING = enum.auto()
    """It is here, and undecided."""
    PARKED = enum.auto()
    """It is here, and waits for an operator."""
    DECIDED = enum.auto()
    """Tell the outcome again."""
    OVER = enum.auto()
    """Its number was forgotten: it was decided, told and acked."""
    CONFLICT = enum.auto()
    """Another request has its number."""


def judge(number: int, digest: bytes, *, forgotten: Numbers, known: Known | None) -> Verdict:
    """Say what a request is that arrives with the right stamps.

    Args:
        number: of it, in its lane.
        digest: of it.
        forgotten: which numbers of the lane are over here.
        known: the row under this number, if there is one.
    """
    if known is None:
        return Verdict.OVER if forgotten.holds(number) else Verdict.NEW
    if known.digest != digest:
        return Verdict.CONFLICT
    if known.state.decided:
        return Verdict.DECIDED
    return Verdict.PARKED if known.state is RequestState.PARKED else Verdict.PENDING


def waits_for_caller(place: int, asked: int, *, epoch: int) -> bool:
    """Say whether an undecided request waits until its caller asks again: it has not, in our present life.

    What a store asks of itself, and events, wait for nobody.

    Args:
        place: of the request.
        asked: our epoch in which its caller last asked.
        epoch: our present one.
    """
    return asked < epoch and SELF < lane_of(place) < FEEDS


def may_run(asked: int, asker: int, *, epoch: int, newest_asker: int) -> bool:
    """Say whether an undecided request may be run now: its caller has asked for it in the present life of both stores.

    After a restore of ours the caller may have been told another outcome in the history that was lost;
    after one of the caller's, a later request of the same key may have overtaken it.
    """
    return asked == epoch and asker >= newest_asker
