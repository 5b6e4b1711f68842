"""The harness: what a user's tests can do and see."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from posthouse import Context, Operation, OutcomeUnknownError, PendingError, Reject, Retry, Service, UsageError
from posthouse.errors import FailedError, NotBuiltError
from posthouse.sync import SyncContext
from posthouse.testing import Harness

pytestmark = pytest.mark.anyio


class Order(msgspec.Struct):
    sku: str
    qty: int = 1


class Price(msgspec.Struct):
    sku: str
    total: float


class Unknown(Reject):
    code = "prices.unknown"
    status = 404


quote = Operation("prices.quote", Order, Price, rejects=(Unknown,))
look = Operation("prices.look", Order, Price, mode="volatile")


class Shop:
    """A service that asks for prices, tells of sales, hears of them, and fails to order."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.heard: list[Price] = []
        self.service = shop = Service("shop")
        self.sold = sold = shop.event("sold", Price)
        self.seen = seen = shop.event("seen", Price, mode="volatile")

        @shop.handler(rejects=(Unknown,), http="POST /orders")
        async def buy(order: Order, ctx: Context) -> Price:
            price = await ctx.call(quote, order)
            if self.failures:
                raise self.failures.pop(0)
            await ctx.publish(sold, price)
            await ctx.publish(seen, price)
            return price

        @shop.handler
        def count(order: Order, ctx: SyncContext) -> int:
            ctx.send(buy, order)
            return order.qty

        @shop.handler(attempts=2)
        async def once(order: Order) -> None:
            raise ValueError(order.sku)

        @shop.on(sold, attempts=2)
        async def hear(price: Price) -> None:
            if price.total < 0:
                raise ValueError("negative")
            self.heard.append(price)

        self.buy, self.count, self.once = buy, count, once


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def test_a_call_runs_through_all_services(shop: Shop):
    prices = Service("prices")

    @prices.handler(quote)
    async def answer(order: Order) -> Price:
        return Price(order.sku, 9.5 * order.qty)

    async with Harness(shop.service, prices) as h:
        reply = await h.call(shop.buy, Order("tea", 2))
        await h.idle()

        assert reply == Price("tea", 19.0)
        assert h.requests(quote) == [Order("tea", 2)]
        assert h.replies(quote) == [reply]
        assert h.published(shop.sold) == shop.heard == [reply]
        assert h.published(shop.seen) == [reply]
        assert (h.attempts(shop.buy), h.attempts(quote)) == (1, 1)


async def test_a_service_that_is_not_here_is_stubbed(shop: Shop):
    async with Harness(shop.service) as h:
        h.stub(quote, lambda order: Price(order.sku, 1.0))
        h.stub(look, Price("any", 2.0))

        assert await h.call(shop.buy, Order("tea")) == Price("tea", 1.0)
        assert await h.call(look, Order("tea")) == Price("any", 2.0)
        h.stub(quote, Unknown("no such thing", sku="tea"))
        with pytest.raises(Unknown, match="no such thing"):
            await h.call(shop.buy, Order("tea"))
        [_, refusal] = h.replies(quote)
        assert isinstance(refusal, Unknown)
        assert refusal.details == {"sku": "tea"}


async def test_a_handler_that_is_here_can_be_stubbed_too(shop: Shop):
    async with Harness(shop.service) as h:
        h.stub(shop.count, lambda order: order.qty + 1)
        h.stub(shop.buy, Price("stub", 0.0))

        assert await h.call(shop.count, Order("tea", 4)) == 5
        assert await h.call(shop.buy, Order("tea")) == Price("stub", 0.0)


async def test_a_call_waits_through_the_retries_of_its_handler(shop: Shop):
    shop.failures = [ValueError("first"), Retry("second", after=20)]

    async with Harness(shop.service) as h:
        h.stub(quote, Price("tea", 1.0))

        assert await h.call(shop.buy, Order("tea")) == Price("tea", 1.0)
        assert h.attempts(shop.buy) == 3
        assert h.published(shop.sold) == [Price("tea", 1.0)]


async def test_a_call_waits_no_longer_than_its_timeout(shop: Shop):
    shop.failures = [Retry("later", after=60)]

    async with Harness(shop.service) as h:
        h.stub(quote, Price("tea", 1.0))

        with pytest.raises(PendingError, match="its time is over") as caught:
            await h.call(shop.buy, Order("tea"), timeout="5s")
        await h.advance("1m")
        assert h.attempts(shop.buy) == 2
        assert await h.reply(shop.buy, caught.value.id) == Price("tea", 1.0)


async def test_a_call_that_nothing_can_answer_is_told_at_once(shop: Shop):
    lazy = Service("lazy")

    @lazy.handler(attempts=1, exhausted="park")
    async def work(order: Order) -> None:
        raise ValueError(order.sku)

    @lazy.handler(attempts=1, exhausted="park", mode="queued")
    async def toil(order: Order) -> None:
        raise ValueError(order.sku)

    async with Harness(lazy) as h:
        with pytest.raises(PendingError, match="nothing that could"):
            await h.call(work, Order("tea"), timeout=None)
        with pytest.raises(OutcomeUnknownError, match="nothing that could"):
            await h.call(toil, Order("tea"), timeout=None)

        assert [str(why).endswith("ValueError: tea") for why in (*h.parked(work), *h.parked(toil))] == [True, True]


async def test_what_is_sent_is_done_when_all_is_idle(shop: Shop):
    async with Harness(shop.service) as h:
        h.stub(quote, Price("tea", 1.0))

        await h.send(shop.count, Order("tea", 3))
        await h.idle()

        assert h.requests(shop.buy) == [Order("tea", 3)]
        assert shop.heard == [Price("tea", 1.0)]


