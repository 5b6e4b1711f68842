"""Each kind of fault, planted into a good history, is found under the name of its rule, and nothing else is."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import pytest

from tests.history.checker import Counts, check
from tests.history.events import Acked, Applied, Began, Effect, Ended, Fault, Invoked, Left, Told
from tests.history.story import story_of
from tests.history.worlds import Shape, cheap_history, good_history

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.history.events import Outcome, Record
    from tests.history.rules import Promise
    from tests.history.story import Operation

END: Final = 1e6
"""Later than anything in these histories."""


class Bed:
    """A good history to plant a fault in."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.story = story_of(records)

    def find(self, fits: Callable[[Operation], bool]) -> Operation:
        """Return an operation that fits."""
        return next(each for each in self.story.operations.values() if fits(each))

    def add(self, *records: Record) -> None:
        """Add records as they are."""
        self.records += records

    def drop(self, op: str, *kinds: type[Record]) -> None:
        """Forget what was seen of an operation."""
        self.records = [each for each in self.records if getattr(each, "op", "") != op or not isinstance(each, kinds)]

    def change(self, op: str, kind: type[Record], **values: Any) -> None:
        """Say otherwise what was seen of an operation."""
        for number, each in enumerate(self.records):
            if isinstance(each, kind) and getattr(each, "op", "") == op:
                self.records[number] = msgspec.structs.replace(each, **values)

    def told_only(self, op: str, *outcomes: Outcome, at: float = END) -> None:
        """Let its caller have been told these and nothing else, one after another, at the end."""
        self.drop(op, Told)
        self.add(*(Told(op, outcome, at=at + number) for number, outcome in enumerate(outcomes)))


# --- what to plant it at -----------------------------------------------------------------------------------


def plain(each: Operation) -> bool:
    """Done once by one run, for a caller with a store that applies nothing itself."""
    return len(each.effects) == each.runs == 1 and bool(each.tries[0].caller) and not each.tries[0].applies


def across(each: Operation) -> bool:
    """Plain, and between two stores."""
    return plain(each) and each.keeper != each.service


def applied(each: Operation) -> bool:
    """Done, applied and acked."""
    return bool(each.effects and each.applied and each.acks)


def sent(each: Operation) -> bool:
    """Plain, and confirmed as stored before its outcome was known."""
    return across(each) and each.told[0].outcome == "stored"


def refused(code: str) -> Callable[[Operation], bool]:
    """Not done, by this code, between two stores, in no order and not applied."""

    def fits(each: Operation) -> bool:
        told = bool(each.told) and each.told[-1].code == code
        return told and each.keeper != each.service and not each.tries[0].key and not each.applied

    return fits


# --- the plants: each returns the operation that is to be found --------------------------------------------


def a_second_effect(bed: Bed) -> str:
    [effect] = bed.find(plain).effects
    bed.add(msgspec.structs.replace(effect, sequence=1000))
    return effect.op


def a_reply_applied_again(bed: Bed) -> str:
    operation = bed.find(applied)
    bed.add(*operation.applied)
    return operation.op


def the_value_of_another_is_told(bed: Bed) -> str:
    one = bed.find(plain)
    other = bed.find(lambda each: plain(each) and each is not one)
    bed.change(one.op, Told, value=other.effects[0].value)
    return one.op


def a_value_that_no_effect_gave_is_told(bed: Bed) -> str:
    operation = bed.find(plain)
    bed.change(operation.op, Told, value="garbled")
    return operation.op


def the_value_of_another_is_applied(bed: Bed) -> str:
    one, other = bed.find(applied), bed.find(plain)
    bed.drop(one.op, Told)
    bed.change(one.op, Applied, value=other.effects[0].value)
    return one.op


def a_reply_that_names_another_is_told(bed: Bed) -> str:
    one = bed.find(plain)
    bed.change(one.op, Told, echo=bed.find(applied).op)
    return one.op


def done_is_told_and_nothing_happened(bed: Bed) -> str:
    operation = bed.find(plain)
    bed.drop(operation.op, Effect)
    return operation.op


def done_is_applied_and_nothing_happened(bed: Bed) -> str:
    operation = bed.find(applied)
    bed.drop(operation.op, Effect, Told)
    return operation.op


def an_effect_that_a_backup_held_is_gone(bed: Bed) -> str:
    operation = bed.find(plain)
    bed.drop(operation.op, Effect)
    bed.add(Fault("restore", operation.service, backup_at=END, at=END + 1))
    return operation.op


