"""Good histories of many shapes have no findings: what a promise allows is no fault."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.history.checker import check
from tests.history.events import Applied, Effect, Fault, Invoked, Left, Record, Told
from tests.history.worlds import Shape, cheap_history, good_history

WEIGHTS = st.integers(0, 5)
SHAPES = st.builds(
    Shape,
    operations=st.integers(0, 40),
    crashes=WEIGHTS,
    restores=WEIGHTS,
    refusals=WEIGHTS,
    deposits=WEIGHTS,
    parking=WEIGHTS,
    quiet=st.booleans(),
)
WILD = Shape(operations=60, crashes=2, restores=1, refusals=4, deposits=3, parking=1)


@given(SHAPES, st.integers(0, 2**32))
def test_a_history_that_keeps_every_promise_has_no_finding(shape: Shape, seed: int) -> None:
    history = good_history(shape, Random(seed))

    report = check(history, "exactly_once", quiet=shape.quiet)

    assert not report.findings, report


@given(st.sampled_from(["at_least_once", "at_most_once"]), st.booleans(), st.integers(0, 2**32))
def test_a_history_that_keeps_a_cheaper_promise_has_no_finding(
    promise: Literal["at_least_once", "at_most_once"], wiped: bool, seed: int
) -> None:
    history = cheap_history(promise, Random(seed), wiped=wiped)

    report = check(history, promise)

    assert not report.findings, report


@given(st.integers(0, 2**32))
def test_the_records_of_several_writers_may_come_in_any_order(seed: int) -> None:
    history = good_history(WILD, Random(seed))
    before = check(history, "exactly_once")

    Random(seed).shuffle(history)

    assert check(history, "exactly_once") == before


def test_the_worlds_show_all_that_the_rules_speak_of() -> None:
    seen: Counter[str] = Counter()

    for seed in range(30):
        counts = check(good_history(WILD, Random(seed)), "exactly_once").counts
        for name in counts.__struct_fields__:
            seen[name] += bool(getattr(counts, name))

    never = {name for name in check([], "exactly_once").counts.__struct_fields__ if not seen[name]}
    assert never == {"double", "duplicates", "wrong"}


# --- what a restore allows, one by one ---------------------------------------------------------------------

ASKED = Invoked("1", "shop", "prices", at=1.0)
QUIET: list[Record] = [Left("shop", at=99.0), Left("prices", at=99.0)]
CALLER_RESTORED = Fault("restore", "shop", backup_at=0.5, at=10.0)
REPLIER_RESTORED = Fault("restore", "prices", backup_at=0.5, at=11.0)
EFFECT = Effect("1", "prices", 1, "9.5")
ANOTHER_EFFECT = Effect("1", "prices", 1, "8.5")


def told(
    outcome: Literal["done", "not done", "unknown", "conflict", "stored"],
    at: float,
    value: str = "",
    *,
    code: str = "",
    run: bool = False,
) -> Told:
    return Told("1", outcome, value, code, provisional=run, at=at)


ALLOWED: dict[str, tuple[list[Record], set[str]]] = {
    # name: what was seen, and the restores (of the caller, of the replier) without which it is a fault
    "unknown, after the caller's restore": ([told("stored", 2), told("unknown", 12), EFFECT], {"shop"}),
    "unknown, though it was told to be done": ([told("done", 2, "9.5"), told("unknown", 12), EFFECT], {"shop"}),
    "a request that the caller's backup did not hold": ([told("stored", 2)], {"shop"}),
    "conflict, after the replier's restore": ([told("done", 2, "9.5"), told("conflict", 12)], {"prices"}),
    "another value, when it was done again": (
        [told("done", 2, "9.5"), told("done", 12, "8.5"), ANOTHER_EFFECT],
        {"prices"},
    ),
    "done after all, when both forgot": ([told("not done", 2), told("done", 12, "9.5"), EFFECT], {"shop", "prices"}),
    "an effect after all, when both forgot": ([told("not done", 2), EFFECT], {"shop", "prices"}),
    "another outcome than a run was told": (
        [told("not done", 2, run=True), told("done", 12, "9.5"), EFFECT],
        {"prices"},
    ),
    "an effect of what was canceled unsent": ([told("not done", 2, code="call.canceled"), EFFECT], {"shop"}),
    "done, and both forgot it": ([told("done", 2, "9.5")], {"shop", "prices"}),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_restore_allows_it_and_only_that_restore_does(name: str) -> None:
    seen, needed = ALLOWED[name]
    restores = {"shop": CALLER_RESTORED, "prices": REPLIER_RESTORED}
    held = {store: Fault("restore", store, backup_at=50.0, at=50.0) for store in restores}

    def findings(*faults: Record) -> list[str]:
        return [finding.rule for finding in check([ASKED, *seen, *faults, *QUIET], "exactly_once").findings]

    assert findings(*(restores[store] for store in needed)) == []
    for missing in needed:
        assert findings(*(restores[store] for store in needed - {missing}))
        assert findings(held[missing], *(restores[store] for store in needed - {missing}))


def test_of_a_value_that_was_applied_nobody_says_when_so_any_restore_of_the_replier_allows_another_effect() -> None:
    records = [ASKED, Applied("1", "done", "9.5"), ANOTHER_EFFECT, *QUIET]

    assert check(records, "exactly_once").rules == {"S3": 1}
    assert check([*records, CALLER_RESTORED], "exactly_once").rules == {"S3": 1}
    assert check([*records, REPLIER_RESTORED], "exactly_once").findings == []


def test_a_caller_without_a_store_may_not_know_and_may_lose_its_deposit_with_the_engine() -> None:
    records: list[Record] = [
        Invoked("unknown", "", "prices", at=1.0),
        Told("unknown", "unknown", at=2.0),
        Invoked("lost", "", "prices", at=3.0),
        Told("lost", "stored", at=4.0),
        Left("prices"),
    ]

    kept, wiped = check(records, "exactly_once"), check([*records, Fault("wipe", "engine", at=5.0)], "exactly_once")

    assert (kept.rules, wiped.findings, wiped.counts.lost) == ({"L1": 1}, [], 1)


def test_the_effects_of_requests_that_were_made_at_once_have_no_order() -> None:
    first, second = Invoked("1", "shop", "prices", "tea", at=1.0), Invoked("2", "shop", "prices", "tea", at=2.0)
    effects = [Effect("2", "prices", 1), Effect("1", "prices", 2)]

    at_once = [first, second, Told("1", "stored", at=3.0), Told("2", "stored", at=4.0), *effects]
    one_by_one = [first, Told("1", "stored", at=1.5), second, Told("2", "stored", at=4.0), *effects]

    assert check(at_once, "exactly_once", quiet=False).findings == []
    assert check(one_by_one, "exactly_once", quiet=False).rules == {"S8": 1}


def test_each_that_overtook_another_is_found_and_those_between_are_not() -> None:
    def sent(number: int) -> list[Record]:
        op = str(number)
        return [Invoked(op, "shop", "prices", "tea", at=number), Told(op, "stored", at=number + 0.5)]

    records = [record for number in range(5) for record in sent(number)]
    order = [1, 3, 0, 4, 2]  # 0 and 2 were overtaken

    effects = [Effect(str(number), "prices", place) for place, number in enumerate(order)]

    report = check([*records, *effects], "exactly_once", quiet=False)
    assert {(finding.rule, finding.op) for finding in report.findings} == {("S8", "1"), ("S8", "3"), ("S8", "4")}


def test_order_is_kept_by_one_caller_towards_one_service_within_one_key() -> None:
    tea = ("shop", "prices", "tea")
    others = [("till", "prices", "tea"), ("shop", "stock", "tea"), ("shop", "prices", "milk")]
    pairs = [*((tea, other) for other in others), (("shop", "prices", ""),) * 2, (("", "prices", "tea"),) * 2]

    for first, (caller, service, key) in pairs:
        records = [
            Invoked("1", *first, at=1.0),
            Told("1", "stored", at=2.0),
            Invoked("2", caller, service, key, at=3.0),
            Effect("2", service, 1),
            Effect("1", "prices", 2),
        ]
        assert check(records, "exactly_once", quiet=False).findings == []


def test_what_is_parked_is_not_lost_and_may_stay() -> None:
    records = [Invoked("1", "shop", "prices", at=1.0), Told("1", "stored", at=2.0)]

    parked = [*records, Left("shop", open=1), Left("prices", held=1, parked=("1",))]

    assert check(parked, "exactly_once").findings == []
    assert check([Left("shop", open=2, at=9.0), *parked], "exactly_once").rules == {"L2": 1}
