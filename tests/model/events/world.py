"""One world of events as something to explore: where it starts, all ways out of a state, and dead messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.checker import Step
from tests.model.events import faults, publisher, subscription
from tests.model.events.judging import is_goal, violation
from tests.model.events.state import (
    ABSENT,
    NOTHING,
    Event,
    Heads,
    History,
    Kept,
    Publisher,
    Pull,
    State,
    Stream,
    Subscriber,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.events.rules import Rules
    from tests.model.events.state import Message


class EventWorld:
    """One publisher, one topic, and the subscriptions of one store."""

    def __init__(self, rules: Rules, *, pruning: bool = True) -> None:
        self.rules = rules
        self._pruning = pruning and rules.pruned

    def start(self) -> State:
        """Return the state before the first event."""
        rules = self.rules
        store = Publisher(0, frozenset({0}), (Stream(),) * (rules.publisher_restores + 1))
        before = rules.created == "before"
        made: Subscriber = (subscription.fresh(rules) if before else None,) * rules.subscriptions
        kept = Kept(
            publisher_restores=rules.publisher_restores,
            subscriber_restores=rules.subscriber_restores,
            publisher_flushed=store if rules.publisher_power_cut else None,
            subscriber_flushed=made if rules.subscriber_power_cut else None,
        )
        history = History(
            born=(0 if before else NOTHING,) * rules.subscriptions,
            owed=(frozenset[int](),) * rules.subscriptions,
        )
        return State(store, made, (), frozenset(), kept, history)

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield every way out of a state."""
        for label, protocol, following in self._all_steps(state):
            after = self._prune(following) if self._pruning else following
            if after != state:
                yield Step(label, protocol, after)

    def _all_steps(self, state: State) -> Iterator[Step[State]]:
        rules = self.rules
        yield from publisher.steps(rules, state)
        yield from subscription.steps(rules, state)
        for message in sorted(state.net, key=repr):
            match message:
                case Pull():
                    yield from publisher.answer(rules, state, message)
                case Event():
                    for index in range(rules.subscriptions):
                        yield from subscription.take_event(rules, state, index, message)
                case Heads():
                    for index in range(rules.subscriptions):
                        yield from subscription.take_heads(rules, state, index, message)
        yield from faults.steps(rules, state)

    def violation(self, state: State) -> str | None:
        """Return which invariant the state breaks, or None."""
        return violation(self.rules, state)

    def is_goal(self, state: State) -> bool:
        """Return whether all is over in this state."""
        return is_goal(state)

    def _prune(self, state: State) -> State:
        """Return the state without messages that can never change anything again."""
        kept = state.kept
        if kept.subscriber_restores or kept.subscriber_flushed is not None or None in state.subscriber:
            return state
        net = frozenset(message for message in state.net if not self._is_dead(state, message))
        return state if net == state.net else state._replace(net=net)

    def _is_dead(self, state: State, message: Message) -> bool:
        match message:
            case Event() | Pull():
                return all(
                    one is not None and one.feeds[message.epoch].rows[message.number].state != ABSENT
                    for one in state.subscriber
                )
            case Heads():
                return all(
                    not list(subscription.take_heads(self.rules, state, index, message))
                    for index in range(self.rules.subscriptions)
                )
