"""What must hold in every state (S1-S8), and the goal that must stay within reach (L1, L2).

The numbers are those of `docs/explanation/protocol.md`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tests.model.state import (
    ABSENT,
    CONFLICT,
    DONE,
    FINAL,
    FORGOTTEN,
    NOT_DONE,
    REDRIVING,
    UNKNOWN,
    CallerRow,
    State,
    Uncommitted,
)

if TYPE_CHECKING:
    from tests.model.config import Config


def violation(config: Config, state: State) -> str | None:
    """Return which invariant this state breaks, or None."""
    caller, effects = state.caller, state.replier.effects
    if len(set(effects)) != len(effects):
        return "S1: an effect happened twice"
    if len(set(caller.applied)) != len(caller.applied):
        return "S2: a reply was applied twice"
    rows = [row for lane in caller.lanes for row in lane]
    for row in rows:
        broken = _row_violation(config, row, state)
        if broken:
            return broken
    if not state.backups.caller_used:
        if caller.unknown:
            return "S6: unknown, though the caller was never restored"
        known = {row.payload for row in rows}
        known.update(call.payload for call in caller.waiting)
        if isinstance(state.memory, Uncommitted):
            known.add(state.memory.payload)  # the row may be about to commit
        if not known.issuperset(effects):
            return "S7: an effect without a call in the caller's store"
    if config.ordered and any(one > next_one for one, next_one in pairwise(effects)):
        return "S8: two requests of one key took effect out of order"
    return None


def _row_violation(config: Config, row: CallerRow, state: State) -> str | None:
    happened = row.payload in state.replier.effects
    if (row.state in {DONE, REDRIVING} or row.answer == DONE) and row.reply != row.payload:
        return "S3: a reply of another request was applied"
    if row.state in {DONE, FORGOTTEN} and not happened and state.caller.peer_epoch >= state.replier.epoch:
        return "S4: done, but the effect is not there, and no restore is unheard of"
    if row.state == NOT_DONE and happened:
        return "S5: not done, but the effect happened"
    if row.state == NOT_DONE and row.payload in state.caller.applied:
        return "S4: a handler committed with an outcome that is not the call's"
    if row.state == UNKNOWN and not state.backups.caller_used and not (config.forgets and state.backups.replier_used):
        return "S6: unknown, though the caller was never restored"
    if row.state == CONFLICT and not state.backups.replier_used:
        return "S6: conflict, though the replier was never restored"
    return None


def is_goal(config: Config, state: State) -> bool:
    """Return whether all is over: every call final, every done effect there, and the replier holds no rows."""
    if state.memory is not None or state.workers or state.caller.waiting:
        return False
    if state.caller.handled != bool(config.places):
        return False
    effects = state.replier.effects
    for lane in state.caller.lanes:
        for row in lane:
            if row.state not in FINAL or (row.state == DONE and row.payload not in effects):
                return False
    return all(row.state == ABSENT for known in state.replier.lanes for row in known.rows)
