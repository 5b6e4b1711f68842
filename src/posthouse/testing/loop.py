"""A loop in which nothing takes time: when nobody has anything to do, the next timer is due at once.

So an hour passes in a moment, the same program takes the same steps in each run, and one that waits
for what can never come is told so, instead of hanging. Threads, sockets and child processes are
outside of it: their time is real. What chance there is comes from seeds (see runtime/seams.py).
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, Final, TypeVar

from posthouse.testing.clock import NOON

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from contextvars import Context

    from posthouse.clock import Instant, Seconds

_T = TypeVar("_T")

TICK: Final[Seconds] = 1e-6
"""The least by which time goes on; a timer that asks for less must not stand still for ever."""


class StuckError(RuntimeError):
    """Everybody waits for somebody else: no timer is set, and nothing is ready."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer, and never passes otherwise."""

    def __init__(self) -> None:
        self._passed: Seconds = 0.0
        super().__init__(_Impatient(self))
        self._clock_resolution = TICK  # asyncio's own: a timer this near is due

    def time(self) -> Seconds:
        """Return the seconds that have passed in here."""
        return self._passed

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at a time; never in this very moment, or who asks again and again would stop time."""
        return super().call_at(max(when, self._passed + 2 * TICK), callback, *args, context=context)

    def let_pass(self, wait: Seconds) -> None:
        """Go forward in time."""
        self._passed += max(wait, TICK)


class LoopClock:
    """A clock that goes with the loop: at its beginning it is `start`.

    Args:
        loop: whose time counts; the running one when None.
        start: the first instant.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, start: Instant = NOON) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._start = start

    def now(self) -> Instant:
        """Return the present moment."""
        return self._start + self._loop.time()


def simulate(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end in a loop of this kind, and return its result.

    Raises:
        StuckError: it waits for what can never come.
    """
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


class _Impatient(selectors.BaseSelector):
    """Looks at what is ready, and lets time pass instead of waiting for more."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._inner = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise StuckError("everybody waits, no timer is set, and nothing outside this loop is simulated")
        self._loop.let_pass(timeout)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def close(self) -> None:
        self._inner.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()
