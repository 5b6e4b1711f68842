"""The direct path in memory: frames of one turn of the loop go over together, in the next.

A peer that does not listen is lost: whoever sent is told, with the frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.backends.memory.broker import Broker


class MemoryDirect:
    """One end of the direct path."""

    def __init__(self, broker: Broker, peer: str) -> None:
        self.peer = peer
        self._broker = broker
        self._is_open = False
        self._receive: Callable[[str, list[bytes]], None] | None = None
        self._lost: Callable[[str, list[bytes]], None] | None = None
        self._outgoing: dict[str, list[bytes]] = {}

    def listen(self, receive: Callable[[str, list[bytes]], None], lost: Callable[[str, list[bytes]], None]) -> None:
        """Say who takes what arrives; it is reachable as soon as the transport is open too.

        Raises:
            UsageError: it was said before.
        """
        if self._receive is not None:
            raise UsageError(f"somebody listens on the direct path of {self.peer!r} already")
        self._receive = receive
        self._lost = lost
        if self._is_open:
            self._broker.listeners[self.peer] = receive

    def send(self, peer: str, frame: bytes) -> None:
        """Hand a frame over in the next turn of the loop, together with all others of this one.

        Raises:
            UsageError: the transport is not open.
        """
        frames = self._outgoing.get(peer)
        if frames is not None:
            frames.append(frame)
            return
        if not self._is_open:
            raise UsageError("the transport is not open")
        self._outgoing[peer] = [frame]
        self._broker.stock.loop.call_soon(self._hand_over, peer)

    def open(self) -> None:
        """Be there for others."""
        self._is_open = True
        if self._receive is not None:
            self._broker.listeners[self.peer] = self._receive

    def close(self) -> None:
        """Be gone; what was sent in this turn still goes over."""
        self._is_open = False
        self._broker.listeners.pop(self.peer, None)

    def _hand_over(self, peer: str) -> None:
        frames = self._outgoing.pop(peer)
        receive = self._broker.listeners.get(peer)
        if receive is not None:
            receive(self.peer, frames)
        elif self._lost is not None and self._is_open:
            self._lost(peer, frames)
