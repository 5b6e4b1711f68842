"""The queues of an engine, what is bound to what, and the numbers that order everything.

State, and nothing that waits or judges: intake.py says what may come in, broker.py who shares it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.errors import QueueUnknownError

if TYPE_CHECKING:
    from posthouse.backends.memory.alarm import Alarms
    from posthouse.backends.memory.queue import Queue


class Stock:
    """What one engine holds.

    Args:
        alarms: the loop and the clock that it goes by.
    """

    __slots__ = ("alarms", "bindings", "clock", "loop", "numbers", "queues")

    def __init__(self, alarms: Alarms) -> None:
        self.alarms = alarms
        self.clock = alarms.clock
        self.loop = alarms.loop
        self.numbers = 0
        self.queues: dict[str, Queue] = {}
        self.bindings: dict[str, dict[str, None]] = {}  # dicts, not sets: they keep the order

    def queue(self, name: str) -> Queue:
        """Return a queue.

        Raises:
            QueueUnknownError: nobody declared it.
        """
        try:
            return self.queues[name]
        except KeyError:
            raise QueueUnknownError(f"nobody declared the queue {name!r}") from None

    def next_numbers(self, count: int) -> int:
        """Return the first of so many numbers that nobody else is given."""
        first = self.numbers + 1
        self.numbers += count
        return first

    def bind(self, topic: str, queue: str) -> None:
        """Let a queue have what is sent to a topic."""
        self.queue(queue)
        self.bindings.setdefault(topic, {})[queue] = None

    def unbind(self, topic: str, queue: str) -> None:
        """Let it have that no longer."""
        bound = self.bindings.get(topic, {})
        bound.pop(queue, None)
        if not bound:
            self.bindings.pop(topic, None)