def an_effect_is_gone_and_the_restore_was_before_the_request(bed: Bed) -> str:
    operation = bed.find(lambda each: plain(each) and each.asked_at > 10)
    bed.drop(operation.op, Effect)
    bed.add(Fault("restore", operation.service, at=operation.asked_at - 0.5))
    return operation.op


def an_effect_of_what(code: str) -> Callable[[Bed], str]:
    def plant(bed: Bed) -> str:
        operation = bed.find(refused(code))
        bed.add(Effect(operation.op, operation.service, 1000))
        return operation.op

    plant.__name__ = f"an_effect_of_what_is_{code}"
    return plant


def an_effect_of_what_was_applied_as_not_done(bed: Bed) -> str:
    operation = bed.find(lambda each: not each.tries[0].key and bool(each.applied) and not each.effects)
    bed.drop(operation.op, Told)
    bed.add(Effect(operation.op, operation.service, 1000))
    return operation.op


def an_effect_of_a_conflict(bed: Bed) -> str:
    operation = bed.find(across)
    bed.add(Fault("restore", operation.service, at=operation.told[-1].at))
    bed.add(Told(operation.op, "conflict", at=END))
    return operation.op


def an_effect_of_what_is_not_done_after_one_side_alone_was_restored(bed: Bed) -> str:
    operation = bed.find(refused("rejected"))
    bed.add(Fault("restore", operation.service, at=END), Effect(operation.op, operation.service, 1000))
    return operation.op


def unknown_and_nobody_was_restored(bed: Bed) -> str:
    operation = bed.find(across)
    bed.told_only(operation.op, "unknown")
    return operation.op


def unknown_after_a_restore_before_the_request(bed: Bed) -> str:
    operation = bed.find(lambda each: across(each) and each.asked_at > 10)
    bed.told_only(operation.op, "unknown")
    bed.add(Fault("restore", operation.keeper, at=operation.asked_at - 0.5))
    return operation.op


def unknown_before_the_restore(bed: Bed) -> str:
    operation = bed.find(across)
    bed.told_only(operation.op, "unknown")
    bed.add(Fault("restore", operation.keeper, at=END + 1))
    return operation.op


def unknown_after_the_repliers_restore(bed: Bed) -> str:
    operation = bed.find(across)
    bed.told_only(operation.op, "unknown")
    bed.add(Fault("restore", operation.service, at=END - 1))
    return operation.op


def unknown_is_applied_and_nobody_was_restored(bed: Bed) -> str:
    operation = bed.find(applied)
    bed.drop(operation.op, Told)
    bed.change(operation.op, Applied, outcome="unknown")
    return operation.op


def conflict_and_nobody_was_restored(bed: Bed) -> str:
    operation = bed.find(across)
    bed.told_only(operation.op, "conflict")
    bed.drop(operation.op, Effect)
    return operation.op


def conflict_after_the_callers_restore(bed: Bed) -> str:
    operation = bed.find(across)
    bed.told_only(operation.op, "conflict")
    bed.drop(operation.op, Effect)
    bed.add(Fault("restore", operation.keeper, at=END - 1))
    return operation.op


def a_stranger(record: Record) -> Callable[[Bed], str]:
    def plant(bed: Bed) -> str:
        bed.add(record)
        return "stranger"

    plant.__name__ = f"{type(record).__name__.lower()}_without_a_request"
    return plant


def an_effect_in_a_store_that_was_not_asked(bed: Bed) -> str:
    operation = bed.find(plain)
    bed.change(operation.op, Effect, service="elsewhere")
    return operation.op


def two_of_one_key_change_places(bed: Bed) -> str:
    for one in bed.story.operations.values():
        for other in bed.story.operations.values():
            asked, asked_later = one.tries[0], other.tries[0]
            same = _line(asked) == _line(asked_later)
            if asked.key and same and asked.caller and one.effects and other.effects and one.stored_at < other.asked_at:
                bed.change(one.op, Effect, sequence=other.effects[0].sequence)
                bed.change(other.op, Effect, sequence=one.effects[0].sequence)
                return ""  # those between them are overtaken as well
    raise AssertionError("there are no two of one key")


def _line(asked: Invoked) -> tuple[str, str, str]:
    return asked.caller, asked.service, asked.key


def what_was_confirmed_is_lost(bed: Bed) -> str:
    operation = bed.find(sent)
    bed.told_only(operation.op, "stored")
    bed.drop(operation.op, Effect, Acked)
    return operation.op


