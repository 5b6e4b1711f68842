"""Power cuts, and the flush rule that they ask for.

A commit survives a crash at once, but a power cut only when it was flushed. A flush covers all commits before it,
and may happen at any time by itself; the rule says before which messages it must have happened.
One power cut a side; after it, what is flushed need not be told from what is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.model.checker import Step
from tests.model.replier import leases_ended
from tests.model.state import Cancel, Flushed, Mail, Probe, Reply, Request, Resync, State, Tops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.config import Config
    from tests.model.state import Message

NEVER: Final = Flushed()
"""power never fails, or has failed already"""


def at_start(config: Config, state: State) -> State:
    """Return the first state with both stores flushed, where power may fail."""
    return state._replace(
        flushed=Flushed(
            state.caller if config.caller_power_cut else None, state.replier if config.replier_power_cut else None
        )
    )


def flushed(config: Config, mail: Mail, before: State, after: State) -> State:
    """Return the state after a step, with what its new messages and a restore have made the sides flush."""
    caller, replier = after.flushed
    names = {_name(message) for _, message in mail.inside(after.net & ~before.net)} & config.flushed_before
    if caller and (names & {"request", "cancel", "ack"} or after.caller.epoch != before.caller.epoch):
        caller = after.caller
    if replier and (names & {"reply", "resync", "tops"} or after.replier.epoch != before.replier.epoch):
        replier = after.replier
    return after._replace(flushed=Flushed(caller, replier))


def _name(message: Message) -> str:
    match message:
        case Request():
            return "request"
        case Cancel():
            return "cancel"
        case Reply():
            return "reply"
        case Resync():
            return "resync"
        case Probe():
            return "probe"
        case Tops():
            return "tops"
        case _:
            return "ack"


def steps(state: State) -> Iterator[Step[State]]:
    """Yield flushes that happen by themselves, and the power cuts."""
    caller, replier = state.flushed
    if caller:
        if caller != state.caller:
            now = state.flushed._replace(caller=state.caller)
            yield Step("caller flushes", True, state._replace(flushed=now))
        gone = state.flushed._replace(caller=None)
        yield Step("caller loses power", False, state._replace(caller=caller, memory=None, run=None, flushed=gone))
    if replier:
        if replier != state.replier:
            now = state.flushed._replace(replier=state.replier)
            yield Step("replier flushes", True, state._replace(flushed=now))
        gone = state.flushed._replace(replier=None)
        yield Step(
            "replier loses power", False, state._replace(replier=leases_ended(replier), workers=(), flushed=gone)
        )
