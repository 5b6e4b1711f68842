"""Two services on one broker in memory, all of whose chance comes from a seed; and the trace that they leave.

The trace says what went through every transport and which handler ran, at what virtual time. The
same seed must give the same trace, in this process and in any other. Run as a program, it prints
the digest of the trace of a seed and a mode.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from typing import TYPE_CHECKING, Any
from zlib import crc32

from msgspec import Struct

from posthouse import Context, PosthouseError, Reject, Service
from posthouse.message.codec import decode
from posthouse.runtime.host import Host
from posthouse.runtime.seams import Seams, seeded_seams
from posthouse.runtime.settings import Settings
from posthouse.testing.faulty import FaultyTransport
from posthouse.testing.loop import LoopClock, simulate
from tests.house import journals_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from random import Random

    from posthouse.contracts.store import Books
    from posthouse.contracts.transport import Delivery, Outcome, Outgoing, Transport


class Order(Struct):
    number: int


class Trace:
    """What happened, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._loop = asyncio.get_running_loop()

    def add(self, *words: object) -> None:
        """Write a line, with the virtual time."""
        self.lines.append(" ".join([f"{self._loop.time():.6f}", *map(str, words)]))

    @property
    def digest(self) -> str:
        """What two traces have in common if they are the same."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


class Traced(FaultyTransport):
    """A transport that writes down what goes through it."""

    def __init__(self, inner: Transport, who: str, trace: Trace) -> None:
        super().__init__(inner)
        self._who = who
        self._trace = trace
        self.direct = _TracedDirect(inner.direct, who, trace)

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these."""
        for each in messages:
            self._trace.add(self._who, "sends", each.address, decode(each.frame).id, crc32(each.frame))
        return super().send(messages)

    async def receive(self, queue: str, *, credit: int, wait: float = 0.0) -> list[Delivery]:
        """Take messages."""
        deliveries = await super().receive(queue, credit=credit, wait=wait)
        for each in deliveries:
            self._trace.add(self._who, "receives", queue, decode(each.frame).id, each.attempt)
        return deliveries

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries."""
        for delivery, outcome in outcomes:
            shown = getattr(outcome, "after", ""), getattr(outcome, "reason", "")
            self._trace.add(self._who, "settles", decode(delivery.frame).id, type(outcome).__name__, *shown)
        return super().settle(outcomes)


class _TracedDirect:
    def __init__(self, inner: Any, who: str, trace: Trace) -> None:
        self.peer = inner.peer
        self.listen = inner.listen
        self._inner = inner
        self._who = who
        self._trace = trace

    def send(self, peer: str, frame: bytes) -> None:
        message = decode(frame)
        self._trace.add(self._who, "tells", peer, message.kind.name, message.type, message.id, crc32(frame))
        self._inner.send(peer, frame)


def services_of(rng: Random, trace: Trace, mode: Any) -> tuple[Service, Service, list[Any]]:
    """Return two services that call each other, fail, wait and take too long, by the dice that they are given."""
    shop, prices = Service("shop", concurrency=4), Service("prices", concurrency=3)
    quoted = prices.event("quoted", Order)

    @prices.handler(backoff="100ms..5s", timeout="3s", attempts=4, mode=mode)
    async def quote(order: Order, ctx: Context) -> int:
        trace.add("runs quote", ctx.id, ctx.attempt)
        await asyncio.sleep(rng.choice([0, 0.01, 0.5, 9]))  # the last one takes too long
        await ctx.publish(quoted, order)
        if rng.random() < 0.3:
            raise ValueError(order.number)
        if rng.random() < 0.1:
            raise Reject("sold out")
        return order.number

    @prices.handler(mode="volatile", timeout="3s")
    async def look(order: Order, ctx: Context) -> int:
        trace.add("runs look", ctx.id)
        await asyncio.sleep(rng.random())
        return order.number

    @shop.handler(attempts=2, mode=mode)
    async def buy(order: Order, ctx: Context) -> int:
        trace.add("runs buy", ctx.id, ctx.attempt)
        numbers = await asyncio.gather(ctx.call(look, order), ctx.call(quote, order, timeout="20s"))
        await ctx.send(pack, order)
        return sum(numbers)

    @shop.handler(batch=5, linger="200ms", attempts=3, mode=mode)
    async def pack(orders: list[Order], ctx: Context) -> None:
        trace.add("runs pack", *(order.number for order in orders))
        if rng.random() < 0.3:
            raise ValueError("no box")

    @shop.on(quoted)
    async def hear(order: Order, ctx: Context) -> None:
        trace.add("runs hear", ctx.id, ctx.attempt)
        await asyncio.sleep(rng.random() * 0.1)

    return shop, prices, [buy, quote, pack]


async def scenario(seed: int, *, mode: str, seams: Callable[[int], Seams]) -> Trace:
    """Let the two services work, on three hosts, one of which is drained and replaced in the middle."""
    trace = Trace()
    dice = seams(seed).rng
    settings = Settings(env="test", transport="memory:simulation")

    def host(number: int) -> Host:
        made = Host(settings, seams=seams(seed * 1000 + number))
        traced: Any = Traced(made.transport, f"host {number}", trace)
        made.transport = traced
        return made

    async def ask(client: Any, number: int) -> None:
        await asyncio.sleep(dice.random() * 5)
        try:
            result: object = await client.call(buy, Order(number), timeout="60s")
        except PosthouseError as error:
            result = error.code
        trace.add("answer", number, result)

    async with host(1) as one, host(2) as two, host(3) as three:
        shop, prices, (buy, _quote, _pack) = services_of(dice, trace, mode)
        await one.serve(shop)
        await two.serve(prices)
        three.journals.allow("person")
        asking = asyncio.gather(*(ask(three.client("person"), number) for number in range(30)))
        await asyncio.sleep(3)
        await three.serve(services_of(dice, trace, mode)[1])
        await two.drain(grace=1)
        await asking
        await asyncio.sleep(60)
        for info in await one.transport.queues():
            trace.add("left in", info.spec.name, info.stored, info.dead)
        for each in (one, three):
            for journal in journals_of(each):
                trace.add("store", journal.here.service, *await journal.store.read(_left))
    return trace


def _left(books: Books) -> tuple[object, ...]:
    counts = books.counts()
    return counts.calls, counts.requests, counts.dead


def world(seed: int) -> Seams:
    """Return seams whose clock is the loop's."""
    return seeded_seams(seed, clock=LoopClock())


def trace_of(seed: int, *, mode: str = "journaled", seams: Callable[[int], Seams] = world) -> Trace:
    """Run the scenario with a seed, and return its trace."""
    return simulate(scenario(seed, mode=mode, seams=seams))


if __name__ == "__main__":
    print(trace_of(int(sys.argv[1]), mode=sys.argv[2]).digest)
