"""Which instance gets the next volatile request.

Of two drawn by chance, the one with fewer requests under way. It needs no state beyond a count for
each instance, and comes close to knowing them all.

Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 1996.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

_T = TypeVar("_T")


def least_of_two(choices: Sequence[_T], *, load: Callable[[_T], int], rng: Random) -> _T:
    """Return the less loaded of two choices drawn by chance.

    Args:
        choices: at least one.
        load: requests under way at a choice.
        rng: where the chance comes from.
    """
    if len(choices) == 1:
        return choices[0]
    first, second = rng.sample(range(len(choices)), 2)
    one, other = choices[first], choices[second]
    return other if load(other) < load(one) else one
