"""Runs a batch handler: many messages, one run.

A batch begins when it is full, or when its first message has waited for `linger`. When it fails,
each of its messages is run by itself, so that only the one that is at fault fails. The context of a
batch is that of its first message.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from posthouse.protocol.settlement import Failed
from posthouse.runtime.runner import UNFIT, Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from posthouse.declare.target import Target
    from posthouse.runtime.ending import Ends
    from posthouse.runtime.workplace import Turn, Work, Workplace


class BatchRunner(Runner):
    """Runs one batch handler of a service in this process."""

    def __init__(
        self,
        place: Workplace,
        target: Target,
        decode: Callable[[bytes], Any],
        *,
        queued: bool,
        ending: Ends | None = None,
    ) -> None:
        super().__init__(place, target, decode, queued=queued, ending=ending)
        self._size = target.batch
        self._linger = target.linger
        self._lingering: asyncio.TimerHandle | None = None
        self._waited = False

    def take(self, works: Iterable[Work]) -> None:
        """Put work behind what waits already."""
        super().take(works)
        self._wait_for_more()

    def close(self) -> None:
        """Stop the timers."""
        super().close()
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def _due(self) -> bool:
        return bool(self._backlog) and (self._waited or len(self._backlog) >= self._size)

    def _next(self) -> Sequence[Work]:
        self._waited = False
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        works = [self._backlog.popleft() for _ in range(min(self._size, len(self._backlog)))]
        self._wait_for_more()
        return works

    def _cost(self) -> int:
        return min(self._size, len(self._backlog))

    def _wait_for_more(self) -> None:
        if self._backlog and self._lingering is None and not self._waited:
            self._lingering = self._loop.call_later(self._linger, self._has_waited)

    def _has_waited(self) -> None:
        self._lingering = None
        self._waited = True
        self.start()

    async def _handle(self, turn: Turn, works: Sequence[Work]) -> None:
        opened = [(work, data) for work in works if (data := self._open(work)) is not UNFIT]
        if not opened:
            return
        run = await self._attempt(turn, opened[0][0], [data for _work, data in opened])
        if isinstance(run.end, Failed) and len(opened) > 1:
            if run.attempt is not None:
                run.attempt.abandon()
            await self._one_by_one(turn, opened)
            return
        works = [work for work, _data in opened]
        self._end(works, run)
        if turn.thread is not None:
            self._let_go(turn, works)
            await self._wait_for_thread(turn)

    async def _one_by_one(self, turn: Turn, opened: list[tuple[Work, Any]]) -> None:
        await self._wait_for_thread(turn)
        for work, data in opened:
            run = await self._attempt(turn, work, [data])
            self._end([work], run)
            self._let_go(turn, [work])
            await self._wait_for_thread(turn)
            await asyncio.sleep(0)
