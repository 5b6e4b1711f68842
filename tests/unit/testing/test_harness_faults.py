"""The harness with stores: what a user's tests let go wrong, and what they see of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from posthouse import CallCanceledError, Context, NotServedError, Operation, PendingError, Reply, Service
from posthouse.errors import CallUnknownError, UsageError
from posthouse.testing import Harness

pytestmark = pytest.mark.anyio


class Place(msgspec.Struct):
    order_id: str
    sku: str = "tea"


class Price(msgspec.Struct):
    total: float


quote = Operation("prices.quote", str, Price)
look = Operation("prices.look", str, Price, mode="volatile")
ask = Operation("prices.ask", str, Price, mode="queued")


class Orders:
    """A service that asks for a price, keeps an order, and tells another service of it."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.told: list[str] = []
        self.lives: list[str] = []
        self.service = orders = Service(
            "orders", schema=["CREATE TABLE orders (id TEXT PRIMARY KEY, total REAL)"], lifespan=self._live
        )
        self.placed = placed = orders.event("placed", str)

        @orders.handler
        async def place(order: Place, ctx: Context) -> Price:
            price = await ctx.call(quote, order.sku)
            db = await ctx.transaction()
            await db.execute("INSERT INTO orders VALUES (?, ?)", (order.order_id, price.total))
            await ctx.send(ship, order)
            await ctx.publish(placed, order.order_id)
            return price

        @orders.handler
        async def ship(order: Place) -> str:
            return f"shipped {order.order_id}"

        @orders.on_reply(ship)
        async def shipped(reply: Reply[Place, str]) -> None:
            self.heard.append(reply.get())

        @orders.on_ack(ship)
        async def was_heard(reply: Reply[Place, str]) -> None:
            self.told.append(reply.get())

        @orders.handler
        async def count(_: None, ctx: Context) -> int:
            async with ctx.reading() as db:
                [(number,)] = await db.execute("SELECT count(*) FROM orders")
                return number

        self.place, self.ship, self.count = place, ship, count

    @asynccontextmanager
    async def _live(self) -> AsyncGenerator[None]:
        self.lives.append("begin")
        yield
        self.lives.append("end")


@pytest.fixture
def orders() -> Orders:
    return Orders()


def harness(orders: Orders, **how: Any) -> Harness:
    h = Harness(orders.service, **how)
    h.stub(quote, Price(9.5))
    return h


# --- what is seen -----------------------------------------------------------------------------------------


async def test_an_order_is_stored_sent_on_replied_to_and_acked(orders: Orders):
    async with harness(orders) as h:
        reply = await h.call(orders.place, Place("o1"))
        await h.idle()

        assert reply == Price(9.5)
        assert h.requests(quote) == ["tea"]
        assert h.requests(orders.ship) == [Place("o1")]
        assert h.replies(orders.ship) == ["shipped o1"]
        assert h.published(orders.placed) == ["o1"]
        assert (h.acks(quote), h.acks(orders.place), h.acks(orders.ship)) == (1, 1, 1)
        assert orders.heard == orders.told == ["shipped o1"]
        assert await h.call(orders.count, None) == 1


async def test_no_ack_leaves_before_all_rests(orders: Orders):
    async with harness(orders) as h:
        await h.call(orders.place, Place("o1"))

        assert h.acks(orders.place) == 0


async def test_a_reply_is_there_again_and_an_unknown_one_is_not(orders: Orders):
    async with harness(orders) as h:
        id = await h.send(orders.place, Place("o1"))

        assert await h.reply(orders.place, id) == await h.reply(orders.place, id) == Price(9.5)
        with pytest.raises(CallUnknownError):
            await h.reply(orders.place, "nothing like it")


async def test_what_waits_to_be_tried_again_can_be_canceled():
    lazy = Service("lazy")

    @lazy.handler(backoff="1h..1h")
    async def work(name: str) -> None:
        raise ValueError(name)

    async with Harness(lazy) as h:
        id = await h.send(work, "a")
        await h.idle()
        await h.cancel(id)

        with pytest.raises(CallCanceledError):
            await h.reply(work, id)
        await h.advance("1d")
        assert (h.attempts(work), h.parked(work)) == (1, [])


