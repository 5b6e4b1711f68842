"""How many deliveries a receiver asks for.

Few enough that a slow handler does not hoard what another instance could do, many enough that a
fast one never waits for its queue: what it would finish in LOOK_AHEAD seconds at the speed that
was measured, and never less than it can work on at once.

Asking for half the target at a time makes each claim worth its transaction. But no place to work at
stays empty for that: while fewer are here than can be worked on at once, more are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from posthouse.clock import Seconds

LOOK_AHEAD: Final[Seconds] = 0.1
CEILING: Final = 1024
"""The most of one claim, and the most to look ahead; beyond it, larger ones were not measured to be faster."""


@dataclass(slots=True)
class Credit:
    """The credit of one receiver.

    Attributes:
        concurrency: handlers that may work at once; the least that is asked for.
        target: how many deliveries to hold, at work or waiting.
        measured_at: when the speed was last measured, in seconds of any clock that only grows.
        done: deliveries finished since.
    """

    concurrency: int
    measured_at: Seconds
    target: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        """Begin with what can be worked on at once."""
        self.target = self.concurrency

    @property
    def low_water(self) -> int:
        """How many may be here at most for more to be asked for."""
        return max(self.target // 2, self.concurrency - 1)

    def ask(self, *, held: int, now: Seconds) -> int:
        """Return how many more to ask for, now that `held` are here; 0 while that is above the low water."""
        elapsed = now - self.measured_at
        # Over less than this, two messages that happened to end together would look like a fast handler.
        if elapsed > 0 and (elapsed >= LOOK_AHEAD or self.done * 2 >= self.target):
            ahead = int(min(CEILING, self.done / elapsed * LOOK_AHEAD))
            self.target = max(self.concurrency, ahead, min(CEILING, self.target // 2))
            self.measured_at, self.done = now, 0
        return min(CEILING, self.target - held) if held <= self.low_water else 0
