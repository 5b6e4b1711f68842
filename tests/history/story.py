"""The records of a history, put together by operation and by store. Nothing is judged here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.clock import Instant
from tests.history.events import (
    Acked,
    Applied,
    Began,
    Effect,
    Ended,
    Fault,
    Invoked,
    Left,
    Outcome,
    Told,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.history.events import Record

FINAL: Final[frozenset[Outcome]] = frozenset({"done", "not done", "unknown", "conflict"})


class Operation(msgspec.Struct, gc=False):
    """All that was seen of one operation.

    Attributes:
        tries: how often it was asked for; more than once only under the same id.
        told: in the order of time.
        outcomes: those that its caller was told: what is in its database, and then what it was told, in order.
        asked_at: when it was first asked for.
        stored_at: when it was first known to be stored; infinite if it never was.
    """

    op: str
    tries: tuple[Invoked, ...] = ()
    told: tuple[Told, ...] = ()
    applied: tuple[Applied, ...] = ()
    effects: tuple[Effect, ...] = ()
    runs: int = 0
    acks: int = 0
    outcomes: tuple[Told | Applied, ...] = ()
    asked_at: Instant = inf
    stored_at: Instant = inf

    @property
    def service(self) -> str:
        """The store that the effect belongs in."""
        return self.tries[0].service

    @property
    def keeper(self) -> str:
        """The store that keeps the request: the caller's, or the replier's if the caller has none."""
        return self.tries[0].caller or self.tries[0].service

    @property
    def is_deposit(self) -> bool:
        """Whether the caller has no store."""
        return not self.tries[0].caller

    def has(self, *outcomes: Outcome) -> bool:
        """Return whether the caller has ever been told one of these."""
        return any(each.outcome in outcomes for each in self.applied + self.told)

    @property
    def never_stored(self) -> bool:
        """Whether every try was told that nothing was stored."""
        refusals = sum(each.outcome == "not stored" for each in self.told)
        return 0 < len(self.tries) == refusals


def seen_at(telling: Told | Applied) -> Instant:
    """Return the latest instant at which this can have been told; a database does not say when."""
    return inf if isinstance(telling, Applied) else telling.at


@dataclass(slots=True)
class Story:
    """A whole history.

    Attributes:
        raised: the runs that ended with an error.
        restores: those of each store.
        wipes: when something that carries messages lost them.
        left: what each store holds at the end.
        parked: the operations that wait for an operator.
        faults: how many of each kind.
    """

    operations: dict[str, Operation] = field(default_factory=dict[str, Operation])
    raised: set[str] = field(default_factory=set[str])
    restores: dict[str, list[Fault]] = field(default_factory=dict[str, list[Fault]])
    wipes: list[Instant] = field(default_factory=list[Instant])
    left: dict[str, Left] = field(default_factory=dict[str, Left])
    parked: set[str] = field(default_factory=set[str])
    faults: Counter[str] = field(default_factory=Counter[str])

    def restored(self, store: str, *, after: Instant, before: Instant = inf) -> bool:
        """Return whether a store was restored in this time."""
        return any(after <= each.at <= before for each in self.restores.get(store, ()))

    def may_have_lost(self, store: str, *, asked: Instant, known: Instant) -> bool:
        """Return whether a restore may have taken from a store what it held of an operation.

        Args:
            store: which.
            asked: when the operation was asked for; restores before it took nothing.
            known: when what it held was certainly there; a backup that was begun later has it.
        """
        return any(
            each.at >= asked and (each.backup_at is None or each.backup_at <= known)
            for each in self.restores.get(store, ())
        )

    def wiped(self, *, after: Instant) -> bool:
        """Return whether messages on their way were lost after an instant."""
        return any(at >= after for at in self.wipes)


def story_of(records: Iterable[Record]) -> Story:
    """Put records together, in whatever order they come."""
    story = Story()
    operations = story.operations

    def of(op: str) -> Operation:
        found = operations.get(op)
        if found is None:
            found = operations[op] = Operation(op)
        return found

    for record in records:
        match record:
            case Invoked():
                operation = of(record.op)
                operation.tries += (record,)
                operation.asked_at = min(operation.asked_at, record.at)
            case Told():
                operation = of(record.op)
                operation.told += (record,)
                if record.outcome != "not stored":
                    operation.stored_at = min(operation.stored_at, record.at)
            case Began():
                of(record.op).runs += 1
            case Ended():
                if record.how == "raised":
                    story.raised.add(record.run)
            case Effect():
                of(record.op).effects += (record,)
            case Applied():
                of(record.op).applied += (record,)
            case Acked():
                of(record.op).acks += 1
            case Fault():
                story.faults[record.kind] += 1
                if record.kind == "restore":
                    story.restores.setdefault(record.what, []).append(record)
                elif record.kind == "wipe":
                    story.wipes.append(record.at)
            case Left():
                known = story.left.get(record.store)
                if known is None or known.at <= record.at:
                    story.left[record.store] = record
    for operation in operations.values():
        if len(operation.told) > 1:
            operation.told = tuple(sorted(operation.told, key=lambda each: each.at))
        operation.outcomes = tuple([each for each in operation.applied + operation.told if each.outcome in FINAL])
    story.parked = {op for left in story.left.values() for op in left.parked}
    return story
