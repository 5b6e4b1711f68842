"""What a journaled handler can rely on: its transaction, the calls that it made before, and whom it hears."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, FailedError, PendingError, Reject, Reply, Service, UsageError
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.outbox import CallState
from posthouse.testing.faults import Faults
from tests.house import House, lossy, until

pytestmark = pytest.mark.anyio

BOOK = ["CREATE TABLE book (entry TEXT)"]


class Order(Struct):
    sku: str
    qty: int = 1


class Refused(Reject):
    code = "prices.refused"


async def write(ctx: Context, entry: str) -> None:
    """Write into the service's own table, in the handler's transaction."""
    db = await ctx.transaction()
    await db.execute("INSERT INTO book VALUES (?)", (entry,))


async def written(house: House, service: str = "till") -> list[str]:
    return [entry for (entry,) in await house.rows(service, "SELECT entry FROM book ORDER BY rowid")]


def prices() -> tuple[Service, Any, list[str]]:
    service, runs = Service("prices"), list[str]()

    @service.handler(rejects=(Refused,))
    async def quote(order: Order) -> int:
        runs.append(order.sku)
        if order.sku == "nothing":
            raise Refused("no such thing")
        return 100 * len(runs) + order.qty

    return service, quote, runs


async def one_of(house: House, operation: str, *states: RequestState) -> None:
    """Wait until the one request to an operation is in one of these states."""

    async def state() -> RequestState | None:
        rows = await house.requests(operation)
        return rows[0].state if rows else None

    await until(state, lambda found: found in states)


# --- the transaction ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "kept"), [("returns", True), ("returns a reject", True), ("raises a reject", False), ("raises", False)]
)
async def test_what_a_handler_wrote_is_kept_with_its_reply_or_not_at_all(house: House, how: str, kept: bool):
    till = Service("till", schema=BOOK)

    @till.handler(attempts=1, rejects=(Refused,))
    async def sell(order: Order, ctx: Context) -> str | Reject:
        await write(ctx, order.sku)
        await ctx.send(ship, order)
        match how:
            case "returns a reject":
                return Refused("no")
            case "raises a reject":
                raise Refused("no")
            case "raises":
                raise ValueError(order.sku)
            case _:
                return "sold"

    @till.handler
    async def ship(order: Order) -> None: ...

    await house.serve(till)
    client = await house.client()
    outcome = await asyncio.gather(client.call(sell, Order("tea")), return_exceptions=True)
    await house.settled("till.ship")

    assert await written(house) == (["tea"] if kept else [])
    assert len(await house.calls("till.ship", of="till")) == kept
    assert type(outcome[0]) is {"returns": str, "raises": FailedError}.get(how, Refused)


async def test_what_failed_has_written_nothing_when_it_is_tried_again(house: House):
    till = Service("till", schema=BOOK)

    @till.handler
    async def sell(order: Order, ctx: Context) -> None:
        await write(ctx, f"{order.sku} {ctx.attempt}")
        if ctx.attempt < 3:
            raise ValueError(order.sku)

    await house.serve(till)
    await (await house.client()).call(sell, Order("tea"))

    assert await written(house) == ["tea 3"]


async def test_no_call_is_made_while_a_transaction_is_open(house: House):
    till, (service, quote, runs) = Service("till", schema=BOOK), prices()

    @till.handler(attempts=1)
    async def sell(order: Order, ctx: Context) -> None:
        await write(ctx, order.sku)
        with pytest.raises(UsageError, match="Call first, then open"):
            await ctx.call(quote, order)

    await house.serve(till, service)
    await (await house.client()).call(sell, Order("tea"))

    assert await written(house) == ["tea"]
    assert runs == []


async def test_the_same_transaction_is_given_again_and_nothing_after_the_end(house: House):
    till, kept = Service("till", schema=BOOK), list[Any]()

    @till.handler
    async def sell(order: Order, ctx: Context) -> bool:
        kept.append(await ctx.transaction())
        await kept[0].executemany("INSERT INTO book VALUES (?)", [("a",), ("b",)])
        return await ctx.transaction() is kept[0]

    await house.serve(till)

    assert await (await house.client()).call(sell, Order("tea"))
    with pytest.raises(UsageError, match="is over"):
        await kept[0].execute("INSERT INTO book VALUES ('late')")
    assert await written(house) == ["a", "b"]


async def test_who_holds_the_store_for_too_long_is_rolled_back_and_tried_again(house: House):
    till = Service("till", schema=BOOK)

    @till.handler(attempts=2)
    async def sell(order: Order, ctx: Context) -> int:
        await write(ctx, f"{order.sku} {ctx.attempt}")
        if ctx.attempt == 1 or order.sku == "always":
            await asyncio.sleep(2)
        return ctx.attempt

    await house.serve(till)
    client = await house.client()

    assert await client.call(sell, Order("tea")) == 2
    assert await written(house) == ["tea 2"]
    with pytest.raises(FailedError, match="write slot for too long"):
        await client.call(sell, Order("always"))
    assert await written(house) == ["tea 2"]


async def test_who_reads_sees_one_moment_holds_nothing_and_may_call_meanwhile(house: House):
    till, (service, quote, _runs) = Service("till", schema=BOOK), prices()

    @till.handler
    async def sell(order: Order, ctx: Context) -> None:
        await write(ctx, order.sku)

    @till.handler
    async def count(order: Order, ctx: Context) -> list[int]:
        async with ctx.reading() as db:
            [(before,)] = await db.execute("SELECT count(*) FROM book")
            await ctx.call(sell, order)
            await ctx.call(quote, order)
            [(same,)] = await db.execute("SELECT count(*) FROM book")
        async with ctx.reading() as db:
            [(after,)] = await db.execute("SELECT count(*) FROM book")
        return [before, same, after]

    await house.serve(till, service)

    assert await (await house.client()).call(count, Order("tea")) == [0, 0, 1]


# --- calls of an earlier run ------------------------------------------------------------------------------


async def test_a_handler_that_is_run_again_is_given_the_reply_that_it_was_given_before(house: House):
    till, (service, quote, runs) = Service("till"), prices()
    seen: list[tuple[int, int]] = []

    @till.handler
    async def sell(order: Order, ctx: Context) -> int:
        price = await ctx.call(quote, order)
        seen.append((ctx.attempt, price))
        if ctx.attempt < 3:
            raise ValueError(order.sku)
        return price

    await house.serve(till, service)
    reply = await (await house.client()).call(sell, Order("tea"))

    assert seen == [(1, 101), (2, 101), (3, 101)]
    assert (reply, runs) == (101, ["tea"])


async def test_a_no_that_it_was_told_is_no_obstacle_to_ask_for_something_else(house: House):
    till, (service, quote, runs) = Service("till"), prices()

    @till.handler
    async def sell(order: Order, ctx: Context) -> int:
        if ctx.attempt == 1:
            with pytest.raises(Refused):
                await ctx.call(quote, Order("nothing"))
            raise ValueError(order.sku)
        return await ctx.call(quote, order)

    await house.serve(till, service)

    assert await (await house.client()).call(sell, Order("tea")) == 201
    assert runs == ["nothing", "tea"]


async def test_the_instance_that_takes_over_is_given_the_reply_that_the_dead_one_was_given(house: House):
    service, quote, runs = prices()
    seen: list[int] = []
    may_end = asyncio.Event()

    def till() -> tuple[Service, Any]:
        serving = Service("till", schema=BOOK)

        @serving.handler
        async def sell(order: Order, ctx: Context) -> int:
            price = await ctx.call(quote, order)
            seen.append(price)
            await may_end.wait()
            await write(ctx, f"{order.sku} {price}")
            return price

        return serving, sell

    await house.serve(service)
    first, sell = till()
    host = await house.serve(first)
    asking = asyncio.create_task((await house.client()).call(sell, Order("tea"), timeout="5m"))
    await until(lambda: _value(seen), lambda found: len(found) == 1)
    [call] = await house.calls("prices.quote", of="till")
    await host.die()
    may_end.set()
    await house.serve(till()[0])

    assert await asking == 101
    assert (seen, runs) == ([101, 101], ["tea"])
    assert await written(house) == ["tea 101"]
    assert call.state is CallState.ANSWERED  # neither final nor acked before the handler has committed
    await house.settled("prices.quote")
    await until(lambda: house.requests("prices.quote"), lambda rows: rows == [])


async def test_an_answer_is_acked_only_when_the_handler_that_used_it_has_committed(house: House):
    till, (service, quote, _runs) = Service("till"), prices()

    @till.handler(backoff="30s..30s")
    async def sell(order: Order, ctx: Context) -> int:
        price = await ctx.call(quote, order)
        if ctx.attempt == 1:
            raise ValueError(order.sku)
        return price

    await house.serve(till, service)
    asking = asyncio.create_task((await house.client()).call(sell, Order("tea"), timeout="5m"))
    await asyncio.sleep(0.1)
    before = [row.state for row in await house.requests("prices.quote")]
    await asking
    await asyncio.sleep(1)

    assert before == [RequestState.DONE]
    assert await house.requests("prices.quote") == []


async def test_calls_that_are_made_together_are_told_apart_when_the_handler_is_run_again(house: House):
    till, (service, quote, runs) = Service("till"), prices()
    seen: list[list[int]] = []

    @till.handler
    async def sell(order: Order, ctx: Context) -> list[int]:
        orders = [Order("a", 1), Order("b", 2), Order("a", 1), Order("c", 3)]
        seen.append(await asyncio.gather(*(ctx.call(quote, each) for each in orders)))
        if ctx.attempt < 3:
            raise ValueError(order.sku)
        return seen[-1]

    await house.serve(till, service)
    reply = await (await house.client()).call(sell, Order("tea"))

    assert sorted(runs) == ["a", "a", "b", "c"]
    assert seen == [reply] * 3
    assert len(set(reply)) == 4


async def test_a_handler_that_asks_otherwise_than_before_is_parked(house: House):
    till, (service, quote, runs) = Service("till"), prices()

    @till.handler
    async def sell(order: Order, ctx: Context) -> int:
        price = await ctx.call(quote, Order(f"try {ctx.attempt}"))
        if ctx.attempt == 1:
            raise ValueError(order.sku)
        return price

    await house.serve(till, service)
    client = await house.client()
    id = await client.send(sell, Order("tea"))
    [letter] = await house.bury(1)

    assert (letter.state, letter.code, letter.message) == ("parked", "call.diverged", id)
    assert runs == ["try 1"]
    assert [row.state for row in await house.requests("till.sell")] == [RequestState.PARKED]


async def test_a_handler_that_hides_that_it_diverged_is_parked_all_the_same(house: House):
    till, (service, quote, _runs) = Service("till", schema=BOOK), prices()

    @till.handler
    async def sell(order: Order, ctx: Context) -> str:
        try:
            await ctx.call(quote, Order(f"try {ctx.attempt}"))
        except Exception:
            return "never mind"
        raise ValueError(order.sku)

    await house.serve(till, service)
    await (await house.client()).send(sell, Order("tea"))
    [letter] = await house.bury(1)

    assert letter.code == "call.diverged"


async def test_a_call_that_nobody_wants_any_more_is_canceled_when_its_handler_has_ended(house: House):
    till, busy = Service("till"), Service("busy", concurrency=1)
    may_end, runs = asyncio.Event(), list[str]()

    @busy.handler
    async def work(order: Order) -> None:
        runs.append(order.sku)
        await may_end.wait()

    @till.handler
    async def sell(order: Order, ctx: Context) -> str:
        if ctx.attempt == 1:
            with pytest.raises(PendingError):
                await ctx.call(work, order, timeout="1s")
            raise ValueError(order.sku)
        return "without it"

    await house.serve(till, busy)
    client = await house.client()
    await client.send(work, Order("before"))

    assert await client.call(sell, Order("tea")) == "without it"
    [call] = await until(lambda: house.calls("busy.work", of="till"), lambda rows: rows[0].state.final)
    may_end.set()
    await house.settled("busy.work")
    assert call.state is CallState.NOT_DONE
    assert runs == ["before"]


# --- a handler that rests ---------------------------------------------------------------------------------


async def test_a_handler_that_lets_a_pending_error_pass_rests_and_holds_nothing(house: House):
    till, slow = Service("till", concurrency=1), Service("slow")
    may_end, runs, attempts = asyncio.Event(), list[str](), list[int]()

    @slow.handler
    async def work(order: Order) -> str:
        runs.append(order.sku)
        await may_end.wait()
        return order.sku.upper()

    @till.handler
    async def sell(order: Order, ctx: Context) -> str:
        attempts.append(ctx.attempt)
        return await ctx.call(work, order, timeout="1s")

    @till.handler
    async def other(order: Order) -> str:
        return "at once"

    host = await house.serve(till, slow)
    client = await house.client()
    asking = asyncio.create_task(client.call(sell, Order("tea"), timeout="1h"))
    await one_of(house, "till.sell", RequestState.SUSPENDED)
    taken = host._servings["till"].place.slots.taken
    quick = await client.call(other, Order("tea"), timeout="1s")
    await asyncio.sleep(200)
    may_end.set()

    assert await asking == "TEA"
    assert (taken, quick) == (0, "at once")
    assert (runs, attempts) == (["tea"], [1, 1])


@pytest.mark.parametrize("timeouts", [("1s", "1s"), ("1s", "20s")])
async def test_calls_that_are_pending_in_a_task_group_let_the_handler_rest_as_one_does(house: House, timeouts: Any):
    till, slow = Service("till"), Service("slow")
    may_end, runs, attempts = asyncio.Event(), list[str](), list[int]()

    @slow.handler
    async def work(order: Order) -> int:
        runs.append(order.sku)
        await may_end.wait()
        return order.qty

    @till.handler
    async def sell(order: Order, ctx: Context) -> int:
        attempts.append(ctx.attempt)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ctx.call(work, Order("a", 1), timeout=timeouts[0]))
            second = group.create_task(ctx.call(work, Order("b", 2), timeout=timeouts[1]))
        return first.result() + second.result()

    await house.serve(till, slow)
    asking = asyncio.create_task((await house.client()).call(sell, Order("tea"), timeout="1h"))
    await one_of(house, "till.sell", RequestState.SUSPENDED)
    await asyncio.sleep(60)
    may_end.set()

    assert await asking == 3
    assert sorted(runs) == ["a", "b"]
    assert set(attempts) == {1}


async def test_a_handler_that_rests_goes_on_elsewhere_when_its_instance_has_died(house: House):
    slow, may_end, runs = Service("slow"), asyncio.Event(), list[str]()

    @slow.handler
    async def work(order: Order) -> str:
        runs.append(order.sku)
        await may_end.wait()
        return order.sku.upper()

    till = Service("till")

    @till.handler
    async def sell(order: Order, ctx: Context) -> str:
        return await ctx.call(work, order, timeout="1s")

    await house.serve(slow)
    host = await house.serve(till)
    asking = asyncio.create_task((await house.client()).call(sell, Order("tea"), timeout="1h"))
    await one_of(house, "till.sell", RequestState.SUSPENDED)
    await host.die()
    await house.serve(till)
    may_end.set()

    assert await asking == "TEA"
    assert runs == ["tea"]


# --- what it hears of ---------------------------------------------------------------------------------------


def hearing(heard: list[str], quote: Any, *, gate: asyncio.Event | None = None) -> Service:
    """Return a service that sends a request from a handler, and hears what came of it."""
    till = Service("till", schema=BOOK)

    @till.handler
    async def sell(order: Order, ctx: Context) -> str:
        return await ctx.send(quote, order)

    @till.on_reply(quote)
    async def told(reply: Reply[Order, int], ctx: Context) -> None:
        try:
            what = str(reply.get())
        except Refused as refused:
            what = f"{refused.code} {refused}"
        heard.append(f"{reply.request.sku} {reply.id} {what}")
        if gate is not None:
            await gate.wait()
        await write(ctx, what)

    return till


@pytest.mark.parametrize(("sku", "what"), [("tea", "101"), ("nothing", "prices.refused no such thing")])
async def test_the_outcome_of_what_was_sent_is_heard_with_its_request(house: House, sku: str, what: str):
    service, quote, _runs = prices()
    heard: list[str] = []
    till = hearing(heard, quote)
    await house.serve(till, service)
    client = await house.client()

    id = await client.call(till.operations["sell"].operation, Order(sku))
    await until(lambda: _value(heard), lambda found: len(found) == 1)
    await asyncio.sleep(60)

    assert heard == [f"{sku} {id} {what}"]
    assert await written(house) == [what]
    assert await house.requests("prices.quote") == []
    assert [call.state for call in await house.calls("prices.quote", of="till")] == [
        CallState.NOT_DONE if sku == "nothing" else CallState.DONE
    ]
    assert await house.requests("till.on_reply.prices.quote") == []


async def test_what_was_sent_outside_of_a_handler_is_heard_of_as_well(house: House):
    service, quote, _runs = prices()
    heard: list[str] = []
    host = await house.serve(hearing(heard, quote), service)

    id = await host.client("till").send(quote, Order("tea"))
    await until(lambda: _value(heard), lambda found: len(found) == 1)

    assert heard == [f"tea {id} 101"]


async def test_a_reply_is_heard_once_though_its_instance_died_between_taking_it_in_and_hearing_it(house: House):
    service, quote, runs = prices()
    heard: list[str] = []
    gate = asyncio.Event()
    await house.serve(service)
    till = hearing(heard, quote, gate=gate)
    host = await house.serve(till)
    await (await house.client()).call(till.operations["sell"].operation, Order("tea"))
    await one_of(house, "till.on_reply.prices.quote", RequestState.RUNNING)
    [call] = await house.calls("prices.quote", of="till")
    await host.die()
    gate.set()
    await house.serve(hearing(heard, quote))
    await until(lambda: house.calls("prices.quote", of="till"), lambda rows: rows[0].state is CallState.DONE)

    assert call.state is CallState.ANSWERED
    assert await written(house) == ["101"]
    assert (len(heard), runs) == (2, ["tea"])


async def test_who_hears_and_fails_hears_again_and_the_reply_is_not_acked_before(house: House):
    service, quote, _runs = prices()
    till, attempts = Service("till"), list[int]()

    @till.on_reply(quote, backoff="30s..30s")
    async def told(reply: Reply[Order, int], ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError(reply.request.sku)

    await house.serve(service)
    host = await house.serve(till)
    await host.client("till").send(quote, Order("tea"))
    await asyncio.sleep(1)
    before = [row.state for row in await house.requests("prices.quote")]
    await asyncio.sleep(60)

    assert attempts == [1, 2]
    assert before == [RequestState.DONE]
    assert await house.requests("prices.quote") == []


@pytest.mark.parametrize("what", [None, "lose ack", "lose reply", "duplicate reply"])
async def test_a_replier_hears_once_that_its_reply_was_applied(house: House, what: Any):
    service, faults, told = Service("prices"), Faults(), list[str]()

    @service.handler
    async def quote(order: Order) -> int:
        return order.qty

    @service.on_ack(quote)
    async def applied(reply: Reply[Order, int]) -> None:
        told.append(f"{reply.id} {reply.request.sku} {reply.get()}")

    await house.serve(service, wrap=lossy(faults))
    client = house.client_of(await house.open(wrap=lossy(faults)))
    if what is not None:
        faults.order(quote, what, times=1)
    id = await client.send(quote, Order("tea", 7))
    await asyncio.sleep(120)

    assert told == [f"{id} tea 7"]
    assert await house.requests("prices.quote") == []
    assert await house.requests("prices.on_ack.prices.quote") == []


async def _value(value: Any) -> Any:
    return value
