"""Visits every reachable state, breadth first, so that a counterexample is a shortest one.

Safety is looked at in each state. Liveness is "from every reachable state the protocol's own steps alone can
still reach the goal": no proof under a fairness assumption, but it finds what is stuck.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.config import Verdict

S = TypeVar("S")


class Step(NamedTuple, Generic[S]):
    """A way out of a state."""

    label: str
    protocol: bool
    """whether the protocol does it by itself; else it is a fault, or a wish of the application"""
    state: S


class Explorable(Protocol[S]):
    """A world: where it starts, the ways out of a state, what must hold, and what must stay within reach."""

    def start(self) -> S: ...
    def steps(self, state: S) -> Iterator[Step[S]]: ...
    def violation(self, state: S) -> str | None: ...
    def is_goal(self, state: S) -> bool: ...


@dataclass(slots=True)
class Result:
    """What was found."""

    verdict: Verdict
    finding: str
    states: int
    steps: int
    depth: int
    trace: list[str]
    """labels of the steps to the counterexample"""


class _Graph(Generic[S]):
    """States by number in the order found, and how each was reached."""

    def __init__(self, first: S) -> None:
        self.numbers: dict[S, int] = {first: 0}
        self.states: list[S] = [first]
        self.parents = array("i", [-1])
        self.labels = [""]
        self.depths = array("H", [0])
        self.sources = array("I")
        self.targets = array("I")

    def add(self, state: S, parent: int, label: str) -> int:
        number = len(self.states)
        self.numbers[state] = number
        self.states.append(state)
        self.parents.append(parent)
        self.labels.append(label)
        self.depths.append(self.depths[parent] + 1)
        return number

    def trace(self, number: int) -> list[str]:
        labels: list[str] = []
        while number > 0:
            labels.append(self.labels[number])
            number = self.parents[number]
        return labels[::-1]

    def cannot_reach(self, goals: list[int]) -> list[int]:
        """Return the states from which the protocol's own steps reach no goal."""
        count = len(self.states)
        heads = array("i", [-1]) * count
        following = array("i", [-1]) * len(self.sources)
        for edge, target in enumerate(self.targets):
            following[edge] = heads[target]
            heads[target] = edge
        reaches = bytearray(count)
        for goal in goals:
            reaches[goal] = 1
        to_visit = list(goals)
        while to_visit:
            edge = heads[to_visit.pop()]
            while edge != -1:
                source = self.sources[edge]
                if not reaches[source]:
                    reaches[source] = 1
                    to_visit.append(source)
                edge = following[edge]
        return [number for number in range(count) if not reaches[number]]


def check(world: Explorable[S], *, limit: int = 4_000_000) -> Result:
    """Visit every state of a world, up to `limit` of them, and say what was found."""
    graph = _Graph(world.start())
    goals: list[int] = []
    taken = 0

    def result(verdict: Verdict, finding: str, number: int | None = None) -> Result:
        trace = [] if number is None else graph.trace(number)
        return Result(verdict, finding, len(graph.states), taken, max(graph.depths), trace)

    current = 0
    while current < len(graph.states):
        state = graph.states[current]
        if world.is_goal(state):
            goals.append(current)
        for label, protocol, following in world.steps(state):
            taken += 1
            number = graph.numbers.get(following)
            if number is None:
                number = graph.add(following, current, label)
                broken = world.violation(following)
                if broken:
                    return result("safety", broken, number)
            if protocol:
                graph.sources.append(current)
                graph.targets.append(number)
        current += 1
        if len(graph.states) > limit:
            return result("open", "not all states were visited")
    stuck = graph.cannot_reach(goals)
    if stuck:
        return result("liveness", f"the goal is out of reach from {len(stuck)} states", stuck[0])
    return result("holds", "holds")
