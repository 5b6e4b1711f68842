"""What a handler's end means: every end, waited for or not, at every attempt; and what holds for all of them."""

from __future__ import annotations

from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.errors import (
    CallCanceledError,
    ContractError,
    ExpiredError,
    FailedError,
    InvalidDataError,
    NotDoneError,
    PosthouseError,
    Reject,
    UnavailableError,
)
from posthouse.protocol.settlement import (
    DELIVERIES,
    REASON_LIMIT,
    UNATTENDED,
    WAITED_FOR,
    Again,
    Decided,
    Failed,
    Over,
    Policy,
    crashed_too_often,
    one_line,
    passes_on,
    policy_for,
    settle,
)

Exhausted = Literal["park", "fail"]
FAILURE = Failed("ValueError: no tea", "Traceback ...")


def settled(
    end: Failed | Decided,
    *,
    waited_for: bool,
    policy: Policy | None = None,
    attempt: int = 1,
    failures: int = 0,
) -> Again | Over:
    policy = policy or policy_for(waited_for=waited_for)
    return settle(
        end,
        name="prices.quote",
        attempt=attempt,
        failures=failures,
        waited_for=waited_for,
        policy=policy,
        rng=Random(1),
    )


# --- decided ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", [1, 2, DELIVERIES, DELIVERIES + 1])
@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Reject("no", code="card.refused"), "failed"),
        (ExpiredError("too late"), "failed"),
        (FailedError("given up"), "failed"),
        (CallCanceledError("canceled"), "failed"),
        (NotDoneError("not done"), "failed"),
        (InvalidDataError("$.qty"), "parked"),
    ],
)
def test_what_is_decided_is_told_or_kept_and_never_run_again(error: PosthouseError, kept: str, attempt: int):
    told = settled(Decided(error), waited_for=True, attempt=attempt)
    alone = settled(Decided(error), waited_for=False, attempt=attempt)

    assert told == Over(error, None, error.code, str(error))
    assert alone == Over(None, kept, error.code, str(error))  # pyright: ignore[reportArgumentType]


def test_an_error_without_a_text_is_told_by_its_code():
    over = settled(Decided(Reject()), waited_for=False)

    assert isinstance(over, Over)
    assert over.reason == "rejected"


# --- failed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited_for", "exhausted", "told", "kept"),
    [
        (True, None, True, "failed"),
        (True, "fail", True, "failed"),
        (True, "park", False, "parked"),
        (False, None, False, "parked"),
        (False, "park", False, "parked"),
        (False, "fail", False, "failed"),
    ],
)
def test_a_failure_is_tried_again_as_often_as_the_policy_says_and_then_it_is_over(
    waited_for: bool, exhausted: Exhausted | None, told: bool, kept: str
):
    policy = policy_for(waited_for=waited_for, attempts=4, exhausted=exhausted)

    ends = [
        settled(FAILURE, waited_for=waited_for, policy=policy, attempt=failures + 1, failures=failures)
        for failures in range(4)
    ]

    assert [type(end) for end in ends] == [Again, Again, Again, Over]
    over = ends[-1]
    assert isinstance(over, Over)
    assert isinstance(over.tell, FailedError) is told
    assert (over.keep, over.code) == (kept, "handler.failed")
    assert over.reason == "prices.quote failed after 4 attempts: ValueError: no tea"
    assert over.detail == "Traceback ..."


def test_the_defaults_are_three_attempts_when_a_caller_waits_and_eight_when_nobody_does():
    assert policy_for(waited_for=True) == WAITED_FOR == Policy(3, 0.1, 2.0, "fail")
    assert policy_for(waited_for=False) == UNATTENDED == Policy(8, 1.0, 300.0, "park")


def test_the_handlers_word_beats_each_default_alone():
    assert policy_for(waited_for=True, attempts=9) == Policy(9, 0.1, 2.0, "fail")
    assert policy_for(waited_for=True, backoff=(3.0, 4.0)) == Policy(3, 3.0, 4.0, "fail")
    assert policy_for(waited_for=False, exhausted="fail") == Policy(8, 1.0, 300.0, "fail")


@pytest.mark.parametrize("after", [0.0, 0.5, 86_400.0])
def test_a_handler_that_says_when_is_tried_again_then(after: float):
    assert settled(Failed("closed", after=after), waited_for=True) == Again(after)


