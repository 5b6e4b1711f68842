"""The page of guarantees promises what the model derives, fault by fault and mode by mode."""

from __future__ import annotations

from pathlib import Path

from tests.model.modes import FAULTS, JOURNALED, QUEUED, VOLATILE, Fault, effects_at_rest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "guarantees.md"
HEADING = "## Under each fault\n"

SAID: dict[frozenset[int], str] = {
    frozenset({1}): "1",
    frozenset({0, 1}): "0 or 1",
    frozenset({1, 2, 3}): "1 or more",
    frozenset({0, 1, 2, 3}): "0 or more",
}
NAMED: dict[Fault, str] = {
    "receiver crash": "the receiver's process",
    "sender crash": "the sender's process",
    "connection cut": "the connection",
    "engine wipe": "the transport's data",
}


def rows() -> list[list[str]]:
    """Return the cells of the page's table of faults, without its head."""
    text = PAGE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_promises_under_each_fault_what_the_model_derives():
    faults: list[frozenset[Fault]] = [*(frozenset({fault}) for fault in FAULTS), frozenset(FAULTS)]

    derived = [
        [SAID[frozenset(effects_at_rest(mode, some))] for mode in (VOLATILE, QUEUED, JOURNALED)] for some in faults
    ]

    assert [row[1:] for row in rows()] == derived
    assert all(row[0].startswith(NAMED[fault]) for row, fault in zip(rows(), FAULTS, strict=False))
    assert rows()[-1][0].startswith("any mix")