async def test_time_stands_still_until_it_is_advanced(shop: Shop):
    async with Harness(shop.service) as h:
        await h.send(shop.once, Order("tea"))
        await h.idle()
        assert (h.attempts(shop.once), h.parked(shop.once)) == (1, [])

        await h.advance("1m")

        [why] = h.parked(shop.once)
        assert h.attempts(shop.once) == 2
        assert "ValueError: tea" in str(why)


async def test_an_exhausted_call_is_told_and_not_parked(shop: Shop):
    async with Harness(shop.service) as h:
        with pytest.raises(FailedError):
            await h.call(shop.once, Order("tea"))

        assert h.parked(shop.once) == []


async def test_an_event_that_many_hear_was_published_once(shop: Shop):
    heard: list[str] = []

    @shop.service.on(shop.seen, name="one")
    @shop.service.on(shop.sold, name="two")
    async def hear(price: Price) -> None:
        heard.append(price.sku)

    shop.service.on(shop.seen, name="three")(hear)

    async with Harness(shop.service) as h:
        await h.publish(shop.seen, Price("tea", 1.0))
        await h.publish(shop.sold, Price("rum", 1.0))
        await h.idle()

        assert sorted(heard) == ["rum", "tea", "tea"]
        assert h.published(shop.seen) == [Price("tea", 1.0)]


async def test_idle_waits_for_handlers_at_work_and_for_batches_that_fill():
    slow, done = Service("slow"), list[int]()

    @slow.handler
    async def work(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        done.append(turns)

    @slow.handler(batch=10, linger="20ms")
    async def gather(numbers: list[int]) -> None:
        done.append(sum(numbers))

    async with Harness(slow) as h:
        await h.send(work, 500)
        await h.idle()
        assert done == [500]

        await h.send(gather, 1)
        await h.send(gather, 2)
        await h.idle()
        assert done == [500, 3]


async def test_services_are_still_there_after_a_long_time(shop: Shop):
    async with Harness(shop.service) as h:
        h.stub(look, Price("any", 2.0))

        await h.advance("7d")

        assert await h.call(look, Order("tea")) == Price("any", 2.0)


async def test_a_stub_for_a_handler_that_is_not_there_is_refused(shop: Shop):
    async with Harness(shop.service) as h:
        with pytest.raises(UsageError, match=r"no handler 'shop\.missing'"):
            h.stub(Operation("shop.missing", Order, None), None)


async def test_a_service_of_stubs_answers_also_what_is_stubbed_later(shop: Shop):
    kept = Operation("prices.kept", Order, None)

    async with Harness(shop.service) as h:
        h.stub(quote, Price("tea", 1.0))
        assert await h.call(shop.buy, Order("tea")) == Price("tea", 1.0)
        h.stub(kept, None)
        h.stub(quote, Price("tea", 2.0))

        assert await h.call(kept, Order("tea")) is None
        assert await h.call(shop.buy, Order("tea")) == Price("tea", 2.0)
        assert (h.attempts(quote), h.attempts(kept)) == (2, 1)


async def test_the_test_publishes_in_any_services_name(shop: Shop):
    async with Harness(shop.service) as h:
        await h.publish(shop.sold, Price("tea", 2.0))
        await h.publish(shop.sold, Price("tea", -1.0))
        await h.advance("1h")

        assert shop.heard == [Price("tea", 2.0)]
        assert h.published(shop.sold) == [Price("tea", 2.0), Price("tea", -1.0)]
        [why] = h.parked(shop.sold)
        assert "ValueError: negative" in str(why)


async def test_a_handler_that_waits_keeps_its_delivery_while_time_passes(shop: Shop):
    slow, runs = Service("slow"), list[str]()

    @slow.handler(attempts=9, backoff="10m..10m")
    async def work(order: Order) -> int:
        runs.append(order.sku)
        if len(runs) < 2:
            raise ValueError("not yet")
        return 1

    @slow.handler
    async def wait(order: Order, ctx: Context) -> int:
        return await ctx.call(work, order, timeout="1h")

    async with Harness(slow) as h:
        await h.send(wait, Order("tea"))
        await h.advance("15m")

        assert (h.attempts(wait), h.attempts(work)) == (1, 2)


async def test_http_goes_through_a_gateway_and_waits_through_retries(shop: Shop):
    shop.failures = [Retry("busy", after=3)]

    async with Harness(shop.service) as h:
        h.stub(quote, Price("tea", 1.0))
        answer = await h.http.post("/orders", json={"sku": "tea"})
        h.stub(quote, Unknown("no such thing"))
        refused = await h.http.post("/orders", json={"sku": "tea"})
        unfit = await h.http.post("/orders", json={"qty": 1})

        assert (answer.status_code, answer.json()) == (200, {"sku": "tea", "total": 1.0})
        assert (refused.status_code, refused.json()["code"]) == (404, "prices.unknown")
        assert unfit.status_code == 422
        assert h.attempts(shop.buy) == 3


async def test_the_same_seed_gives_the_same_ids(shop: Shop):
    async def ids(seed: int) -> list[str]:
        async with Harness(Shop().service, seed=seed) as h:
            return [await h.send(shop.once, Order("tea")) for _ in range(3)]

    assert await ids(1) == await ids(1)
    assert await ids(1) != await ids(2)


async def test_a_store_that_is_named_otherwise_than_by_its_url_is_refused(shop: Shop):
    with pytest.raises(NotBuiltError, match="URLs of stores"):
        Harness(shop.service, stores={shop.service: object()})


async def test_a_harness_that_is_not_started_says_so(shop: Shop):
    h = Harness(shop.service)

    with pytest.raises(UsageError, match="async with"):
        await h.call(shop.buy, Order("tea"))
