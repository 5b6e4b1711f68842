"""The write slot of a database in memory: one holder at a time, and whoever waits longest is next."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future


class Slot:
    """Who holds it and who waits for it is told apart by tokens, so that the dead can be taken out.

    Attributes:
        holder: the token of the one who holds it.
    """

    def __init__(self) -> None:
        self.holder: object = None
        self._waiting: deque[tuple[object, Future[None]]] = deque()

    def enter(self, token: object) -> bool:
        """Take it if it is free; then nobody waits, as who does is handed it."""
        if self.holder is not None:
            return False
        self.holder = token
        return True

    async def wait(self, token: object) -> None:
        """Wait for it; who is canceled has to leave it, as it may have been handed over in this very moment."""
        waiter: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((token, waiter))
        await waiter

    def leave(self, token: object) -> None:
        """Hand it to the next one, if this one holds it."""
        if self.holder is not token:
            return
        self.holder = None
        while self._waiting and self.holder is None:
            following, waiter = self._waiting.popleft()
            if not waiter.done():
                self.holder = following
                waiter.set_result(None)

    def forget(self, token: object) -> None:
        """Take one out who is dead: it waits no more, and holds nothing."""
        self._waiting = deque((other, waiter) for other, waiter in self._waiting if other is not token)
        self.leave(token)
