"""Good histories of many shapes: a world in miniature that keeps every promise, and notes what is seen in it.

It is an oracle for the checker, not a model of the protocol: all stores are in one hand, a message never needs
to be repeated, and chance says who does what next. Restores are real: a store is put back to a copy.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.history.events import (
    Acked,
    Applied,
    Began,
    Effect,
    Ended,
    Fault,
    Invoked,
    Left,
    Recorder,
    Told,
)
from tests.history.story import FINAL

if TYPE_CHECKING:
    from random import Random

    from tests.history.events import Outcome, Record

STORES = ("shop", "prices", "stock")
KEYS = ("", "", "tea", "milk")
REFUSALS = ("rejected", "handler.failed", "deadline.expired", "call.canceled")


@dataclass(slots=True)
class Answer:
    """What became of a request, at either side."""

    outcome: Outcome
    value: str = ""
    code: str = ""


UNKNOWN = Answer("unknown", code="outcome.unknown")


@dataclass(slots=True)
class Row:
    """A request in its caller's store. Answers are replaced, never changed."""

    asked: Invoked
    answer: Answer = field(default_factory=lambda: Answer("pending"))
    was_done: bool = False
    """it is asked for again after a restore of the replier"""


@dataclass(slots=True)
class Store:
    """What one service keeps, as caller and as replier."""

    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    applied: list[Applied] = field(default_factory=list[Applied])
    effects: list[Effect] = field(default_factory=list[Effect])
    decided: dict[str, Answer] = field(default_factory=dict[str, Answer])
    parked: set[str] = field(default_factory=set[str])
    acked: set[str] = field(default_factory=set[str])


@dataclass(frozen=True, slots=True)
class Shape:
    """What may happen in a world, each as a weight.

    Attributes:
        operations: how many are asked for.
        crashes: callers and handlers die.
        restores: stores are put back.
        refusals: requests are decided to be not done.
        deposits: callers have no store.
        parking: requests wait for an operator.
        quiet: all that was asked for comes to its end.
    """

    operations: int = 30
    crashes: int = 0
    restores: int = 0
    refusals: int = 0
    deposits: int = 0
    parking: int = 0
    quiet: bool = True


