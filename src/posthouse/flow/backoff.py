"""How long to hold off after a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from posthouse.clock import Seconds


def full_jitter(attempt: int, *, base: Seconds, cap: Seconds, rng: Random) -> Seconds:
    """Return how long to wait after try number `attempt` has failed.

    The wait is drawn evenly between 0 and `base * 2**(attempt - 1)`, never above `cap`, so that
    receivers which failed together do not come back together.

    Args:
        attempt: tries made so far; 1 or more.
        base: the ceiling after the first try, in seconds; above 0.
        cap: the ceiling that no try exceeds, in seconds; at least `base`.
        rng: where the chance comes from; pass a seeded one to repeat a run.

    Raises:
        ValueError: an argument is outside the bounds above.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("full").
    """
    if attempt < 1 or not 0 < base <= cap:
        raise ValueError(f"attempt {attempt}, base {base}, cap {cap}: wants attempt >= 1 and 0 < base <= cap")
    doublings = min(attempt - 1, 64)  # 2.0**1024 overflows; by 64 every cap is reached
    return rng.uniform(0.0, min(cap, base * 2.0**doublings))
