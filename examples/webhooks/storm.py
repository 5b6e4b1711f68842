"""The storm: kills the parts of a system at random moments, and once takes the transport away under all of them.

Which, when and how many at once follows from the seed; what they were doing just then is chance. Nobody
is spared: a part is killed again when all others have had their turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from random import Random

from system import System

PAUSE = (0.15, 1.3)
"""Seconds between two blows: at least, at most."""


class Storm:
    """Kills until it has killed often enough.

    Attributes:
        wipes: how often the transport was deleted.
    """

    def __init__(
        self, system: System, parts: Sequence[str], *, kills: int, rng: Random, tell: Callable[[str], object]
    ) -> None:
        self.wipes = 0
        self._system = system
        self._parts = parts
        self._wanted = kills
        self._rng = rng
        self._tell = tell
        self._left: list[str] = []
        self._over = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._rage, name="storm")

    def begin(self) -> None:
        """Begin to kill."""
        self._thread.start()

    def over(self) -> None:
        """Wait until it has blown over.

        Raises:
            RuntimeError: somebody could not be killed, because he was not there.
        """
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def calm(self) -> None:
        """End it."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _rage(self) -> None:
        try:
            while (killed := self._system.kills.total()) < self._wanted and not self._over.wait(
                self._rng.uniform(*PAUSE)
            ):
                if not self.wipes and killed * 2 >= self._wanted:
                    self.wipes += 1
                    self._system.wipe()
                    self._tell("transport.db is deleted, under everybody who uses it")
                    continue
                at_once = min(self._wanted - killed, self._rng.choice((1, 1, 1, 2, 2, 3)))
                for part in (self._next() for _ in range(at_once)):
                    self._tell(f"kill -9 {self._system.kill(part)}: {part}")
        except BaseException as error:
            self._failed = error

    def _next(self) -> str:
        if not self._left:
            self._left = self._rng.sample(self._parts, len(self._parts))
        return self._left.pop()