async def test_a_deadline_passes_while_a_request_waits_to_be_tried_again():
    lazy = Service("lazy")

    @lazy.handler(backoff="1h..1h")
    async def work(name: str) -> None:
        raise ValueError(name)

    async with Harness(lazy) as h:
        id = await h.send(work, "a", deadline="10s")
        await h.advance("2h")

        with pytest.raises(Exception, match="deadline passed"):
            await h.reply(work, id)
        assert h.attempts(work) == 1


# --- crashes ----------------------------------------------------------------------------------------------


async def test_a_crash_after_commit_makes_one_order(orders: Orders):
    async with harness(orders) as h:
        h.fault(orders.place, "crash after commit")

        reply = await h.call(orders.place, Place("o1"))
        await h.idle()

        assert reply == Price(9.5)
        assert orders.lives == ["begin", "end", "begin"]
        assert h.attempts(orders.place) == 1
        assert await h.call(orders.count, None) == 1
        assert h.published(orders.placed) == ["o1"]
        assert orders.heard == ["shipped o1"]


async def test_a_crash_before_commit_runs_again_but_asks_once(orders: Orders):
    async with harness(orders) as h:
        h.fault(orders.place, "crash before commit", times=2)

        await h.call(orders.place, Place("o1"))

        assert (h.attempts(orders.place), h.attempts(quote), h.requests(quote)) == (3, 1, ["tea"])
        assert await h.call(orders.count, None) == 1


async def test_a_stub_crashes_too(orders: Orders):
    async with harness(orders) as h:
        h.fault(quote, "crash before commit")
        h.fault(quote, "crash after commit")

        await h.call(orders.place, Place("o1"))

        assert (h.attempts(orders.place), h.attempts(quote)) == (1, 2)


async def test_the_handler_that_hears_a_reply_has_heard_it_once_though_its_instance_crashed(orders: Orders):
    async with harness(orders) as h:
        h.fault(orders.ship, "crash after commit")
        h.fault(orders.ship, "lose reply")
        h.fault(orders.ship, "lose ack")

        await h.call(orders.place, Place("o1"))
        await h.advance("1m")

        assert orders.lives.count("begin") == 2
        assert orders.heard == orders.told == ["shipped o1"]


# --- messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["lose request", "lose reply", "duplicate request", "duplicate reply", "reorder"])
async def test_whatever_happens_to_its_messages_an_order_is_one_order(orders: Orders, what: Any):
    async with harness(orders) as h:
        for operation in (orders.place, quote, orders.ship):
            h.fault(operation, what, times=2)

        first = await h.call(orders.place, Place("o1"), timeout="5m")
        second = await h.call(orders.place, Place("o2"), timeout="5m")
        await h.advance("5m")

        assert (first, second) == (Price(9.5), Price(9.5))
        assert [h.attempts(operation) for operation in (orders.place, quote, orders.ship)] == [2, 2, 2]
        assert await h.call(orders.count, None) == 2
        assert sorted(orders.heard) == ["shipped o1", "shipped o2"]
        assert (h.acks(orders.place), h.acks(orders.ship)) == (2, 2)


async def test_an_ack_that_is_lost_is_told_again(orders: Orders):
    async with harness(orders) as h:
        h.fault(orders.count, "lose ack", times=2)

        await h.call(orders.count, None)
        await h.idle()
        before = h.acks(orders.count)
        await h.advance("1m")

        assert (before, h.acks(orders.count)) == (0, 1)


async def test_who_is_away_is_asked_again_and_the_order_goes_on_with_the_answer(orders: Orders):
    async with harness(orders) as h:
        h.fault(quote, "away", times=3)
        id = await h.send(orders.place, Place("o2"))
        await h.idle()
        before = h.attempts(quote)

        await h.advance("1m")

        assert before == 0
        assert await h.reply(orders.place, id) == Price(9.5)
        assert (h.attempts(orders.place), h.attempts(quote)) == (1, 1)


async def test_who_waits_too_long_for_an_answer_rests_and_is_run_again_with_it(orders: Orders):
    async with harness(orders) as h:
        h.fault(quote, "away", times=8)
        id = await h.send(orders.place, Place("o2"))
        await h.advance("10m")

        assert await h.reply(orders.place, id) == Price(9.5)
        assert (h.attempts(orders.place), h.attempts(quote)) == (2, 1)
        assert await h.call(orders.count, None) == 1


