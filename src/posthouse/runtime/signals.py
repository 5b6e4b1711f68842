"""SIGINT and SIGTERM: the first asks to end in order, the second means now."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Takes the two signals for as long as it is entered.

    Attributes:
        asked: set by the first of them.
        hurry: called by each further one.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.add_signal_handler(each, self._take, each)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.remove_signal_handler(each)

    async def unless_asked(self, work: Coroutine[Any, Any, object]) -> bool:
        """Do some work, or drop it when asked to end; return whether it was done."""
        working = asyncio.create_task(work)
        asked = asyncio.create_task(self.asked.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            done = working.done()
            working.cancel()
            asked.cancel()
            await asyncio.gather(working, asked, return_exceptions=True)
        if done:
            working.result()
        return done

    def _take(self, which: signal.Signals) -> None:
        if which is signal.SIGINT and sys.stderr.isatty():
            sys.stderr.write("\n")  # the terminal has echoed ^C: what comes next begins a line
        if not self.asked.is_set():
            self.asked.set()
        elif self.hurry is not None:
            self.hurry()
