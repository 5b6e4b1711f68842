"""Is somebody else at work on this machine? A run that was disturbed is no measurement.

Twice a second all processes are looked at; one that is not a descendant of ours and uses more than a
fifth of a core disturbs. Linux only: elsewhere nobody is seen, and the table says so.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")

SHARE = 0.2
"""The share of one core from which on a process disturbs."""
EVERY = 0.5
"""Seconds between two looks."""

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


class _Process(NamedTuple):
    parent: int
    used: float
    name: str


def processes() -> dict[int, _Process]:
    """Return all processes by their ids, with the seconds of CPU that each has used."""
    found: dict[int, _Process] = {}
    for entry in os.listdir(_PROC) if _PROC.is_dir() else []:
        if entry.isdigit():
            try:
                text = (_PROC / entry / "stat").read_text(errors="replace")
            except OSError:  # it has ended meanwhile
                continue
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            found[int(entry)] = _Process(int(rest[1]), (int(rest[11]) + int(rest[12])) / _TICKS, name)
    return found


def _strangers(before: dict[int, _Process], after: dict[int, _Process], seconds: float) -> set[str]:
    busy: set[str] = set()
    for pid, process in after.items():
        earlier = before.get(pid)
        if process.used - (earlier.used if earlier else 0.0) > SHARE * seconds and not _is_ours(pid, after):
            busy.add(process.name)
    return busy


def _is_ours(pid: int, all_of_them: dict[int, _Process]) -> bool:
    while pid in all_of_them:
        if pid == os.getpid():
            return True
        pid = all_of_them[pid].parent
    return False


class Guard:
    """Waits for a quiet machine before each run, and repeats a run that was disturbed.

    Args:
        patience: seconds to wait for quiet before each run; 0 does not look at all.
        tries: how often a run is tried before a disturbed one is kept, and marked.
    """

    def __init__(self, patience: float, tries: int) -> None:
        self._patience = patience
        self._tries = max(1, tries)
        self._busy: set[str] = set()
        self._quiet_since = time.monotonic()
        if patience > 0:
            threading.Thread(target=self._look, daemon=True, name="guard").start()

    def measure(self, once: Callable[[], _T]) -> tuple[_T, bool]:
        """Return what `once` returned, and whether somebody disturbed it."""
        tries = self._tries
        while True:
            self._settle()
            self._busy.clear()
            result = once()
            tries -= 1
            if not self._busy or not tries:
                return result, bool(self._busy)
            print(f"    disturbed by {', '.join(sorted(self._busy))}: once more", file=sys.stderr, flush=True)

    def _settle(self) -> None:
        end = time.monotonic() + self._patience
        while time.monotonic() < end and time.monotonic() - self._quiet_since < 2 * EVERY:
            time.sleep(EVERY / 5)

    def _look(self) -> None:
        before, then = processes(), time.monotonic()
        while True:
            time.sleep(EVERY)
            after, now = processes(), time.monotonic()
            if strangers := _strangers(before, after, now - then):
                self._busy |= strangers
                self._quiet_since = now
            before, then = after, now