def what_was_pending_is_lost(bed: Bed) -> str:
    operation = bed.find(plain)
    bed.told_only(operation.op, "pending", "pending")
    bed.drop(operation.op, Effect, Acked)
    return operation.op


def what_was_confirmed_is_lost_though_the_callers_backup_held_it(bed: Bed) -> str:
    operation = bed.find(sent)
    bed.told_only(operation.op, "stored", at=operation.asked_at + 0.5)
    bed.drop(operation.op, Effect, Acked)
    bed.add(Fault("restore", operation.keeper, backup_at=END, at=END))
    return operation.op


def what_was_done_is_not_done_again_after_a_restore(bed: Bed) -> str:
    operation = bed.find(across)
    bed.drop(operation.op, Effect)
    bed.add(Fault("restore", operation.service, at=END))
    return operation.op


def a_reply_is_never_applied(bed: Bed) -> str:
    operation = bed.find(applied)
    bed.drop(operation.op, Applied, Acked)
    return operation.op


def a_row_is_left_at_the_replier(bed: Bed) -> str:
    bed.add(Left("prices", held=1, at=END))
    return ""


def a_row_is_left_at_the_caller(bed: Bed) -> str:
    bed.add(Left("shop", open=1, at=END))
    return ""


def a_store_was_not_looked_at(bed: Bed) -> str:
    bed.records = [each for each in bed.records if not (isinstance(each, Left) and each.store == "stock")]
    return ""


def an_effect_of_what_was_not_stored(bed: Bed) -> str:
    operation = bed.find(lambda each: each.never_stored)
    bed.add(Effect(operation.op, operation.service, 1000))
    return operation.op


def a_run_of_what_was_not_stored(bed: Bed) -> str:
    operation = bed.find(lambda each: each.never_stored)
    bed.add(Began(operation.op, operation.service, "a run"))
    return operation.op


def a_word_about_what_was_not_stored(bed: Bed) -> str:
    operation = bed.find(lambda each: each.never_stored)
    bed.add(Told(operation.op, "not done", code="rejected", at=END))
    return operation.op


def an_effect_of_a_run_that_raised(bed: Bed) -> str:
    operation = bed.find(plain)
    bed.change(operation.op, Ended, how="raised")
    return operation.op


def the_same_caller_is_told_another_code(bed: Bed) -> str:
    operation = bed.find(refused("rejected"))
    bed.add(Told(operation.op, "not done", code="call.canceled", by=operation.told[-1].by, at=END))
    return operation.op


def another_caller_is_told_another_code(bed: Bed) -> str:
    operation = bed.find(refused("rejected"))
    bed.add(Told(operation.op, "not done", code="call.canceled", by="somebody else", at=END))
    return operation.op


def done_becomes_not_done(bed: Bed) -> str:
    operation = bed.find(plain)
    bed.add(Told(operation.op, "not done", code="rejected", by=operation.told[-1].by, at=END))
    return operation.op


def a_conflict_becomes_done(bed: Bed) -> str:
    operation = bed.find(across)
    bed.drop(operation.op, Effect)
    bed.told_only(operation.op, "conflict", "done")
    bed.add(Fault("restore", operation.service, at=END - 1, backup_at=operation.asked_at))
    return operation.op


def another_caller_is_told_another_value(bed: Bed) -> str:
    operation = bed.find(plain)
    bed.add(Told(operation.op, "done", "garbled", by="somebody else", at=END))
    return operation.op


def another_outcome_is_applied_than_was_told(bed: Bed) -> str:
    operation = bed.find(applied)
    bed.change(operation.op, Applied, outcome="not done", value="", code="rejected")
    return operation.op


def an_ack_is_taken_again(bed: Bed) -> str:
    operation = bed.find(applied)
    bed.add(Acked(operation.op))
    return operation.op


def what_is_not_applied_is_acked(bed: Bed) -> str:
    operation = bed.find(applied)
    bed.drop(operation.op, Applied)
    return operation.op


class Plant(NamedTuple):
    """A fault, and the rules that have to name it."""

    plant: Callable[[Bed], str]
    rules: set[str]


