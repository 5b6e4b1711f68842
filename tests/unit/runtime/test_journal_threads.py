"""Plain `def` handlers that are journaled: their transaction, their readings and calls, from a thread. Time is real."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from msgspec import Struct

from posthouse import FailedError, PendingError, Reject, Service, UsageError
from posthouse.sync import SyncContext
from tests.house import House, until

pytestmark = pytest.mark.anyio

BOUND = 20.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use a loop whose time is real."""
    return "asyncio"


class Order(Struct):
    sku: str


class Refused(Reject):
    code = "till.refused"


async def bounded(awaitable: Any) -> Any:
    async with asyncio.timeout(BOUND):
        return await awaitable


async def written(house: House) -> list[str]:
    return [entry for (entry,) in await house.rows("till", "SELECT entry FROM book ORDER BY rowid")]


def shop() -> Service:
    return Service("till", schema=["CREATE TABLE book (entry TEXT)"])


@pytest.mark.parametrize(("how", "kept"), [("returns", True), ("returns a reject", True), ("raises", False)])
async def test_what_a_thread_wrote_is_kept_with_its_reply_or_not_at_all(house: House, how: str, kept: bool):
    till = shop()

    @till.handler(attempts=1, rejects=(Refused,))
    def sell(order: Order, ctx: SyncContext) -> str | Reject:
        db = ctx.transaction()
        db.execute("INSERT INTO book VALUES (?)", (order.sku,))
        db.executemany("INSERT INTO book VALUES (?)", [("a",), ("b",)])
        if how == "raises":
            raise ValueError(order.sku)
        return Refused("no") if how == "returns a reject" else "sold"

    await house.serve(till)
    outcome = await bounded(asyncio.gather((await house.client()).call(sell, Order("tea")), return_exceptions=True))

    assert await written(house) == (["tea", "a", "b"] if kept else [])
    assert type(outcome[0]) is {"returns": str, "raises": FailedError}.get(how, Refused)


async def test_a_thread_reads_calls_and_is_given_on_a_second_run_what_it_was_told_on_the_first(house: House):
    till, runs = shop(), list[str]()

    @till.handler
    def quote(order: Order) -> str:
        runs.append(order.sku)
        return f"{order.sku} {len(runs)}"

    @till.handler(backoff="1ms..1ms")
    def sell(order: Order, ctx: SyncContext) -> tuple[int, str]:
        with ctx.reading() as db:
            [(before,)] = db.execute("SELECT count(*) FROM book")
            price = ctx.call(quote, order)
        ctx.transaction()
        with pytest.raises(UsageError, match="Call first"):
            ctx.call(quote, order)
        if ctx.attempt == 1:
            raise ValueError(order.sku)
        return before, price

    await house.serve(till)

    assert await bounded((await house.client()).call(sell, Order("tea"))) == (0, "tea 1")
    assert runs == ["tea"]


async def test_a_thread_sends_and_takes_back_what_it_has_sent(house: House):
    till, ran = shop(), list[str]()

    @till.handler
    def ship(order: Order) -> None:
        ran.append(order.sku)

    @till.handler
    def sell(order: Order, ctx: SyncContext) -> None:
        ctx.cancel(ctx.send(ship, Order("never")))
        ctx.send(ship, order)

    await house.serve(till)
    await bounded((await house.client()).call(sell, Order("tea")))
    await bounded(house.settled("till.ship"))

    assert ran == ["tea"]


async def test_a_thread_that_lets_a_pending_error_pass_rests_and_gives_its_slot_back(house: House):
    till, slow = Service("till", concurrency=1), Service("slow")
    may_end, attempts = asyncio.Event(), list[int]()

    @slow.handler
    async def work(order: Order) -> str:
        await may_end.wait()
        return order.sku.upper()

    @till.handler
    def sell(order: Order, ctx: SyncContext) -> str:
        attempts.append(ctx.attempt)
        return ctx.call(work, order, timeout=0.05)

    @till.handler
    def other(order: Order, ctx: SyncContext) -> str:
        try:
            return ctx.call(work, order, timeout=0.05)
        except PendingError:
            return "did not wait"

    host = await house.serve(till, slow)
    client = await house.client()
    asking = asyncio.create_task(client.call(sell, Order("tea")))
    await bounded(until(lambda: _value(attempts), bool))
    quick = await bounded(client.call(other, Order("milk")))
    may_end.set()

    assert await bounded(asking) == "TEA"
    assert quick == "did not wait"
    assert attempts == [1, 1]
    await bounded(until(lambda: _value(host), lambda host: host._servings["till"].place.slots.taken == 0))


async def test_the_transaction_of_a_thread_that_timed_out_is_rolled_back_though_the_thread_goes_on(house: House):
    till, release, refused = shop(), threading.Event(), list[str]()

    @till.handler(attempts=1, timeout=0.1)
    def sell(order: Order, ctx: SyncContext) -> None:
        db = ctx.transaction()
        db.execute("INSERT INTO book VALUES (?)", (order.sku,))
        release.wait(BOUND)
        try:
            db.execute("INSERT INTO book VALUES ('late')")
        except Exception as error:
            refused.append(str(error))

    await house.serve(till)
    with pytest.raises(FailedError, match="timed out"):
        await bounded((await house.client()).call(sell, Order("tea")))
    before = await bounded(written(house))
    release.set()
    await bounded(until(lambda: _value(refused), bool))

    assert before == []
    assert "is over" in refused[0]
    assert await written(house) == []


async def _value(value: Any) -> Any:
    return value
