"""How many deliveries a receiver asks for.

Few enough that a slow handler does not hoard what another instance could do, many enough that a
fast one never waits for its queue: what it would finish in LOOK_AHEAD seconds at the speed that
was measured, and never less than it can work on at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from posthouse.clock import Seconds

LOOK_AHEAD: Final[Seconds] = 0.1
CEILING: Final = 1024
"""Beyond it, larger batches were not measured to be faster."""


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
        self.target = min(self.concurrency, CEILING)

    def ask(self, *, held: int, now: Seconds) -> int:
        """Return how many more to ask for, now that `held` are here; 0 while half of the target is.

        Asking for half a target at a time makes each claim worth its transaction.
        """
        elapsed = now - self.measured_at
        if elapsed > 0:
            speed = self.done / elapsed
            ahead = int(speed * LOOK_AHEAD)
            self.target = max(min(self.concurrency, CEILING), min(CEILING, max(ahead, self.target // 2)))
            self.measured_at, self.done = now, 0
        return self.target - held if held * 2 <= self.target else 0
