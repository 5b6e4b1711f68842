"""The table of modes, derived: how many effects one message may have under each fault."""

from __future__ import annotations

import pytest

from tests.model.modes import FAULTS, JOURNALED, OUTBOX, QUEUED, VOLATILE, Fault, Mode, effects_at_rest

ONCE = {1}
AT_MOST_ONCE = {0, 1}
ONCE_OR_MORE = {1, 2, 3}
ANY = {0, 1, 2, 3}

TABLE: list[tuple[Mode, list[set[int]]]] = [
    # no fault, receiver crash, sender crash, connection cut, engine wipe, all
    (VOLATILE, [ONCE, AT_MOST_ONCE, AT_MOST_ONCE, AT_MOST_ONCE, AT_MOST_ONCE, AT_MOST_ONCE]),
    (QUEUED, [ONCE_OR_MORE, ONCE_OR_MORE, ANY, ONCE_OR_MORE, ANY, ANY]),
    (OUTBOX, [ONCE, ONCE, ONCE, ONCE, AT_MOST_ONCE, AT_MOST_ONCE]),
    (JOURNALED, [ONCE, ONCE, ONCE, ONCE, ONCE, ONCE]),
]


@pytest.mark.parametrize(("mode", "row"), TABLE, ids=[mode.name for mode, _ in TABLE])
def test_a_message_at_rest_has_had_as_many_effects_as_its_mode_promises(mode: Mode, row: list[set[int]]) -> None:
    columns: list[frozenset[Fault]] = [frozenset(), *(frozenset({fault}) for fault in FAULTS), frozenset(FAULTS)]

    assert [effects_at_rest(mode, faults) for faults in columns] == row
