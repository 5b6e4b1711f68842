"""One configuration as something to explore: where it starts, and all ways out of a state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model import caller, faults, handler, power, replier
from tests.model.checker import Step
from tests.model.invariants import is_goal, violation
from tests.model.pruning import prune
from tests.model.state import (
    NOTHING,
    Backups,
    CallerStore,
    Mail,
    ReplierLane,
    ReplierRow,
    ReplierStore,
    Reply,
    Resync,
    State,
    Tops,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.config import Config


class World:
    """A configuration and the messages that were ever sent in it."""

    def __init__(self, config: Config, *, pruning: bool = True) -> None:
        self.config = config
        self._mail = Mail()
        self._pruning = pruning and config.sound_pruning

    def start(self) -> State:
        """Return the state before the first call."""
        config = self.config
        lanes = 1 + config.caller_restores if config.caller_restored else 1
        empty = ReplierLane(0, (ReplierRow(),) * config.calls)
        start = State(
            caller=CallerStore(0, ((),) * lanes, applied=(), peer_epoch=NOTHING if config.opening else 0),
            replier=ReplierStore(0, (empty,) * lanes, effects=(), restore_floors=(0,) * lanes, newest_caller=0),
            workers=(),
            net=0,
            memory=None,
            created=0,
            backups=Backups(
                caller_left=config.caller_restores if config.caller_restored else 0,
                replier_left=config.replier_restores if config.replier_restored else 0,
            ),
        )
        return power.at_start(config, start)

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield every way out of a state."""
        config, mail = self.config, self._mail
        may_lose_power = state.flushed != power.NEVER
        for label, protocol, following in self._all_steps(state):
            after = power.flushed(config, mail, state, following) if may_lose_power else following
            if self._pruning and after.net:
                after = prune(config, mail, after)
            if after != state:
                yield Step(label, protocol, after)

    def _all_steps(self, state: State) -> Iterator[Step[State]]:
        config, mail = self.config, self._mail
        yield from caller.steps(config, mail, state)
        yield from handler.steps(config, state)
        yield from replier.steps(config, mail, state)
        for _, message in mail.inside(state.net):
            if isinstance(message, Reply | Resync | Tops):
                yield from caller.take(config, state, message)
            else:
                yield from replier.take(config, mail, state, message)
        yield from faults.steps(config, state)
        yield from power.steps(state)

    def violation(self, state: State) -> str | None:
        """Return which invariant the state breaks, or None."""
        return violation(self.config, state)

    def is_goal(self, state: State) -> bool:
        """Return whether all is over in this state."""
        return is_goal(self.config, state)

    @property
    def messages(self) -> int:
        """How many different messages were ever sent."""
        return len(self._mail.messages)
