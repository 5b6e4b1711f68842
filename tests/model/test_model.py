"""The model's quick run: every correct configuration holds, every broken variant is caught."""

from __future__ import annotations

import pytest

from tests.model import adoption, restores
from tests.model.checker import check
from tests.model.config import Config
from tests.model.configurations import BROKEN, CORRECT, LARGE
from tests.model.world import World


def named(config: Config) -> str:
    return config.name


@pytest.mark.parametrize("config", [*CORRECT, *restores.CORRECT], ids=named)
def test_the_rules_hold_in_every_reachable_state(config: Config) -> None:
    result = check(World(config))

    assert (result.verdict, result.finding, result.trace) == ("holds", "holds", [])


@pytest.mark.parametrize("config", [*BROKEN, *restores.BROKEN], ids=named)
def test_a_broken_rule_is_caught(config: Config) -> None:
    result = check(World(config))

    assert result.verdict in config.expect
    assert result.trace or result.verdict == "liveness"  # a world may be stuck from its start


@pytest.mark.parametrize("config", [*adoption.CORRECT, *adoption.BROKEN], ids=lambda config: config.name)
def test_a_confirmed_deposit_is_adopted_once_and_every_broken_rule_is_caught(config: adoption.Adoption) -> None:
    result = check(adoption.AdoptionWorld(config))

    assert result.verdict in config.expect


@pytest.mark.slow
@pytest.mark.parametrize("config", [*LARGE, *restores.LARGE], ids=named)
def test_the_rules_hold_within_larger_bounds(config: Config) -> None:
    result = check(World(config))

    assert (result.verdict, result.finding, result.trace) == ("holds", "holds", [])
