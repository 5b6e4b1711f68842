"""How many in a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posthouse.clock import Seconds


@dataclass(slots=True)
class TokenBucket:
    """Admit `rate` a second on average, and up to `burst` at once.

    Attributes:
        rate: tokens that come back in a second; above 0.
        burst: the most tokens there are; 1 or more.
        tokens: what is there; begins full with `burst`.
        filled_at: when it was last looked at, in seconds of any clock; one that goes back adds nothing.
    """

    rate: float
    burst: float
    tokens: float
    filled_at: Seconds

    def admit(self, now: Seconds, cost: float = 1.0) -> Seconds:
        """Take `cost` tokens and return 0.0, or take none and return the seconds to hold off.

        What costs more than `burst` is admitted when the bucket is full, and leaves it in debt.
        """
        elapsed = max(0.0, now - self.filled_at)
        self.tokens = min(self.burst, self.tokens + elapsed * self.rate)
        self.filled_at = max(now, self.filled_at)
        needed = min(cost, self.burst)
        if needed <= self.tokens:
            self.tokens -= cost
            return 0.0
        return (needed - self.tokens) / self.rate