PLANTS = [
    Plant(a_second_effect, {"S1"}),
    Plant(a_reply_applied_again, {"S2"}),
    Plant(the_value_of_another_is_told, {"S3"}),
    Plant(a_value_that_no_effect_gave_is_told, {"S3"}),
    Plant(the_value_of_another_is_applied, {"S3"}),
    Plant(a_reply_that_names_another_is_told, {"S3"}),
    Plant(done_is_told_and_nothing_happened, {"S4"}),
    Plant(done_is_applied_and_nothing_happened, {"S4"}),
    Plant(an_effect_that_a_backup_held_is_gone, {"S4"}),
    Plant(an_effect_is_gone_and_the_restore_was_before_the_request, {"S4"}),
    Plant(an_effect_of_what("rejected"), {"S5"}),
    Plant(an_effect_of_what("handler.failed"), {"S5"}),
    Plant(an_effect_of_what("deadline.expired"), {"S5"}),
    Plant(an_effect_of_what("call.canceled"), {"S5"}),
    Plant(an_effect_of_what_was_applied_as_not_done, {"S5"}),
    Plant(an_effect_of_a_conflict, {"S5"}),
    Plant(an_effect_of_what_is_not_done_after_one_side_alone_was_restored, {"S5"}),
    Plant(unknown_and_nobody_was_restored, {"S6"}),
    Plant(unknown_after_a_restore_before_the_request, {"S6"}),
    Plant(unknown_before_the_restore, {"S6"}),
    Plant(unknown_after_the_repliers_restore, {"S6"}),
    Plant(unknown_is_applied_and_nobody_was_restored, {"S6"}),
    Plant(conflict_and_nobody_was_restored, {"S6"}),
    Plant(conflict_after_the_callers_restore, {"S6"}),
    Plant(a_stranger(Effect("stranger", "prices", 1000)), {"S7"}),
    Plant(a_stranger(Began("stranger", "prices", "a run")), {"S7"}),
    Plant(a_stranger(Told("stranger", "done")), {"S7"}),
    Plant(a_stranger(Applied("stranger", "done")), {"S7"}),
    Plant(a_stranger(Acked("stranger")), {"S7"}),
    Plant(an_effect_in_a_store_that_was_not_asked, {"S7"}),
    Plant(two_of_one_key_change_places, {"S8"}),
    Plant(what_was_confirmed_is_lost, {"L1"}),
    Plant(what_was_pending_is_lost, {"L1"}),
    Plant(what_was_confirmed_is_lost_though_the_callers_backup_held_it, {"L1"}),
    Plant(what_was_done_is_not_done_again_after_a_restore, {"L1"}),
    Plant(a_reply_is_never_applied, {"L1"}),
    Plant(a_row_is_left_at_the_replier, {"L2"}),
    Plant(a_row_is_left_at_the_caller, {"L2"}),
    Plant(a_store_was_not_looked_at, {"L2"}),
    Plant(an_effect_of_what_was_not_stored, {"not stored"}),
    Plant(a_run_of_what_was_not_stored, {"not stored"}),
    Plant(a_word_about_what_was_not_stored, {"not stored"}),
    Plant(an_effect_of_a_run_that_raised, {"rolled back"}),
    Plant(the_same_caller_is_told_another_code, {"changed"}),
    Plant(another_caller_is_told_another_code, {"differs"}),
    Plant(done_becomes_not_done, {"changed", "S5"}),
    Plant(a_conflict_becomes_done, {"changed", "L1"}),
    Plant(another_caller_is_told_another_value, {"differs", "S3"}),
    Plant(another_outcome_is_applied_than_was_told, {"differs", "S5"}),
    Plant(an_ack_is_taken_again, {"acked twice"}),
    Plant(what_is_not_applied_is_acked, {"acked early"}),
]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("plant", "rules"), PLANTS, ids=[each.plant.__name__ for each in PLANTS])
def test_a_planted_fault_is_named_and_nothing_else_is(plant: Callable[[Bed], str], rules: set[str], seed: int) -> None:
    bed = Bed(good_history(Shape(operations=150, crashes=2, refusals=4, deposits=1), Random(seed)))

    op = plant(bed)

    report = check(bed.records, "exactly_once")
    assert set(report.rules) == rules, report
    assert {finding.op for finding in report.findings} == {op} or "S8" in rules


def lost(bed: Bed) -> str:
    operation = bed.find(lambda each: bool(each.told) and each.told[0].outcome == "stored")
    bed.drop(operation.op, Effect, Began)
    return operation.op


def lost_by_a_kill(bed: Bed) -> str:
    bed.add(Fault("kill", "prices", at=END))
    return lost(bed)


def lost_after_the_wipe(bed: Bed) -> str:
    asked = {op: at for at, op in enumerate(bed.story.operations)}
    bed.add(Fault("wipe", "engine"))
    operation = bed.find(lambda each: bool(each.told) and each.told[0].outcome == "stored" and asked[each.op] > 5)
    for number, record in enumerate(bed.records):
        record.at = 0.0 if isinstance(record, Fault) else 1.0 + number
    bed.drop(operation.op, Effect, Began)
    return operation.op