class World:
    """Three services that call each other, exactly once each."""

    def __init__(self, shape: Shape, rng: Random) -> None:
        self.records: list[Record] = []
        self._shape = shape
        self._rng = rng
        self._now = 0.0
        self._recorder = Recorder("world", self.records.append, now=lambda: self._now)
        self._stores = {name: Store() for name in STORES}
        self._backups: dict[str, tuple[float, Store]] = {}
        self._waiting: dict[str, str] = {}  # who waits for which operation
        self._runs = 0

    def live(self) -> list[Record]:
        """Let it all happen, and return what was seen."""
        shape = self._shape
        asked = 0
        while asked < shape.operations:
            self._now += 1
            works = {self._ask: 4, self._serve: 6, self._answer: 6, self._give_up: 1, self._ask_again: 1}
            works |= {self._kill: shape.crashes, self._wipe: shape.crashes}
            works |= {self._back_up: shape.restores, self._restore: shape.restores}
            [work] = self._rng.choices(list(works), list(works.values()))
            asked += work == self._ask
            work()
        while shape.quiet and (self._serve() or self._answer()):
            self._now += 1
        self._read()
        return self.records

    def _note(self, record: Record) -> None:
        self._recorder.note(record)

    def _chance(self, weight: int) -> bool:
        return self._rng.randrange(20) < weight

    # --- callers -----------------------------------------------------------------------------------------

    def _ask(self) -> None:
        rng, shape = self._rng, self._shape
        op = f"op{len(self.records)}"
        service, client = rng.choice(STORES), f"client {rng.randrange(4)}"
        caller = "" if self._chance(shape.deposits) else rng.choice(STORES)

        def invoked() -> Invoked:
            return Invoked(op, caller, service, key, applies, by=client)

        key, applies = rng.choice(KEYS), bool(caller) and rng.random() < 0.3
        if self._chance(shape.crashes):  # it tries again, under the same id
            self._note(invoked())
            self._note(Told(op, "not stored", code="transport.unavailable", by=client))
            if rng.random() < 0.5:
                return
        self._note(asked := invoked())
        if self._chance(shape.crashes):  # it dies before its commit
            return
        self._stores[caller or service].rows[op] = Row(asked)
        if self._chance(shape.crashes):  # it dies after its commit
            return
        if rng.random() < 0.5:
            self._note(Told(op, "stored", by=client))
        else:
            self._waiting[op] = client

    def _give_up(self) -> None:
        """A time-out of a call."""
        if self._waiting:
            op = self._rng.choice(list(self._waiting))
            self._note(Told(op, "pending", by=self._waiting.pop(op)))

    def _ask_again(self) -> None:
        rows = [row for store in self._stores.values() for row in store.rows.values()]
        if rows:
            self._tell(self._rng.choice(rows), f"client {self._rng.randrange(4)}")

    def _tell(self, row: Row, client: str) -> None:
        op, answer = row.asked.op, row.answer
        self._note(Told(op, answer.outcome, answer.value, answer.code, by=client, echo=op))

    # --- repliers ----------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Run or decide one of the requests that may be run; return whether there was one."""
        ready = [
            row
            for store in self._stores.values()
            for row in self._in_turn(store)
            if not self._is_decided(row) and row.asked.op not in self._stores[row.asked.service].parked
        ]
        if ready:
            self._run(self._rng.choice(ready).asked)
        return bool(ready)

    def _in_turn(self, store: Store) -> list[Row]:
        """Return what is open and, of each key, has nothing open before it."""
        rows: list[Row] = []
        busy: set[tuple[str, str]] = set()
        for row in store.rows.values():
            place = (row.asked.service, row.asked.key)
            if row.answer.outcome == "pending":
                if not row.asked.key or place not in busy:
                    rows.append(row)
                busy.add(place)
        return rows

    def _is_decided(self, row: Row) -> bool:
        replier = self._stores[row.asked.service]
        return row.asked.op in replier.decided or row.asked.op in replier.acked

    def _run(self, asked: Invoked) -> None:
        op, shape, store = asked.op, self._shape, self._stores[asked.service]
        if self._chance(shape.refusals):  # expired or canceled before it ran
            store.decided[op] = Answer("not done", code=self._rng.choice(REFUSALS[2:]))
            return
        self._runs += 1
        run = f"run{self._runs}"
        self._note(Began(op, asked.service, run))
        if self._chance(shape.crashes):
            return
        if self._chance(shape.refusals):
            self._note(Ended(op, run, "raised"))
            if self._rng.random() < 0.5:  # else it is run again
                store.decided[op] = Answer("not done", code=self._rng.choice(REFUSALS[:2]))
            return
        if not asked.key and self._chance(shape.parking):
            self._note(Ended(op, run, "raised"))
            store.parked.add(op)
            return
        value = f"{op} by {run}"
        sequence = store.effects[-1].sequence + 1 if store.effects else 1
        store.effects.append(Effect(op, asked.service, sequence, value, run))
        store.decided[op] = Answer("done", value)
        if not self._chance(shape.crashes):
            self._note(Ended(op, run, "returned"))

    def _answer(self) -> bool:
        """Let one caller hear what was decided, apply it and ack it; return whether there was one."""
        decided = [
            row
            for store in self._stores.values()
            for row in store.rows.values()
            if row.answer.outcome == "pending" and self._is_decided(row)
        ]
        if not decided:
            return False
        row = self._rng.choice(decided)
        op, store, replier = row.asked.op, self._stores[self._keeper(row.asked)], self._stores[row.asked.service]
        row.answer = replier.decided.get(op, UNKNOWN)
        if row.was_done and row.answer.outcome == "not done":
            row.answer = Answer("conflict", code="outcome.conflict")
        applied = any(each.op == op for each in store.applied)  # and committed before the replier's restore
        if row.asked.applies and not applied and row.answer.outcome in {"done", "not done"}:
            store.applied.append(Applied(op, row.answer.outcome, row.answer.value, row.answer.code))
        if self._rng.random() < 0.7:
            replier.acked.add(op)
            replier.decided.pop(op, None)
        client = self._waiting.pop(op, "")
        if client:
            self._tell(row, client)
        return True

    def _keeper(self, asked: Invoked) -> str:
        return asked.caller or asked.service

    # --- faults ------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        client = f"client {self._rng.randrange(4)}"
        self._note(Fault("kill", client))
        self._waiting = {op: who for op, who in self._waiting.items() if who != client}

    def _wipe(self) -> None:
        self._note(Fault("wipe", "engine"))

    def _back_up(self) -> None:
        store = self._rng.choice(STORES)
        self._backups[store] = (self._now, deepcopy(self._stores[store]))

    def _restore(self) -> None:
        if not self._backups:
            return
        name = self._rng.choice(list(self._backups))
        begun, copy = self._backups.pop(name)  # a later one is of the history that begins here
        self._note(Fault("restore", name, backup_at=begun if self._rng.random() < 0.7 else None))
        self._stores[name] = copy
        for store in self._stores.values():
            for row in store.rows.values():
                done_again = row.asked.service == name and row.answer.outcome == "done"
                if not self._known(row) and (done_again or self._keeper(row.asked) == name):
                    row.was_done = row.was_done or row.answer.outcome == "done"
                    row.answer = Answer("pending") if row.answer.outcome == "done" else row.answer
        held = {op for store in self._stores.values() for op in store.rows}
        self._waiting = {op: who for op, who in self._waiting.items() if op in held}
        for store in self._stores.values():
            store.parked &= held

    def _known(self, row: Row) -> bool:
        """Return whether the replier still knows that a request was done."""
        replier = self._stores[row.asked.service]
        return any(effect.op == row.asked.op for effect in replier.effects)

    # --- the end -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        for name, store in self._stores.items():
            for row in store.rows.values():
                if row.asked.op not in self._stores[row.asked.service].parked or self._rng.random() < 0.5:
                    self._tell(row, "auditor")
            for effect in store.effects:
                self._note(effect)
            for applied in store.applied:
                self._note(applied)
            for op in store.acked:
                self._note(Acked(op))
            waiting = sum(row.answer.outcome not in FINAL for row in store.rows.values() if row.asked.caller)
            self._note(Left(name, open=waiting, held=len(store.parked), parked=tuple(sorted(store.parked))))


