"""Journaled events in the model: every correct world holds, every broken variant is caught."""

from __future__ import annotations

import pytest

from tests.model.checker import check
from tests.model.events.configurations import BROKEN, BROKEN_LARGE, CORRECT, LARGE
from tests.model.events.rules import Rules
from tests.model.events.world import EventWorld


def named(rules: Rules) -> str:
    return rules.name


@pytest.mark.parametrize("rules", CORRECT, ids=named)
def test_no_event_is_lost_in_silence_or_handled_twice_in_any_reachable_state(rules: Rules) -> None:
    result = check(EventWorld(rules))

    assert (result.verdict, result.finding, result.trace) == ("holds", "holds", [])


@pytest.mark.parametrize(
    "rules", [*BROKEN, *(pytest.param(rules, marks=pytest.mark.slow) for rules in BROKEN_LARGE)], ids=named
)
def test_a_broken_rule_of_events_is_caught(rules: Rules) -> None:
    result = check(EventWorld(rules))

    assert result.verdict in rules.expect
    assert result.trace


@pytest.mark.slow
@pytest.mark.parametrize("rules", LARGE, ids=named)
def test_no_event_is_lost_in_silence_or_handled_twice_within_larger_bounds(rules: Rules) -> None:
    result = check(EventWorld(rules))

    assert (result.verdict, result.finding, result.trace) == ("holds", "holds", [])
