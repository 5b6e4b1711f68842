"""Messages that can never again change anything are taken off the net, so that far fewer states are visited.

Every rule here was compared with a run that keeps all messages (`--no-pruning`): the verdicts are the same.
A variant whose broken rule would let a dead message act again says so (`Config.sound_pruning`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.state import (
    ABSENT,
    DROPPED,
    FINAL,
    NOTHING,
    UNDECIDED,
    Ack,
    Cancel,
    Mail,
    Message,
    Probe,
    Reply,
    Request,
    Resync,
    State,
    Tops,
)

if TYPE_CHECKING:
    from tests.model.config import Config


def prune(config: Config, mail: Mail, state: State) -> State:
    """Return the state without its dead messages."""
    net = state.net
    for bit, message in mail.inside(net):
        if _is_dead(config, state, message):
            net ^= bit
    return state if net == state.net else state._replace(net=net)


def _is_dead(config: Config, state: State, message: Message) -> bool:
    caller, replier = state.caller, state.replier
    caller_may_fall = state.backups.caller_left > 0 or state.flushed.caller is not None
    replier_may_fall = state.backups.replier_left > 0 or state.flushed.replier is not None
    match message:
        case Ack():
            # Epochs of the replier never go down, and a restored replier ignores acks of older ones.
            known = replier.lanes[message.lane]
            if message.replier_epoch == NOTHING:
                return False
            return message.replier_epoch < replier.epoch or (
                state.flushed.replier is None
                and message.floor <= known.floor
                and all(n < known.floor or known.rows[n].state == DROPPED for n in message.final)
            )
        case Probe() | Tops():
            return message.caller_epoch < caller.epoch or (not caller.waiting and not caller_may_fall)
        case Resync():
            return message.replier_epoch <= caller.peer_epoch and not caller_may_fall
        case Reply():
            if message.caller_epoch < caller.epoch:
                return True
            if caller_may_fall:
                return False
            return message.replier_epoch < caller.peer_epoch or _is_final(state, message)
        case Request() | Cancel():
            if message.replier_epoch == NOTHING:
                return False
            if message.replier_epoch < replier.epoch:
                return True  # it would only make the replier announce its epoch, which it does anyway
            if message.caller_epoch < replier.newest_caller and not replier_may_fall:
                return True
            if caller_may_fall or replier_may_fall or not _is_final(state, message):
                return False
            known = replier.lanes[message.lane]
            if message.number < known.floor:
                return True
            return known.rows[message.number].state not in {ABSENT, *UNDECIDED}


def _is_final(state: State, message: Request | Cancel | Reply) -> bool:
    """Return whether the caller's row is final, or is gone with an older epoch."""
    rows = state.caller.lanes[message.lane]
    if message.number < len(rows):
        return rows[message.number].state in FINAL
    return message.lane < state.caller.epoch