async def test_of_two_requests_the_first_is_overtaken():
    line, seen = Service("line"), list[str]()

    @line.handler
    async def step(name: str) -> None:
        seen.append(name)

    async with Harness(line) as h:
        h.fault(step, "reorder")
        await h.send(step, "a")
        await h.send(step, "b")
        await h.idle()

        assert seen == ["b", "a"]


async def test_a_volatile_request_finds_nobody_and_a_queued_one_may_lose_its_reply(orders: Orders):
    async with Harness(orders.service) as h:
        h.stub(look, Price(1.0))
        h.stub(ask, Price(2.0))
        h.fault(look, "away")
        h.fault(ask, "lose reply")

        with pytest.raises(NotServedError):
            await h.call(look, "tea")
        with pytest.raises(Exception, match="has not answered"):
            await h.call(ask, "tea", timeout="5s")
        assert await h.call(look, "tea") == Price(1.0)
        assert await h.call(ask, "tea") == Price(2.0)
        assert h.attempts(ask) == 2


async def test_a_queued_request_that_comes_twice_is_run_twice(orders: Orders):
    async with Harness(orders.service) as h:
        h.stub(ask, Price(2.0))
        h.fault(ask, "duplicate request")

        await h.call(ask, "tea")
        await h.idle()

        assert h.attempts(ask) == 2


@pytest.mark.parametrize("mode", ["queued", "volatile"])
async def test_an_event_can_be_lost_to_all_who_hear_it(mode: Any):
    paper, heard = Service("paper"), list[str]()
    printed = paper.event("printed", str, mode=mode)

    @paper.on(printed, name="one")
    @paper.on(printed, name="two")
    async def hear(text: str) -> None:
        heard.append(text)

    async with Harness(paper) as h:
        h.fault(printed, "lose event")
        await h.publish(printed, "lost")
        await h.publish(printed, "here")
        await h.idle()

        assert heard == ["here", "here"]


async def test_a_journaled_event_that_is_lost_is_asked_for_by_who_hears_it():
    paper, reader, heard = Service("paper"), Service("reader"), list[str]()
    printed = paper.event("printed", str, mode="journaled")

    @reader.on(printed)
    async def hear(text: str) -> None:
        heard.append(text)

    async with Harness(paper, reader) as h:
        h.fault(printed, "lose event")
        await h.publish(printed, "lost")
        await h.idle()
        assert heard == []

        await h.advance("10s")

        assert heard == ["lost"]
        assert h.published(printed) == ["lost"]


# --- what cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "what", "why"),
    [
        (ask, "lose request", "a queue keeps it"),
        (ask, "away", "a queue keeps it"),
        (ask, "crash before commit", "no store"),
        (ask, "lose ack", "not acked"),
        (look, "duplicate request", "never again"),
        (look, "crash after commit", "no store"),
        (quote, "lose event", "is an operation"),
        (Operation("nobody.here", str, None), "crash before commit", "neither tested nor stubbed"),
    ],
)
async def test_what_cannot_happen_is_refused_by_name(orders: Orders, where: Any, what: Any, why: str):
    async with harness(orders) as h:
        with pytest.raises(UsageError, match=why) as refused:
            h.fault(where, what)
        assert where.name in str(refused.value)


async def test_a_crash_of_what_has_its_store_in_a_file_is_refused(orders: Orders, tmp_path: Path):
    async with harness(orders, stores={orders.service: f"sqlite:{tmp_path}"}) as h:
        with pytest.raises(UsageError, match="in memory"):
            h.fault(orders.place, "crash before commit")

        assert await h.call(orders.place, Place("o1")) == Price(9.5)
        await h.idle()
        assert h.acks(orders.place) == 1
    async with harness(orders, stores={orders.service: f"sqlite:{tmp_path}"}) as h:
        assert await h.call(orders.count, None) == 1


async def test_a_pending_error_names_the_request_that_lives_on(orders: Orders):
    async with harness(orders) as h:
        h.fault(orders.place, "lose request", times=4)
        with pytest.raises(PendingError) as pending:
            await h.call(orders.place, Place("o1"), timeout="2s")

        assert await h.reply(orders.place, pending.value.id, timeout="5m") == Price(9.5)
        assert h.attempts(orders.place) == 1