def done_without_effect(bed: Bed) -> str:
    operation = bed.find(lambda each: each.has("done"))
    bed.drop(operation.op, Effect)
    return operation.op


def wrong_value(bed: Bed) -> str:
    operation = bed.find(lambda each: each.has("done"))
    bed.change(operation.op, Told, value="garbled")
    return operation.op


def done_twice(bed: Bed) -> str:
    [effect] = bed.find(lambda each: len(each.effects) == 1).effects
    bed.add(effect)
    return effect.op


CHEAP_PLANTS: list[tuple[Promise, Callable[[Bed], str], set[str]]] = [
    ("at_least_once", lost, {"L1"}),
    ("at_least_once", lost_by_a_kill, {"L1"}),
    ("at_least_once", lost_after_the_wipe, {"L1"}),
    ("at_least_once", done_without_effect, {"S4"}),
    ("at_least_once", wrong_value, {"S3"}),
    ("at_least_once", an_effect_of_what_was_not_stored, {"not stored"}),
    ("at_least_once", a_stranger(Effect("stranger", "prices", 1000)), {"S7"}),
    ("at_most_once", done_twice, {"S1"}),
    ("at_most_once", done_without_effect, {"S4"}),
    ("at_most_once", wrong_value, {"S3"}),
    ("at_most_once", an_effect_of_what_was_not_stored, {"not stored"}),
    ("at_most_once", a_stranger(Effect("stranger", "prices", 1000)), {"S7"}),
]


@pytest.mark.parametrize(
    ("promise", "plant", "rules"), CHEAP_PLANTS, ids=[f"{each[0]}-{each[1].__name__}" for each in CHEAP_PLANTS]
)
def test_a_cheaper_promise_is_held_to_what_it_says(promise: Any, plant: Callable[[Bed], str], rules: set[str]) -> None:
    bed = Bed(cheap_history(promise, Random(4), operations=60))

    op = plant(bed)

    report = check(bed.records, promise)
    assert set(report.rules) == rules, report
    assert {finding.op for finding in report.findings} == {op}


def test_all_is_counted_whether_it_is_allowed_or_not() -> None:
    records = [
        Invoked("twice", "shop", "prices", at=1.0),
        *(Began("twice", "prices", run) for run in "abcd"),
        *(Effect("twice", "prices", number, value) for number, value in enumerate("abc")),
        Told("twice", "done", "b", at=2.0),
        Invoked("lost", "shop", "prices", at=3.0),
        Told("lost", "stored", at=4.0),
        Fault("kill", "shop", at=4.5),
        Fault("wipe", "engine", at=5.0),
        Invoked("wrong", "shop", "prices", at=6.0),
        Effect("wrong", "prices", 4, "value"),
        Told("wrong", "done", "garbled", at=7.0),
        *(Invoked(op, "shop", "prices", at=8.0) for op in ("silent", "refused", "unknown", "full", "parked")),
        Told("refused", "not done", at=9.0),
        Told("unknown", "unknown", at=9.0),
        Told("full", "not stored", at=9.0),
        Told("parked", "stored", at=9.0),
        Left("prices", held=1, parked=("parked",)),
        Told("stranger", "conflict", at=9.0),
    ]

    queued, journaled = check(records, "at_least_once"), check(records, "exactly_once", quiet=False)

    assert queued.rules == {"S3": 1, "S7": 1}
    assert journaled.rules == {"S1": 1, "S3": 1, "S6": 1, "S7": 1}
    assert queued.counts == journaled.counts
    assert queued.counts == Counts(
        operations=8,
        done=2,
        not_done=1,
        unknown=1,
        conflict=1,
        not_stored=1,
        silent=1,
        effects=4,
        lost=1,
        double=1,
        duplicates=2,
        wrong=1,
        runs=4,
        reruns=3,
        parked=1,
        faults={"kill": 1, "wipe": 1},
    )


def test_a_run_that_was_cut_off_is_not_asked_for_its_end() -> None:
    records = [Invoked("1", "shop", "prices", at=1.0), Told("1", "stored", at=2.0)]

    cut_off, at_rest = check(records, "exactly_once", quiet=False), check(records, "exactly_once")

    assert cut_off.findings == []
    assert at_rest.rules == {"L1": 1, "L2": 2}
