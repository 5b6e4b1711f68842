"""What each delivery mode promises: the effects of one message at rest, found by visiting every interleaving.

`docs/explanation/guarantees.md` says in words what comes out here. The world is one message, one sender, one engine
that holds up to two copies, and one receiver; effects are counted up to 3, which stands for "more than one".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

Fault = Literal["receiver crash", "sender crash", "connection cut", "engine wipe"]
FAULTS: Final[tuple[Fault, ...]] = ("receiver crash", "sender crash", "connection cut", "engine wipe")
_MOST_COPIES: Final = 2
_MOST_EFFECTS: Final = 3


@dataclass(frozen=True, slots=True)
class Mode:
    """How one message is sent and received."""

    name: str
    kept_until: Literal["sent", "engine confirms", "receiver confirms"]
    """how long the sender sends again"""
    stored: bool
    """whether the sender keeps it in a store, or in memory alone"""
    settled_before: bool
    """whether the receiver settles before its transaction, or after"""
    inbox: bool
    """whether the receiver's transaction also stores that it was done"""


VOLATILE: Final = Mode("volatile", "sent", stored=False, settled_before=True, inbox=False)
QUEUED: Final = Mode("queued", "engine confirms", stored=False, settled_before=False, inbox=False)
OUTBOX: Final = Mode("outbox + queue + inbox", "engine confirms", stored=True, settled_before=False, inbox=True)
JOURNALED: Final = Mode("journaled", "receiver confirms", stored=True, settled_before=False, inbox=True)


class Message(NamedTuple):
    """One instant in the life of the message."""

    made: bool = False
    kept: bool = False
    """the sender would send it again"""
    ready: int = 0
    taken: int = 0
    """copies that the receiver holds and has not settled"""
    stage: Literal["idle", "taken", "done"] = "idle"
    effects: int = 0
    remembered: bool = False
    engine_confirms: bool = False
    receiver_confirms: bool = False


def effects_at_rest(mode: Mode, faults: frozenset[Fault]) -> set[int]:
    """Return how many effects the message may have had when no step of the protocol is left."""
    start = Message()
    seen, to_visit, found = {start}, [start], set[int]()
    while to_visit:
        state = to_visit.pop()
        own = list(_steps(mode, state))
        if not own:
            found.add(state.effects)
        for following in (*own, *_faults(mode, state, faults)):
            if following not in seen:
                seen.add(following)
                to_visit.append(following)
    return found


def _steps(mode: Mode, state: Message) -> Iterator[Message]:
    """Yield what sender, engine and receiver do when nothing fails."""
    if not state.made:
        yield state._replace(made=True, kept=True)
        return
    if state.kept and state.ready < _MOST_COPIES:
        again = mode.kept_until != "sent"
        yield state._replace(kept=again, ready=state.ready + 1, engine_confirms=again)
    if state.engine_confirms and mode.kept_until == "engine confirms":
        yield state._replace(kept=False, engine_confirms=False)
    if state.receiver_confirms:
        yield state._replace(kept=False, receiver_confirms=False)
    match state.stage:
        case "idle" if state.ready and not state.taken:
            yield state._replace(ready=state.ready - 1, taken=0 if mode.settled_before else 1, stage="taken")
        case "taken":
            effects = state.effects if state.remembered else min(_MOST_EFFECTS, state.effects + 1)
            yield state._replace(stage="done", effects=effects, remembered=mode.inbox)
        case "done":
            yield state._replace(stage="idle", taken=0, receiver_confirms=mode.kept_until == "receiver confirms")
        case _:
            pass


def _faults(mode: Mode, state: Message, faults: frozenset[Fault]) -> Iterator[Message]:
    """Yield what may befall the message."""
    back = min(_MOST_COPIES, state.ready + state.taken)
    if "connection cut" in faults:
        if state.kept and state.ready < _MOST_COPIES:  # the message is lost, or its confirmation
            kept = mode.kept_until != "sent"
            yield state._replace(kept=kept, engine_confirms=False)
            yield state._replace(kept=kept, ready=state.ready + 1, engine_confirms=False)
        if state.stage == "done":  # the settling is lost, and the receiver's confirmation
            yield state._replace(stage="idle", ready=back, taken=0, receiver_confirms=False)
    if "receiver crash" in faults and state.stage != "idle":
        yield state._replace(stage="idle", ready=back, taken=0)
    if "sender crash" in faults and state.kept and not mode.stored:
        yield state._replace(kept=False, engine_confirms=False)
    if "engine wipe" in faults and (state.ready or state.taken):
        yield state._replace(ready=0, taken=0)