def good_history(shape: Shape, rng: Random) -> list[Record]:
    """Return a history in which every promise of exactly-once is kept."""
    return World(shape, rng).live()


def cheap_history(
    promise: Literal["at_least_once", "at_most_once"], rng: Random, *, operations: int = 30, wiped: bool = False
) -> list[Record]:
    """Return a history in which a cheaper promise is kept, and no more than that.

    Args:
        promise: which.
        rng: the chance.
        operations: how many.
        wiped: the engine loses what it has, once, in the middle.
    """
    records: list[Record] = []
    recorder = Recorder("world", records.append, now=lambda: 0.0)
    note, sequence = recorder.note, 0
    for number in range(operations):
        op, lost = f"op{number}", wiped and number < operations // 2 and rng.random() < 0.5
        note(Invoked(op, "shop", "prices", rng.choice(KEYS)))
        [stored] = rng.choices(["stored", "unknown", "not stored", "silent"], [6, 2, 1, 1])
        if number == operations // 2 and wiped:
            note(Fault("wipe", "engine"))
        if stored == "not stored" or (stored != "stored" and rng.random() < 0.3):
            runs = 0
        elif promise == "at_most_once":
            runs = rng.choice([0, 1, 1])
        else:
            runs = 0 if lost else rng.choice([1, 1, 1, 2, 3])
        for run in range(runs):
            sequence += 1
            note(Began(op, "prices", f"{op}-{run}", attempt=run + 1))
            note(Effect(op, "prices", sequence, value=f"{op}-{run}"))
        if runs and rng.random() < 0.5:
            note(Told(op, "done", f"{op}-{rng.randrange(runs)}"))
        elif stored == "stored" and promise == "at_least_once":
            note(Told(op, "stored"))
        elif stored == "unknown":
            note(Told(op, "unknown"))
        elif stored == "not stored":
            note(Told(op, "not stored", code="queue.full"))
    return records
