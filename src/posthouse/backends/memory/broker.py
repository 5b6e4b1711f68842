"""What all users of one location name share, and for how long.

A broker belongs to one event loop, and goes by the clock of whoever opens it first. It keeps the list
of its users, the dead letters, and who listens; the rules stand in queue.py, intake.py and directory.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from posthouse.backends.memory.alarm import Alarms
from posthouse.backends.memory.directory import Directory
from posthouse.backends.memory.intake import admit, send_away
from posthouse.backends.memory.queue import Queue
from posthouse.backends.memory.stock import Stock
from posthouse.contracts.transport import DeadLetter, QueueInfo
from posthouse.errors import QueueUnknownError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthouse.clock import Clock, Seconds
    from posthouse.contracts.transport import QueueSpec, Rejected


class Broker:
    """One engine in memory.

    Args:
        name: its location name, for errors.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.dead: dict[int, DeadLetter] = {}
        self.listeners: dict[str, Callable[[str, list[bytes]], None]] = {}
        self._users: dict[object, str] = {}
        self._resets: dict[object, list[Callable[[], None]]] = {}
        self._stock: Stock | None = None
        self._directory: Directory | None = None

    # --- users ---------------------------------------------------------------------------------------

    def join(self, user: object, clock: Clock, *, resets: list[Callable[[], None]], peer: str = "") -> None:
        """Count a user in.

        Args:
            user: who.
            clock: what time it is, if this is the first user.
            resets: called when the broker was wiped.
            peer: where the user is reached directly; empty when it is not.

        Raises:
            UsageError: the broker is used in another event loop, or has a user of this peer name.
        """
        loop = asyncio.get_running_loop()
        if self._stock is not None and self._stock.loop.is_closed():
            self._users.clear()  # they ended with their loop, and never closed
            self._resets.clear()
            self._forget_all()
        if self._stock is None:
            alarms = Alarms(loop, clock)
            self._stock, self._directory = Stock(alarms), Directory(alarms)
        elif self._stock.loop is not loop:
            raise UsageError(f"'memory:{self.name}' is open in another event loop; each loop needs a name of its own")
        if peer and peer in self._users.values():
            raise UsageError(f"'memory:{self.name}' is already open as peer {peer!r}")
        self._users[user] = peer
        self._resets[user] = resets

    def quit(self, user: object) -> None:
        """Count a user out; the last one takes everything along."""
        self._users.pop(user, None)
        self._resets.pop(user, None)
        if not self._users:
            self._forget_all()

    def wipe(self) -> None:
        """Lose all that it holds, as an engine does whose data is deleted under its users; they are told at once.

        For tests: nothing else wipes a broker.
        """
        stock = self.stock
        gone = UnavailableError("the broker was wiped, with all that it held")
        for queue in list(stock.queues.values()):
            send_away(queue, lambda _: True, gone)
        for name in list(stock.queues):
            self.delete(name)
        self.dead.clear()
        self.directory.wipe()
        for resets in list(self._resets.values()):
            for tell in resets:
                tell()

    @property
    def stock(self) -> Stock:
        """What it holds; there while anybody has it open."""
        if self._stock is None:
            raise UsageError(f"'memory:{self.name}' is not open")
        return self._stock

    @property
    def directory(self) -> Directory:
        """What it knows of services; there while anybody has it open."""
        if self._directory is None:
            raise UsageError(f"'memory:{self.name}' is not open")
        return self._directory

    def _forget_all(self) -> None:
        if self._stock is not None:
            self._stock.alarms.close()
        self.dead.clear()
        self.listeners.clear()
        self._stock = None
        self._directory = None

    # --- queues --------------------------------------------------------------------------------------

    def declare(self, spec: QueueSpec, *, by: str) -> None:
        """Make a queue, or bring its limits up to date."""
        stock = self.stock
        queue = stock.queues.get(spec.name)
        if queue is None:
            stock.queues[spec.name] = Queue(spec, stock.alarms, by)
        else:
            queue.spec = spec
            queue.declared_by = by
            admit(stock, queue)

    def delete(self, name: str) -> None:
        """Remove a queue with all that it holds, and its bindings."""
        stock = self.stock
        queue = stock.queues.pop(name, None)
        if queue is None:
            return
        for topic in [topic for topic, bound in stock.bindings.items() if name in bound]:
            stock.unbind(topic, name)
        gone = QueueUnknownError(f"the queue {name!r} was deleted")
        queue.close(gone)
        send_away(queue, lambda _: True, gone)

    def infos(self, *, lease: Seconds) -> list[QueueInfo]:
        """Return what every queue holds, by name."""
        dead = Counter(letter.queue for letter in self.dead.values())
        queues = self.stock.queues
        return [queues[name].info(dead=dead[name], lease=lease) for name in sorted(queues)]

    # --- dead letters --------------------------------------------------------------------------------

    def bury(self, queue: Queue, tag: int, outcome: Rejected) -> None:
        """Make a dead letter of a delivery whose lease is good."""
        stored = queue.held_by(tag)
        if stored is None:
            return
        number = self.stock.next_numbers(1)
        self.dead[number] = DeadLetter(
            id=str(number),
            queue=queue.spec.name,
            frame=stored.frame,
            outcome=outcome,
            attempts=stored.attempts,
            at=self.stock.clock.now(),
        )
        queue.finish(tag)

    def letters(self, *, queue: str, after: str, limit: int) -> list[DeadLetter]:
        """Return dead letters, oldest first."""
        behind = _number(after) if after else 0
        meant = (
            letter for number, letter in self.dead.items() if number > behind and (not queue or letter.queue == queue)
        )
        return list(islice(meant, limit))

    def replay(self, ids: Sequence[str]) -> list[str]:
        """Put dead letters back as new messages, all of them that are there or none; capacity does not count.

        Raises:
            QueueUnknownError: the queue of one is gone.
        """
        stock = self.stock
        found = self._found(ids)
        queues = [stock.queue(self.dead[number].queue) for number in found]
        now = stock.clock.now()
        for number, queue in zip(found, queues, strict=True):
            queue.put(stock.next_numbers(1), self.dead.pop(number).frame, now)
            queue.wake()
        return [str(number) for number in found]

    def drop(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters."""
        found = self._found(ids)
        for number in found:
            del self.dead[number]
        return [str(number) for number in found]

    def _found(self, ids: Sequence[str]) -> list[int]:
        return [number for number in dict.fromkeys(map(_number, ids)) if number in self.dead]


_brokers: Final[WeakValueDictionary[str, Broker]] = WeakValueDictionary()


def broker_named(name: str) -> Broker:
    """Return the broker of this name; it lives for as long as anybody refers to it."""
    broker = _brokers.get(name)
    if broker is None:
        broker = _brokers[name] = Broker(name)
    return broker


def _number(id: str) -> int:
    return int(id) if id.isascii() and id.isdigit() else -1
