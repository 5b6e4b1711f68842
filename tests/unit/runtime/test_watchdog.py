"""The watchdog ends a process whose loop stands still, and no other."""

from __future__ import annotations

import logging
import sys
import time
from threading import Event
from types import ModuleType
from typing import Any

import pytest

from posthouse.runtime.watchdog import Watchdog

pytestmark = pytest.mark.anyio

PULSE = 0.01
LONG = 30.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Let time pass: the watchdog is a thread."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look like a program of its own: pytest has pdb at hand."""
    monkeypatch.delitem(sys.modules, "pdb", raising=False)


def ends(turned: list[bool], *, looks: int) -> int:
    """Return how often a process is ended when its loop has turned, or not, before each look.

    Args:
        turned: for each look, whether the loop has turned since the last one.
        looks: after so many without a turn it is ended.
    """
    ended: list[None] = []
    watchdog: Any = Watchdog(limit=float(looks), end=lambda: ended.append(None), pulse=1.0)
    pulses = iter(turned)

    class Looks:
        def wait(self, _pulse: float) -> bool:
            has_turned = next(pulses, None)
            watchdog._turns += has_turned is True
            return has_turned is None

    watchdog._over = Looks()
    watchdog._watch()
    return len(ended)


async def test_a_loop_that_stands_still_is_ended_with_a_word(caplog: pytest.LogCaptureFixture):
    ended = Event()

    with caplog.at_level(logging.CRITICAL, "posthouse"), Watchdog(limit=2 * PULSE, end=ended.set, pulse=PULSE):
        end = time.monotonic() + LONG
        while not ended.is_set() and time.monotonic() < end:  # as a handler that never awaits
            pass

    assert ended.is_set()
    assert "the loop of process" in caplog.text


@pytest.mark.parametrize(
    ("turned", "times"),
    [
        ([True, False, True, False, True, False], 0),
        ([True, False, False, True], 1),
        ([True, False, False, False, False, False], 1),
        ([True] * 9, 0),
    ],
)
def test_so_many_looks_in_a_row_without_a_turn_are_the_end_and_there_is_one(turned: list[bool], times: int):
    assert ends(turned, looks=2) == times


@pytest.mark.parametrize("debugger", ["pdb", "pydevd"])
def test_where_a_debugger_is_loaded_nothing_is_ended(debugger: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, debugger, ModuleType(debugger))

    assert ends([False] * 9, looks=2) == 0


async def test_after_the_block_nobody_watches():
    ended: list[None] = []
    watchdog = Watchdog(limit=PULSE, end=lambda: ended.append(None), pulse=PULSE)

    with watchdog:
        pass
    watchdog._thread.join(LONG)  # the loop does not turn

    assert not watchdog._thread.is_alive()
    assert ended == []
