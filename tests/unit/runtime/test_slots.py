"""Who works when: limits are kept, who waits for a reply holds nothing, and nobody sees another's variables."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, FailedError, Service
from tests.house import House, unanswered, until

pytestmark = pytest.mark.anyio


class Step(Struct):
    depth: int = 0
    name: str = ""


class Gauge:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


# --- limits -------------------------------------------------------------------------------------------


async def test_no_more_handlers_of_a_service_work_at_once_than_it_says(house: House, any_mode: Any):
    prices = Service("prices", concurrency=3)
    gauge = Gauge()

    @prices.handler(mode=any_mode)
    async def one(step: Step) -> None:
        with gauge:
            await asyncio.sleep(1)

    @prices.handler(mode=any_mode)
    async def two(step: Step) -> None:
        with gauge:
            await asyncio.sleep(1)

    await house.serve(prices)
    client = await house.client()

    await asyncio.gather(*(client.call(op, Step()) for op in (one, two) * 6))
    assert gauge.most == 3


async def test_no_more_of_one_handler_work_at_once_than_it_says(house: House, mode: Any):
    prices = Service("prices", concurrency=8)
    few, many = Gauge(), Gauge()

    @prices.handler(concurrency=2, mode=mode)
    async def limited(step: Step) -> None:
        with few:
            await asyncio.sleep(1)

    @prices.handler(mode=mode)
    async def free(step: Step) -> None:
        with many:
            await asyncio.sleep(1)

    await house.serve(prices)
    client = await house.client()

    await asyncio.gather(*(client.call(op, Step()) for op in (limited, free) * 12))
    assert (few.most, many.most) == (2, 6)


@pytest.mark.parametrize("concurrency", [1, 3, 64])
async def test_every_slot_is_used_also_by_slow_handlers_that_come_one_by_one(house: House, mode: Any, concurrency: int):
    prices = Service("prices", concurrency=concurrency)
    gauge = Gauge()

    @prices.handler(mode=mode)
    async def quote(step: Step) -> None:
        with gauge:
            await asyncio.sleep(60)

    await house.serve(prices)
    client = await house.client()
    calls: list[asyncio.Task[None]] = []
    for _ in range(concurrency):
        calls.append(asyncio.create_task(client.call(quote, Step(), timeout="2m")))
        await asyncio.sleep(0.1)

    assert gauge.now == concurrency
    await asyncio.gather(*calls)


async def test_a_handler_at_its_own_limit_holds_up_no_other(house: House, mode: Any):
    """One has its reply, and its place is taken: that is no reason for the rest of the service to stand still."""
    prices, slow = Service("prices", concurrency=4), Service("slow")

    @slow.handler(mode=mode)
    async def wait(step: Step) -> None:
        await asyncio.sleep(1)

    @prices.handler(concurrency=1, mode=mode)
    async def narrow(step: Step, ctx: Context) -> str:
        if step.name == "first":
            await ctx.call(wait, step)
        else:
            await asyncio.sleep(100)
        return step.name

    @prices.handler(mode=mode)
    async def other(step: Step) -> str:
        return "at once"

    await house.serve(prices, slow)
    client = await house.client()
    first = asyncio.create_task(client.call(narrow, Step(name="first"), timeout="5m"))
    await asyncio.sleep(0.5)
    second = asyncio.create_task(client.call(narrow, Step(name="second"), timeout="5m"))
    await asyncio.sleep(5)

    assert await client.call(other, Step(), timeout="1s") == "at once"
    assert await asyncio.gather(first, second) == ["first", "second"]


async def test_a_slot_that_one_handler_has_no_use_for_goes_to_the_next(house: House):
    """The work of the one who waited longest is gone (its lease was lost); the slot must not be lost with it."""
    prices = Service("prices", concurrency=1)
    ran: list[str] = []

    @prices.handler(mode="queued")
    async def busy(step: Step) -> None:
        await asyncio.sleep(10)

    @prices.handler(mode="queued")
    async def one(step: Step) -> None:
        ran.append("one")

    @prices.handler(mode="queued")
    async def two(step: Step) -> None:
        ran.append("two")

    host = await house.serve(prices)
    client = await house.client()
    await client.send(busy, Step())
    await asyncio.sleep(1)
    await client.send(one, Step())
    await asyncio.sleep(1)
    await client.send(two, Step())
    await asyncio.sleep(1)
    serving = host._servings["prices"]
    serving.forget({id(delivery) for delivery in serving.runners["prices.one"].deliveries})

    await until(_answer(ran), lambda names: "two" in names)


async def test_a_queue_is_received_from_again_after_all_that_was_here_is_lost(house: House):
    prices = Service("prices", concurrency=1)
    ran: list[str] = []

    @prices.handler(mode="queued")
    async def busy(step: Step) -> None:
        await asyncio.sleep(1)

    @prices.handler(mode="queued")
    async def one(step: Step) -> None:
        ran.append(step.name)

    host = await house.serve(prices)
    client = await house.client()
    await client.send(busy, Step())
    await asyncio.sleep(0.1)
    await client.send(one, Step(name="lost"))
    await asyncio.sleep(0.1)
    serving = host._servings["prices"]
    serving.forget({id(delivery) for delivery in serving.runners["prices.one"].deliveries})
    await client.send(one, Step(name="next"))

    await until(_answer(ran), lambda names: "next" in names)


def _answer(value: Any) -> Any:
    async def answer() -> Any:
        return value

    return answer


# --- waiting ------------------------------------------------------------------------------------------


async def test_services_with_one_slot_each_may_call_each_other_in_a_ring(house: House, any_mode: Any):
    one, two = Service("one", concurrency=1), Service("two", concurrency=1)

    @one.handler(mode=any_mode)
    async def last(step: Step) -> str:
        return "round"

    @two.handler(mode=any_mode)
    async def back(step: Step, ctx: Context) -> str:
        return await ctx.call(last, step)

    @one.handler(mode=any_mode)
    async def first(step: Step, ctx: Context) -> str:
        return await ctx.call(back, step)

    await house.serve(one)
    await house.serve(two)
    client = await house.client()

    assert await client.call(first, Step(), timeout="5s") == "round"


async def test_a_handler_with_one_slot_may_call_itself(house: House, any_mode: Any):
    one = Service("one", concurrency=1)
    gauge = Gauge()

    @one.handler(mode=any_mode)
    async def dig(step: Step, ctx: Context) -> int:
        with gauge:
            pass
        return 1 + await ctx.call(dig, Step(step.depth - 1)) if step.depth else 0

    await house.serve(one)
    client = await house.client()

    assert await client.call(dig, Step(100), timeout="5s") == 100


async def test_what_stands_behind_a_handler_that_waits_is_run_meanwhile(house: House, mode: Any):
    one, slow = Service("one", concurrency=1), Service("slow")
    ran: list[str] = []

    @slow.handler(mode=mode)
    async def wait(step: Step) -> None:
        await asyncio.sleep(10)

    @one.handler(mode=mode)
    async def go(step: Step, ctx: Context) -> None:
        if step.name == "waits":
            await ctx.call(wait, step)
        ran.append(step.name)

    host = await house.open()
    await host.announce(one)
    client = await house.client()
    for name in ("waits", "second", "third"):  # so that they come in one delivery
        await client.send(go, Step(name=name))
    await host.serve(one, slow)
    await asyncio.sleep(5)

    assert ran == ["second", "third"]
    await house.settled("one.go")
    assert ran == ["second", "third", "waits"]


async def test_a_handler_that_waits_for_many_replies_at_once_takes_one_slot_back(house: House, mode: Any):
    one, two = Service("one", concurrency=2), Service("two")
    gauge = Gauge()

    @two.handler(mode=mode)
    async def part(step: Step) -> int:
        await asyncio.sleep(0.01 * step.depth)
        return step.depth

    @one.handler(mode=mode)
    async def total(step: Step, ctx: Context) -> int:
        parts = await asyncio.gather(*(ctx.call(part, Step(depth)) for depth in range(5)))
        with gauge:
            await asyncio.sleep(1)
        return sum(parts)

    host = await house.serve(one, two)
    client = await house.client()

    totals = await asyncio.gather(*(client.call(total, Step()) for _ in range(6)))
    assert totals == [10] * 6
    assert gauge.most == 2
    await until(_answer(host), lambda host: host._servings["one"].place.slots.taken == 0)
    assert host._servings["one"].runners["one.total"].slots.taken == 0


async def test_a_handler_whose_own_time_out_ends_a_call_goes_on_with_a_slot(house: House, mode: Any):
    one, slow = Service("one", concurrency=1), Service("slow")
    gauge = Gauge()

    @slow.handler(mode=mode)
    async def wait(step: Step) -> None:
        await asyncio.sleep(60)

    @one.handler(mode=mode)
    async def impatient(step: Step, ctx: Context) -> str:
        try:
            async with asyncio.timeout(1):
                await ctx.call(wait, step)
        except TimeoutError:
            pass
        with gauge:
            await asyncio.sleep(5)
        return "on its own"

    host = await house.serve(one, slow)
    client = await house.client()

    calls = [client.call(impatient, Step()) for _ in range(3)]
    assert await asyncio.gather(*calls) == ["on its own"] * 3
    assert gauge.most == 1
    await until(_answer(host), lambda host: host._servings["one"].place.slots.taken == 0)


async def test_a_handler_that_times_out_while_it_waits_leaves_no_slot_taken(house: House, mode: Any):
    one, slow = Service("one", concurrency=1), Service("slow")

    @slow.handler(mode=mode)
    async def wait(step: Step) -> None:
        await asyncio.sleep(20)

    @one.handler(timeout="1s", attempts=1, mode=mode)
    async def late(step: Step, ctx: Context) -> None:
        await ctx.call(wait, step)

    @one.handler(mode=mode)
    async def quick(step: Step) -> str:
        return "here"

    host = await house.serve(one, slow)
    client = await house.client()

    for _ in range(3):
        with pytest.raises(FailedError, match="timed out"):
            await client.call(late, Step())
    assert await client.call(quick, Step(), timeout="1s") == "here"
    await until(_answer(host), lambda host: host._servings["one"].place.slots.taken == 0)


async def test_a_handler_that_times_out_while_it_waits_ends_at_once_though_its_slot_is_taken(house: House, mode: Any):
    one, slow = Service("one", concurrency=1), Service("slow")
    ended: list[float] = []

    @slow.handler(mode=mode)
    async def wait(step: Step) -> None:
        await asyncio.sleep(100)

    @one.handler(timeout="5s", attempts=1, mode=mode)
    async def late(step: Step, ctx: Context) -> None:
        try:
            await ctx.call(wait, step)
        finally:
            ended.append(asyncio.get_running_loop().time() - began)

    @one.handler(mode=mode)
    async def long(step: Step) -> None:
        await asyncio.sleep(60)

    await house.serve(one, slow)
    client = await house.client()
    began = asyncio.get_running_loop().time()
    asking = asyncio.create_task(client.call(late, Step()))
    await asyncio.sleep(1)
    await client.send(long, Step())

    with pytest.raises(FailedError, match="timed out"):
        await asking
    assert ended == [pytest.approx(5.0, abs=0.1)]
    await house.settled("one.long")


async def test_who_waits_is_bounded_so_that_memory_is(house: House, mode: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("posthouse.runtime.runner.WAITING", 5)
    one, slow = Service("one", concurrency=2), Service("slow", concurrency=500)
    gauge = Gauge()

    @slow.handler(mode=mode)
    async def wait(step: Step) -> None:
        await asyncio.sleep(60)

    @one.handler(mode=mode)
    async def go(step: Step, ctx: Context) -> None:
        with gauge:
            await ctx.call(wait, step, timeout="5m")

    await house.serve(one, slow)
    client = await house.client()
    for _ in range(50):
        await client.send(go, Step())
    await asyncio.sleep(5)

    assert 5 <= gauge.most <= 5 + 2 + 2
    await house.settled("one.go")


# --- context variables --------------------------------------------------------------------------------

mark: ContextVar[str] = ContextVar("mark", default="clean")


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_no_handler_sees_a_variable_that_another_one_set(house: House, any_mode: Any, concurrency: int):
    one, two = Service("one", concurrency=concurrency), Service("two", concurrency=concurrency)
    seen: list[str] = []

    @two.handler(mode=any_mode)
    async def inner(step: Step) -> None:
        seen.append(mark.get())
        mark.set("from inner")

    @one.handler(mode=any_mode)
    async def outer(step: Step, ctx: Context) -> None:
        seen.append(mark.get())
        mark.set(f"from outer {step.depth}")
        await ctx.call(inner, step)
        assert mark.get() == f"from outer {step.depth}"
        mark.set("again")

    @one.handler(mode=any_mode)
    async def plain(step: Step) -> None:
        seen.append(mark.get())
        mark.set("from plain")

    await house.serve(one, two)
    client = await house.client()
    mark.set("from the caller")

    await asyncio.gather(*(client.call(op, Step(depth)) for depth in range(5) for op in (outer, plain)))
    assert len(seen) == 15
    assert set(seen) == {"clean"}


async def test_what_the_lifespan_sets_is_seen_by_every_handler(house: House, mode: Any):
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan():
        mark.set("from the lifespan")
        yield

    one = Service("one", lifespan=lifespan)
    seen: list[str] = []

    @one.handler(mode=mode)
    async def plain(step: Step) -> None:
        seen.append(mark.get())
        mark.set("spoiled")

    await house.serve(one)
    client = await house.client()

    for _ in range(3):
        await client.call(plain, Step())
    assert seen == ["from the lifespan"] * 3


# --- rates --------------------------------------------------------------------------------------------


async def test_a_handler_is_held_to_its_rate(house: House, mode: Any):
    one = Service("one")
    at: list[float] = []

    @one.handler(rate="2/s", mode=mode)
    async def go(step: Step) -> None:
        at.append(asyncio.get_running_loop().time())

    await house.serve(one)
    client = await house.client()
    for _ in range(10):
        await client.send(go, Step())
    await house.settled("one.go")

    assert len(at) == 10
    assert all(at[i + 2] - at[i] >= 0.999 for i in range(2, 8))
    assert at[-1] - at[0] == pytest.approx(4.0, abs=0.1)


async def test_what_waits_for_its_rate_is_not_lost_when_its_caller_gives_up(house: House, mode: Any):
    one = Service("one")

    @one.handler(rate="1/m", mode=mode)
    async def go(step: Step) -> str:
        return "done"

    await house.serve(one)
    client = await house.client()
    assert await client.call(go, Step()) == "done"
    with pytest.raises(unanswered(mode)):
        await client.call(go, Step(), timeout="10s")
    await house.settled("one.go")