def test_saying_when_gives_no_further_attempt():
    end = settled(Failed("closed", after=5.0), waited_for=True, attempt=3, failures=2)

    assert isinstance(end, Over)


def test_an_attempt_that_was_no_failure_burns_none():
    """A crash, or a drain that canceled it, is an attempt and no failure."""
    assert isinstance(settled(FAILURE, waited_for=True, attempt=DELIVERIES - 1, failures=0), Again)


@pytest.mark.parametrize(("waited_for", "kept"), [(True, "failed"), (False, "parked")])
def test_one_that_took_its_receivers_down_too_often_is_not_run_again(waited_for: bool, kept: str):
    policy = policy_for(waited_for=waited_for)

    over = crashed_too_often(name="prices.quote", attempt=DELIVERIES + 1, waited_for=waited_for, policy=policy)

    assert isinstance(over.tell, FailedError) is waited_for
    assert over.keep == kept
    assert f"after {DELIVERIES} attempts" in over.reason


# --- the text -----------------------------------------------------------------------------------------


@given(st.text())
def test_a_reason_is_one_line_and_no_longer_than_its_limit(text: str):
    line = one_line(text)

    assert len(line) <= REASON_LIMIT
    assert len(line.splitlines()) <= 1
    for end, waited_for in ((Failed(text), True), (Failed(text), False), (Decided(Reject(text)), False)):
        over = settled(end, waited_for=waited_for, attempt=DELIVERIES)
        assert isinstance(over, Over)
        assert len(over.reason.splitlines()) == 1


def test_a_long_cause_is_cut():
    assert one_line("a\n" + "x" * 5000) == "a " + "x" * (REASON_LIMIT - 5) + "..."


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (Reject("no"), True),
        (FailedError("no"), True),
        (ExpiredError("late"), True),
        (ContractError("types"), False),
        (UnavailableError("away"), False),
        (ValueError("oops"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_a_decided_outcome_passes_on_as_it_is(error: BaseException, passes: bool):
    assert passes_on(error) is passes


# --- what holds for all -------------------------------------------------------------------------------

policies = st.builds(
    Policy,
    attempts=st.integers(1, 30),
    base=st.just(0.1),
    cap=st.sampled_from([0.1, 300.0]),
    exhausted=st.sampled_from(["park", "fail"]),
)
ends = st.one_of(
    st.builds(Failed, st.text(), st.text(), st.none() | st.floats(0, 1e6)),
    st.sampled_from([Reject("no"), ExpiredError("late"), InvalidDataError("$.qty"), UnavailableError()]).map(Decided),
)


@given(ends, policies, st.booleans(), st.integers(1, 40), st.integers(0, 40))
def test_nothing_ends_in_silence(end: Failed | Decided, policy: Policy, waited_for: bool, attempt: int, failures: int):
    decision = settled(end, waited_for=waited_for, policy=policy, attempt=attempt, failures=failures)

    if isinstance(decision, Again):
        assert isinstance(end, Failed)
        assert failures + 1 < policy.attempts
        assert attempt < DELIVERIES
        assert decision.after == end.after if end.after is not None else 0 <= decision.after <= policy.cap
    else:
        assert decision.code
        assert decision.reason
        if not waited_for:  # nobody to tell: a dead letter, always
            assert decision.tell is None
            assert decision.keep is not None
        elif decision.tell is None:  # a caller waits: told, or parked on the user's own word
            assert policy.exhausted == "park"
            assert decision.keep == "parked"


@given(policies, st.booleans(), st.lists(st.sampled_from(["failed", "crashed"]), min_size=60, max_size=60))
def test_whatever_happens_a_message_fails_no_more_often_than_its_policy_says_and_comes_to_an_end(
    policy: Policy, waited_for: bool, fates: list[str]
):
    failures = runs = 0
    over: Over | None = None

    for attempt, fate in enumerate(fates, 1):
        if attempt > DELIVERIES:
            over = crashed_too_often(name="x", attempt=attempt, waited_for=waited_for, policy=policy)
            break
        runs += 1
        if fate == "failed":
            decision = settled(FAILURE, waited_for=waited_for, policy=policy, attempt=attempt, failures=failures)
            failures += 1
            if isinstance(decision, Over):
                over = decision
                break

    assert over is not None
    assert failures <= policy.attempts
    assert runs <= DELIVERIES
    assert over.keep is not None
    assert (over.tell is not None) == (waited_for and policy.exhausted == "fail")
