"""Steps that are due until they are done: what the replier's side must do, and nobody else does."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from posthouse.contracts.flushing import NotFlushedError
from posthouse.errors import UnavailableError
from posthouse.flow.backoff import full_jitter

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from posthouse.contracts.store import Books, Store
    from posthouse.runtime.timers import Timers

T = TypeVar("T")

_log: Final = logging.getLogger("posthouse.journal")


class Duties:
    """Runs steps on a store, and knows how many are under way.

    Attributes:
        under_way: how many.
        repeats: what fails is tried again; not after the end of a drain has begun.
        on_not_flushed: a step's outcome is not known; what it claimed may be ours.
    """

    def __init__(self, store: Store, *, service: str, timers: Timers, rng: Random) -> None:
        self.under_way = 0
        self.repeats = True
        self.on_not_flushed: Callable[[], None] = _nobody_minds
        self._store = store
        self._service = service
        self._timers = timers
        self._rng = rng
        self._idle = asyncio.Event()

    def count(self, change: int) -> None:
        """Count steps that are run elsewhere, and are waited for with these."""
        self.under_way += change
        if not self.under_way:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until the next time that nothing is under way."""
        self._idle.clear()
        await self._idle.wait()

    def run(
        self,
        step: Callable[[Books], T],
        then: Callable[[T], object],
        *,
        name: str,
        flush: bool = False,
        weight: int = 1,
        failed: Callable[[], None] | None = None,
        refused: Callable[[BaseException], None] | None = None,
        failures: int = 0,
    ) -> None:
        """Run a step until it succeeds: what it does is due, and nobody else does it.

        Args:
            step: what to do.
            then: is given what it returned.
            name: of the step.
            flush: something leaves because of it.
            weight: how many rows it is about.
            failed: is called instead of another try.
            refused: the same, where it is not the store that failed, so that another try would fail as well.
            failures: how often it has failed.
        """
        self.count(1)

        def over(done: asyncio.Future[T]) -> None:
            try:
                if done.cancelled():
                    return
                error = done.exception()
                if error is None:
                    then(done.result())
                elif refused is not None and not isinstance(error, UnavailableError):
                    refused(error)
                elif failed is not None:
                    _log.warning("%s: %s", self._service, error)
                    failed()
                else:
                    hold_off = full_jitter(failures + 1, base=0.1, cap=5.0, rng=self._rng)
                    _log.warning("the store of %s could not be used: %s", self._service, error)
                    if self.repeats:
                        self._timers.call_later(hold_off, retry)
                        if isinstance(error, NotFlushedError):
                            self.on_not_flushed()
            finally:
                self.count(-1)

        def retry() -> None:
            self.run(step, then, name=name, flush=flush, weight=weight, refused=refused, failures=failures + 1)

        self._store.commit(step, name=name, flush=flush, weight=weight).add_done_callback(over)


def _nobody_minds() -> None:
    """Nobody has to know."""
