"""Ends a process whose loop does not turn any more, so that another one takes its place.

A handler that never gives the loop back (an endless loop, a call that blocks for ever) stops everything in its
process: leases end, peers take over what it had claimed, and it would hold its memory and its place in the system
for ever. Who started it starts another one, as after any crash. What it does not see is code that holds the
interpreter's lock and never lets go: then no thread of Python runs.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from posthouse.clock import Seconds

_log: Final = logging.getLogger("posthouse")

PULSE: Final[Seconds] = 1.0
"""How often the loop shows that it turns, and how often that is looked for."""

LIMIT: Final[Seconds] = 15.0
"""The lease of a journal: an instance that has been silent for so long is dead to the others."""

STUCK: Final = 70
"""The exit status; that of sysexits.h for an internal error."""

_DEBUGGERS: Final = ("pdb", "pydevd")


class Watchdog:
    """Watches the running loop for as long as it is entered.

    It counts its own looks and no time: a process that was stopped for a while (Ctrl-Z, a machine that slept) has
    looked as seldom as its loop has turned.

    Args:
        limit: how long the loop may stand still.
        end: ends the process.
        pulse: how often is looked.
    """

    def __init__(self, *, limit: Seconds, end: Callable[[], object] | None = None, pulse: Seconds = PULSE) -> None:
        self._looks = max(1, round(limit / pulse))
        self._limit = limit
        self._end = end or end_process
        self._pulse = pulse
        self._turns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._over = Event()
        self._thread = Thread(target=self._watch, name="posthouse watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._turn(asyncio.get_running_loop())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns += 1
        self._timer = loop.call_later(self._pulse, self._turn, loop)

    def _watch(self) -> None:
        seen, missed = 0, 0
        while not self._over.wait(self._pulse):
            missed = 0 if self._turns != seen else missed + 1
            seen = self._turns
            if missed >= self._looks and not any(name in sys.modules for name in _DEBUGGERS):
                _log.critical(
                    "the loop of process %d has stood still for %.0f s: it is ended here, and what it ran comes again;"
                    " the traceback shows what does not give the loop back",
                    os.getpid(),
                    self._limit,
                )
                self._end()
                return


def end_process() -> None:
    """Show where each thread stands, and end at once: nothing in here can be trusted to end in order."""
    faulthandler.dump_traceback(file=2)
    os._exit(STUCK)
