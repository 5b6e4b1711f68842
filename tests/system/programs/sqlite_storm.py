"""One process in a storm on one SQLite file: random operations until its time is up or it is killed.

What is certain goes to a log at once: `sent` after a confirmation, `trying` before and `settled` after a settling,
`lost` when a delivery was not ours any more, `wrong` for what must not happen.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posthouse.backends.sqlite import Database, SqliteTransport, settling
from posthouse.clock import SystemClock
from posthouse.contracts.transport import ACCEPTED, Delivery, Outcome, Outgoing, QueueSpec, Rejected, Released
from posthouse.errors import PosthouseError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Coroutine

QUEUES = ["a", "b", "c"]
REJECTED = Rejected("parked", "code", "reason")


class Life:
    """All that this process does.

    Args:
        directory: the data directory.
        peer: who we are.
        seed: of the chance.
        length: how long, in seconds.
    """

    def __init__(self, directory: Path, peer: str, seed: int, length: float) -> None:
        self.rng = random.Random(seed)
        self.peer = peer
        self.log = os.open(directory.parent / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        clock = SystemClock()
        database = Database(directory, clock=clock, slow_flush=self.rng.choice([0.0, 1000.0]))
        self.transport = SqliteTransport(database, peer=peer, clock=clock, overflow_wait=0.2)
        self.now = clock.now
        self.end = clock.now() + length
        self.sent = 0
        self.closing = False
        self.kept: list[Delivery] = []  # settled much later than the others of their lease

    def tell(self, word: str, *entries: str) -> None:
        """Write a line for each entry."""
        if entries:
            os.write(self.log, "".join(f"{word} {entry}\n" for entry in entries).encode())

    async def run(self) -> None:
        """Do it all, and close: in the middle of it, or after it."""
        asyncio.get_running_loop().set_exception_handler(self.went_wrong)
        await self.transport.open()
        await self.transport.declare(
            QueueSpec("a"), QueueSpec("b", capacity=60, overflow="wait"), QueueSpec("c", capacity=50)
        )
        for queue in "a", "b":
            await self.transport.bind("topic", queue)
        works: list[Coroutine[Any, Any, None]] = [self.sending(), self.operating(), *(self.receiving() for _ in "123")]
        tasks = [asyncio.create_task(work) for work in works]
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.random() * (self.end - self.now()))
        else:
            await asyncio.wait(tasks)
        self.closing = True
        await self.transport.close()
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, PosthouseError):
                self.tell("wrong", repr(result))

    def went_wrong(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Tell of what no task was told; once we close, calls may be refused."""
        if not (self.closing and isinstance(context.get("exception"), PosthouseError)):
            self.tell("wrong", repr(context).replace("\n", " "))

    async def sending(self) -> None:
        """Send, one or many, to queues and to a topic; sometimes without waiting for the end."""
        while self.now() < self.end:
            messages: list[Outgoing] = []
            for _ in range(self.rng.choice([1, 1, 1, 3, 20])):
                self.sent += 1
                topic = self.rng.random() < 0.15
                address = "topic" if topic else self.rng.choice(QUEUES)
                messages.append(Outgoing(address, f"{self.peer}.{self.sent}".encode(), topic))
            wait = asyncio.ensure_future(self.transport.send(messages))
            if self.rng.random() < 0.05:
                wait.cancel()
                continue
            try:
                await wait
            except QueueFullError:
                continue
            self.tell("sent", *(f"{message.address} {message.frame.decode()}" for message in messages))
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.random() * 0.01)

    async def receiving(self) -> None:
        """Receive, cancel some of it, renew some of it, and settle it in pieces with all outcomes."""
        while self.now() < self.end:
            queue, credit = self.rng.choice(QUEUES), self.rng.choice([1, 5, 40])
            call = asyncio.ensure_future(self.transport.receive(queue, credit=credit, wait=self.rng.choice([0, 0.05])))
            if self.rng.random() < 0.1:
                await asyncio.sleep(self.rng.choice([0, 0.001]))
                call.cancel()
            await asyncio.wait([call])
            if call.cancelled():
                continue
            rest = call.result()
            self.rng.shuffle(rest)
            ends: list[asyncio.Task[None]] = []
            while rest:
                count = self.rng.randint(1, len(rest))
                some, rest = rest[:count], rest[count:]
                if self.rng.random() < 0.25:
                    renewed = self.rng.sample(some, self.rng.randint(0, count))
                    ends.append(asyncio.create_task(self.renew(renewed)))
                if self.rng.random() < 0.3:
                    await asyncio.sleep(self.rng.random() * 0.004)
                outcomes = [(delivery, self.outcome()) for delivery in some]
                self.kept += [delivery for delivery, outcome in outcomes if outcome is None]
                ends.append(asyncio.create_task(self.settle([(d, outcome) for d, outcome in outcomes if outcome])))
            if len(self.kept) > 20:
                kept, self.kept = self.kept, []
                ends.append(asyncio.create_task(self.settle([(delivery, ACCEPTED) for delivery in kept])))
            await asyncio.gather(*ends)

    def outcome(self) -> Outcome | None:
        """Return what becomes of a delivery; None for later."""
        late = Released(after=self.rng.random() * 0.05)
        [outcome] = self.rng.choices([ACCEPTED, late, REJECTED, Released(untouched=True), None], [80, 10, 3, 4, 3])
        return outcome

    async def renew(self, deliveries: list[Delivery]) -> None:
        """Renew; all leases of this storm are fresh."""
        self.tell("lost", *(delivery.frame.decode() for delivery in await self.transport.renew(deliveries)))

    async def settle(self, outcomes: list[tuple[Delivery, Outcome]]) -> None:
        """Settle."""
        ends = [f"{d.queue} {d.frame.decode()}" for d, outcome in outcomes if not isinstance(outcome, Released)]
        accepted = [f"{d.queue} {d.frame.decode()}" for d, outcome in outcomes if outcome is ACCEPTED]
        self.tell("trying", *ends)
        lost = await self.transport.settle(outcomes)
        self.tell("lost", *(delivery.frame.decode() for delivery in lost))
        if not lost:
            self.tell("accepted", *accepted)

    async def operating(self) -> None:
        """Look at all, and put dead letters back."""
        while self.now() < self.end:
            await asyncio.sleep(0.05)
            letters = await self.transport.dead(limit=5)
            await self.transport.replay([letter.id for letter in letters])
            await self.transport.queues()
            await self.transport.peek(self.rng.choice(QUEUES))


if __name__ == "__main__":
    if sys.argv[5:] == ["ends-early"]:  # the planted fault: a lease ends before all that it holds
        settling.END = "DELETE FROM leases WHERE first = ?"  # pyright: ignore
    life = Life(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    asyncio.run(asyncio.wait_for(life.run(), float(sys.argv[4]) + 20.0))
