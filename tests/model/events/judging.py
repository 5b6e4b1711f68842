"""What must hold of events in every state (E1-E5), and the goal that must stay within reach.

The numbers are those of `docs/explanation/protocol.md`. That nothing is lost in silence is part of the goal: a
world from which it cannot be reached has lost an event, or is stuck.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tests.model.events.state import ABSENT, NEVER, NOTHING, PARKED, REJECTED, TOLD, UNDECIDED

if TYPE_CHECKING:
    from tests.model.events.rules import Rules
    from tests.model.events.state import History, State, Subscription


def violation(rules: Rules, state: State) -> str | None:
    """Return which invariant this state breaks, or None."""
    history = state.history
    for subscription in state.subscriber:
        if subscription is None:
            continue
        effects = subscription.effects
        if len(set(effects)) != len(effects):
            return "E1: an event took effect twice"
        for payload in effects:
            if payload >= len(history.committed) or history.lost[payload] == NEVER:
                return "E4: an effect of an event that no history committed"
        told = _told(subscription)
        if any(history.committed[payload] in told for payload in effects):
            return "E3: an event that was told as a gap took effect"
        for epoch, number in told:
            if (epoch, number) not in history.dropped and not _was_lost(state, epoch, number):
                return "E3: a gap was told for what the journal holds, or never held"
        in_order = [payload for payload in effects if payload not in subscription.replayed]
        if rules.ordered and any(one > following for one, following in pairwise(in_order)):
            return "E5: two events of one key took effect out of order"
    return None


def _told(subscription: Subscription) -> set[tuple[int, int]]:
    return {
        (epoch, number)
        for epoch, feed in enumerate(subscription.feeds)
        for number, row in enumerate(feed.rows)
        if row.state == TOLD
    }


def _was_lost(state: State, epoch: int, number: int) -> bool:
    """Return whether a restore lost the event of this number."""
    return any(
        place == (epoch, number) and with_epoch > NOTHING
        for place, with_epoch in zip(state.history.committed, state.history.lost, strict=True)
    )


def is_goal(state: State) -> bool:
    """Return whether all is over: nothing runs or is waited for, and each event is had, or was told as lost."""
    if state.workers or state.unsent != NOTHING:
        return False
    for index, subscription in enumerate(state.subscriber):
        if state.history.born[index] == NOTHING:
            continue
        if subscription is None or not _has_all(state, subscription, index):
            return False
    return True


def _has_all(state: State, subscription: Subscription, index: int) -> bool:
    history, store = state.history, state.publisher
    rows = [row for feed in subscription.feeds for row in feed.rows]
    if any(row.state in UNDECIDED for row in rows):
        return False
    for epoch in store.epochs:
        known = len(store.streams[epoch].events)
        if any(row.state == ABSENT for row in subscription.feeds[epoch].rows[:known]):
            return False
    for feed in subscription.feeds:  # no hole is waited for, also where the journal knows nothing
        top = max((number + 1 for number, row in enumerate(feed.rows) if row.state != ABSENT), default=0)
        if any(row.state == ABSENT for row in feed.rows[:top]):
            return False
    decided = {row.payload for row in rows if row.state in {PARKED, REJECTED}}
    return all(
        payload in subscription.effects or payload in decided or _is_told(subscription, history, payload)
        for payload in range(len(history.committed))
        if (payload >= history.born[index] or payload in history.owed[index]) and history.lost[payload] != NEVER
    )


def _is_told(subscription: Subscription, history: History, payload: int) -> bool:
    """Return whether the subscription was told that it will not have this event: as a gap, or as lost by a restore."""
    epoch, number = history.committed[payload]
    if subscription.feeds[epoch].rows[number].state == TOLD:
        return True
    return history.lost[payload] > NOTHING and any(told >= history.lost[payload] for told in subscription.epochs_told)
