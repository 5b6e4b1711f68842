"""The direct path between processes, at its worst: frames are lost, repeated, delayed and overtake each other.

In good weather the frames of one turn go over together in the next, as in the memory transport, and who cannot be
reached is said to be lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from posthouse.message.codec import decode
from posthouse.message.message import Kind
from tests.sim.processes import outside

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from posthouse.clock import Seconds
    from posthouse.message.message import Message
    from tests.sim.processes import Process
    from tests.sim.world import World


@dataclass(frozen=True)
class Weather:
    """How likely a frame is to suffer, from 0 to 1.

    Attributes:
        loss: it vanishes.
        twice: it comes again, once or twice.
        late: it takes up to `delay` seconds, and others overtake it.
        delay: the longest delay.
        window: frames are gathered until there are so many, and go on in any order; 0 for none.
        copies: how often each frame comes, if it is not lost.
        silent: nobody is told when a peer is not there.
    """

    loss: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    delay: Seconds = 2.0
    silent: bool = False
    window: int = 0
    copies: int = 1


GOOD = Weather()

WINDOW = 0.05
"""So many seconds a window stays open that is not full."""


class Network:
    """Carries direct frames between the processes of a world.

    Attributes:
        weather: how it is now.
        severed: pairs of services that cannot reach each other.
        kept: every frame that was sent, if somebody wants to replay them: (from, to, frame).
    """

    def __init__(self, world: World, rng: Random) -> None:
        self.weather = GOOD
        self.severed: set[frozenset[str]] = set()
        self.kept: list[tuple[Line, str, bytes]] | None = None
        self._world = world
        self._rng = rng
        self._lines: dict[str, Line] = {}
        self._window: list[tuple[Line, str, bytes]] = []
        self._batches: dict[tuple[str, str], tuple[Line, list[bytes]]] = {}

    def join(self, line: Line) -> None:
        """A peer is there."""
        self._lines[line.peer] = line

    def leave(self, line: Line) -> None:
        """It is not."""
        self._lines.pop(line.peer, None)

    def send(self, line: Line, to: str, frame: bytes) -> None:
        """Carry a frame, or what is left of it."""
        world, process = self._world, line.process
        message = decode(frame)
        said = said_by(message)
        world.point(process, f"sends {said}", "before")
        if process.is_dead:
            return
        world.watch_leaving(process, message)
        if self.kept is not None:
            self.kept.append((line, to, frame))
        delays = self._fate()
        world.trace(process, "tells", to, said, message.id, _number(message), *delays)
        for delay in delays:
            if self.weather.window:
                self._gather(line, to, frame)
            elif delay:
                self._later(delay, line, to, frame)
            else:
                self._soon(line, to, frame)
        world.point(process, f"sends {said}", "after")

    def replay(self, *, within: Seconds) -> None:
        """Carry all that was kept once more, from the first frame on, whatever has become of its sender."""
        kept, self.kept = self.kept or [], None
        for number, (line, to, frame) in enumerate(kept):
            self._later(within * number / len(kept), line, to, frame)

    def _fate(self) -> list[Seconds]:
        """Return after how long each copy of a frame arrives; an empty list loses it."""
        weather, rng = self.weather, self._rng
        if weather is GOOD:
            return [0.0]
        if rng.random() < weather.loss:
            return []
        copies = rng.choice((2, 3)) if rng.random() < weather.twice else weather.copies
        return [rng.uniform(0.0, weather.delay) if rng.random() < weather.late else 0.0 for _ in range(copies)]

    def _gather(self, line: Line, to: str, frame: bytes) -> None:
        if not self._window:
            asyncio.get_running_loop().call_later(WINDOW, self._shuffle, context=outside())
        self._window.append((line, to, frame))
        if len(self._window) >= self.weather.window:
            self._shuffle()

    def _shuffle(self) -> None:
        window, self._window = self._window, []
        self._rng.shuffle(window)
        for line, to, frame in window:
            self._soon(line, to, frame)

    def _soon(self, line: Line, to: str, frame: bytes) -> None:
        batch = self._batches.get((line.peer, to))
        if batch is not None:
            batch[1].append(frame)
            return
        self._batches[line.peer, to] = (line, [frame])
        asyncio.get_running_loop().call_soon(self._hand_over_batch, line.peer, to, context=outside())

    def _later(self, delay: Seconds, line: Line, to: str, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(delay, self._hand_over, line, to, [frame], context=outside())

    def _hand_over_batch(self, sender: str, to: str) -> None:
        line, frames = self._batches.pop((sender, to))
        self._hand_over(line, to, frames)

    def _hand_over(self, line: Line, to: str, frames: list[bytes]) -> None:
        target = self._lines.get(to)
        if target is None or target.process.is_dead or target.receive is None:
            if not self.weather.silent and not line.process.is_dead and line.lost is not None and not line.is_cut():
                line.process.run(line.lost, to, frames)
            return
        if line.is_cut() or target.is_cut() or self._is_severed(line, target):
            return
        said = {said_by(decode(frame)): None for frame in frames}
        for each in said:
            self._world.point(target.process, f"hears {each}", "before")
        if target.process.is_dead:
            return
        if target.process.is_frozen:  # it finds them when it goes on
            target.process.run(asyncio.get_running_loop().call_soon, target.receive, line.peer, frames)
            return
        target.process.run(target.receive, line.peer, frames)
        for each in said:
            self._world.point(target.process, f"hears {each}", "after")

    def _is_severed(self, one: Line, other: Line) -> bool:
        return frozenset({one.process.service, other.process.service}) in self.severed


class Line:
    """One process's end of the direct path.

    Attributes:
        peer: where it is reached.
        process: whose it is.
        is_cut: says whether the engine cannot be reached from here.
    """

    def __init__(self, network: Network, peer: str, process: Process, is_cut: Callable[[], bool]) -> None:
        self.peer = peer
        self.process = process
        self.is_cut = is_cut
        self.receive: Callable[[str, list[bytes]], None] | None = None
        self.lost: Callable[[str, list[bytes]], None] | None = None
        self._network = network

    def listen(self, receive: Callable[[str, list[bytes]], None], lost: Callable[[str, list[bytes]], None]) -> None:
        """Say who takes what arrives."""
        self.receive, self.lost = receive, lost

    def send(self, peer: str, frame: bytes) -> None:
        """Send a frame."""
        if not self.process.is_dead and not self.is_cut():
            self._network.send(self, peer, frame)


def said_by(message: Message) -> str:
    """Return what a frame is, in one word: request, reply, ack, or the word of a control message."""
    return message.type if message.kind is Kind.CONTROL else message.kind.name.lower()


def _number(message: Message) -> str:
    return "" if message.lane is None else f"{message.lane.number}^{message.lane.floor}"
