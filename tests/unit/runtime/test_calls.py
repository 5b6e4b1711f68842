"""What a caller gets: the reply, or the error as it was over there, and at once where that is possible."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from msgspec import Struct

from posthouse import (
    Context,
    ContractError,
    Event,
    ExpiredError,
    FailedError,
    NotDoneError,
    NotServedError,
    Operation,
    OutcomeUnknownError,
    PendingError,
    QueueFullError,
    Reject,
    Retry,
    Service,
    UsageError,
)
from posthouse.errors import (
    ConfigError,
    InvalidDataError,
    NotDurableError,
    TooLargeError,
    UnavailableError,
    UnknownServiceError,
)
from posthouse.message.message import Mode
from posthouse.runtime.caller import FRAME_LIMIT
from posthouse.runtime.directory import PATIENCE
from tests.house import House, unanswered, until, waiting

pytestmark = pytest.mark.anyio


class Order(Struct):
    sku: str
    qty: int = 1


class Price(Struct):
    sku: str
    total: float


class CardRefused(Reject):
    """The bank said no."""

    code = "card.refused"
    status = 402

    def __init__(self, bank: str, limit: int) -> None:
        super().__init__(f"{bank} refused", limit=limit)


# --- the three verbs ----------------------------------------------------------------------------------


async def test_a_call_is_answered_and_an_event_is_heard(house: House, mode: Any):
    prices, audit = Service("prices"), Service("audit")
    quoted = prices.event("quoted", Price)
    heard: list[Price] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> Price:
        price = Price(order.sku, 9.5 * order.qty)
        await ctx.publish(quoted, price)
        return price

    @audit.on(quoted)
    async def note(price: Price) -> None:
        heard.append(price)

    await house.serve(prices, audit)
    client = await house.client()

    assert await client.call(quote, Order("tea", 2)) == Price("tea", 19.0)
    await house.settled("audit.note")
    assert heard == [Price("tea", 19.0)]
    await house.settled("prices.quote")


async def test_a_request_that_nobody_waits_for_is_run_and_no_reply_is_sent(house: House, mode: Any):
    prices = Service("prices")
    seen: list[tuple[str, int, str]] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> Price:
        seen.append((ctx.id, ctx.attempt, ctx.caller))
        return Price(order.sku, 1.0)

    await house.serve(prices)
    client = await house.client("shop")

    id = await client.send(quote, Order("tea"))
    await house.settled("prices.quote")
    assert seen == [(id, 1, "shop")]


async def test_what_a_handler_sends_leaves_only_when_it_ends_well(house: House, mode: Any):
    prices, audit = Service("prices"), Service("audit")
    quoted = prices.event("quoted", Price)
    heard: list[str] = []
    attempts: list[int] = []

    @prices.handler(backoff="1s..1s", mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        await ctx.publish(quoted, Price(f"try {ctx.attempt}", 1.0))
        await ctx.send(keep, Price(f"try {ctx.attempt}", 1.0))
        if ctx.attempt < 3:
            raise ValueError("not yet")

    @audit.handler(mode=mode)
    async def keep(price: Price) -> None:
        heard.append(f"kept {price.sku}")

    @audit.on(quoted)
    async def note(price: Price) -> None:
        heard.append(f"noted {price.sku}")

    await house.serve(prices, audit)
    client = await house.client()

    await client.call(quote, Order("tea"))
    await house.settled("audit.note")
    await house.settled("audit.keep")
    assert attempts == [1, 2, 3]
    assert sorted(heard) == ["kept try 3", "noted try 3"]


# --- a handler's own no -------------------------------------------------------------------------------


async def test_a_reject_reaches_the_caller_as_the_class_that_it_was(house: House, any_mode: Any):
    pay = Service("pay")

    @pay.handler(rejects=(CardRefused,), mode=any_mode)
    async def charge(order: Order) -> None:
        raise CardRefused("Bank", limit=order.qty)

    await house.serve(pay)
    client = await house.client()

    with pytest.raises(CardRefused, match="Bank refused") as caught:
        await client.call(charge, Order("tea", 7))
    assert (caught.value.code, caught.value.status, caught.value.details) == ("card.refused", 402, {"limit": 7})
    assert caught.value.message_id
    assert await house.dead() == []


async def test_a_reject_that_the_contract_does_not_list_is_a_reject_all_the_same(house: House, mode: Any):
    pay = Service("pay")

    @pay.handler(mode=mode)
    async def charge(order: Order) -> None:
        raise Reject("no", code="card.odd", status=451, why=[1, {"deep": None}])

    await house.serve(pay)
    client = await house.client()

    with pytest.raises(Reject) as caught:
        await client.call(charge, Order("tea"))
    assert type(caught.value) is Reject
    assert (caught.value.code, caught.value.status) == ("card.odd", 451)
    assert caught.value.details == {"why": [1, {"deep": None}]}


@pytest.mark.parametrize("returned", [False, True])
async def test_raised_a_reject_drops_what_was_sent_and_returned_it_keeps_it(house: House, mode: Any, returned: bool):
    pay = Service("pay")
    undone: list[str] = []

    @pay.handler(rejects=(CardRefused,), mode=mode)
    async def charge(order: Order, ctx: Context) -> Reject | None:
        await ctx.send(undo, order)
        if returned:
            return CardRefused("Bank", limit=1)
        raise CardRefused("Bank", limit=1)

    @pay.handler(mode=mode)
    async def undo(order: Order) -> None:
        undone.append(order.sku)

    await house.serve(pay)
    client = await house.client()

    with pytest.raises(CardRefused):
        await client.call(charge, Order("tea"))
    await asyncio.sleep(60)
    assert undone == (["tea"] if returned else [])


async def test_a_reject_that_nobody_waits_for_leaves_a_dead_letter(house: House, mode: Any):
    pay = Service("pay")

    @pay.handler(rejects=(CardRefused,), mode=mode)
    async def charge(order: Order) -> None:
        raise CardRefused("Bank", limit=1)

    await house.serve(pay)
    client = await house.client()

    id = await client.send(charge, Order("tea"))
    [letter] = await house.bury(1)
    assert (letter.state, letter.code, letter.attempts) == ("failed", "card.refused", 1)
    assert letter.message == id


async def test_a_decided_outcome_that_a_handler_lets_pass_travels_on(house: House, mode: Any):
    shop, pay = Service("shop"), Service("pay")
    runs: list[str] = []

    @pay.handler(rejects=(CardRefused,), mode=mode)
    async def charge(order: Order) -> None:
        raise CardRefused("Bank", limit=3)

    @shop.handler(rejects=(CardRefused,), mode=mode)
    async def buy(order: Order, ctx: Context) -> None:
        runs.append(ctx.id)
        await ctx.call(charge, order)

    await house.serve(shop, pay)
    client = await house.client()

    with pytest.raises(CardRefused) as caught:
        await client.call(buy, Order("tea"))
    assert caught.value.details == {"limit": 3}
    assert len(runs) == 1


async def test_what_a_task_group_wraps_means_what_it_means_alone(house: House, mode: Any):
    pay, runs = Service("pay"), list[int]()

    async def refuse(order: Order) -> None:
        raise CardRefused("Bank", limit=order.qty)

    @pay.handler(rejects=(CardRefused,), mode=mode)
    async def charge(order: Order, ctx: Context) -> None:
        runs.append(ctx.attempt)
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse(order))
            if order.qty == 2:
                group.create_task(refuse(order))

    await house.serve(pay)
    client = await house.client()

    with pytest.raises(CardRefused, match="Bank refused"):
        await client.call(charge, Order("tea", 1))
    assert runs == [1]
    with pytest.raises(FailedError, match="2 sub-exceptions"):  # which of the two?
        await client.call(charge, Order("tea", 2))


# --- failures -----------------------------------------------------------------------------------------


async def test_a_caller_is_told_after_three_attempts(house: House, mode: Any):
    prices = Service("prices")
    at: list[float] = []

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None:
        at.append(asyncio.get_running_loop().time())
        raise ValueError("out of tea")

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(FailedError, match=r"prices.quote failed after 3 attempts: ValueError: out of tea"):
        await client.call(quote, Order("tea"))
    assert len(at) == 3
    assert at[2] - at[0] < 1.0
    [letter] = await house.bury(1)
    assert (letter.state, letter.code, letter.attempts) == ("failed", "handler.failed", 3)
    assert "ValueError: out of tea" in letter.detail


async def test_what_nobody_waits_for_is_parked_after_eight_attempts(house: House, mode: Any):
    prices = Service("prices")
    attempts: list[int] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("out of tea")

    await house.serve(prices)
    client = await house.client()

    await client.send(quote, Order("tea"))
    [letter] = await house.bury(1)
    assert attempts == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (letter.state, letter.attempts) == ("parked", 8)
    assert "\n" not in letter.reason


async def test_a_cause_of_many_lines_is_told_in_one(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(attempts=1, mode=mode)
    async def quote(order: Order) -> None:
        raise ValueError("first\nsecond\r\n  third" + "x" * 100_000)

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(FailedError) as caught:
        await client.call(quote, Order("tea"))
    assert "first second third" in str(caught.value)
    [letter] = await house.bury(1)
    assert "\n" not in letter.reason
    assert len(letter.reason) < 3000


async def test_an_error_whose_text_cannot_be_had_is_a_failure_like_any_other(house: House, mode: Any):
    class Broken(Exception):  # noqa: N818 - a user may name it so
        def __str__(self) -> str:
            raise RuntimeError("no text")

    prices = Service("prices")

    @prices.handler(attempts=1, mode=mode)
    async def quote(order: Order) -> None:
        raise Broken

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(FailedError, match="Broken"):
        await client.call(quote, Order("tea"))


async def test_the_handlers_own_word_beats_the_defaults(house: House, mode: Any):
    prices = Service("prices")
    attempts: list[int] = []

    @prices.handler(attempts=2, exhausted="park", mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError

    @prices.handler(attempts=2, exhausted="fail", mode=mode)
    async def offer(order: Order, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(unanswered(mode)):
        await client.call(quote, Order("tea"), timeout="60s")
    await client.send(offer, Order("tea"))
    parked, failed = await house.bury(2)
    assert attempts == [1, 2, 1, 2]
    assert (parked.state, failed.state) == ("parked", "failed")


@pytest.mark.parametrize("after", [5, "5s"])
async def test_a_handler_says_when_it_wants_to_try_again(house: House, mode: Any, after: Any):
    prices = Service("prices")
    at: list[float] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        at.append(asyncio.get_running_loop().time())
        if ctx.attempt == 1:
            raise Retry("the market is closed", after=after)

    await house.serve(prices)
    client = await house.client()

    await client.call(quote, Order("tea"))
    assert at[1] - at[0] == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("after", [-1, "soon", float("nan"), [5], None])
async def test_an_order_to_retry_that_cannot_be_read_is_still_a_failure(house: House, mode: Any, after: Any):
    prices = Service("prices")
    attempts: list[int] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise Retry(after=after)

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(FailedError):
        await client.call(quote, Order("tea"))
    assert attempts == [1, 2, 3]


async def test_a_cancellation_that_comes_from_inside_is_a_failure(house: House, mode: Any):
    """As when a handler awaits a task that somebody else canceled."""
    prices = Service("prices")
    attempts: list[int] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        other = asyncio.create_task(asyncio.sleep(60))
        other.cancel()
        await other

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(FailedError, match="cancel"):
        await client.call(quote, Order("tea"), timeout="5s")
    assert attempts == [1, 2, 3]


async def test_a_reply_that_cannot_be_written_is_a_failure(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(attempts=1, mode=mode)
    async def quote(order: Order) -> Price:
        reply: Any = object()
        return reply

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(FailedError, match="object"):
        await client.call(quote, Order("tea"))


async def test_a_reply_too_large_for_a_message_is_told_and_not_lost(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> str:
        return "x" * (FRAME_LIMIT + 1)

    await house.serve(prices)
    client = await house.client()

    with pytest.raises((FailedError, TooLargeError), match="bytes"):
        await client.call(quote, Order("tea"), timeout="60s")


# --- data and contracts -------------------------------------------------------------------------------


async def test_wrong_data_is_told_with_the_path_of_the_field_and_not_run(house: House, any_mode: Any):
    prices = Service("prices")
    runs: list[Order] = []

    @prices.handler(mode=any_mode)
    async def quote(order: Order) -> None:
        runs.append(order)

    await house.serve(prices)
    client = await house.client()
    loose = Operation("prices.quote", dict[str, Any], None, mode=any_mode)

    with pytest.raises(InvalidDataError, match=r"\$\.qty"):
        await client.call(loose, {"sku": "tea", "qty": "two"})
    assert runs == []
    assert await house.dead() == []


async def test_wrong_data_that_nobody_waits_for_is_parked(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None: ...

    await house.serve(prices)
    client = await house.client()

    await client.send(Operation("prices.quote", dict[str, Any], None, mode=mode), {"qty": 1})
    [letter] = await house.bury(1)
    assert (letter.state, letter.code, letter.attempts) == ("parked", "data.invalid", 1)


@pytest.mark.parametrize("data", [b"", b"{", b'{"sku":"\xff"}', b"[" * 100_000, b"\x00"])
async def test_data_that_is_no_json_is_invalid_whatever_it_is(house: House, mode: Any, data: bytes):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None: ...

    host = await house.serve(prices)
    ticket = await host.caller.ask("prices.quote", data, mode=quote.promise, source="shop", expires_in=60.0)
    reply = await ticket.reply

    assert reply.refusal is not None
    assert reply.refusal.code == "data.invalid"


async def test_a_type_that_fails_at_reading_data_is_a_failure_of_the_handler(house: House, mode: Any):
    class Fragile(Struct):
        sku: str

        def __post_init__(self) -> None:
            raise KeyError(self.sku)

    prices = Service("prices")

    @prices.handler(attempts=2, mode=mode)
    async def quote(order: Fragile) -> None: ...

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(FailedError, match="KeyError"):
        await client.call(Operation("prices.quote", dict[str, str], None, mode=mode), {"sku": "tea"}, timeout="60s")


async def test_a_reply_of_another_type_than_the_callers_is_a_contract_error(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> Price:
        return Price("tea", 1.0)

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(ContractError, match=r"reply of prices.quote"):
        await client.call(Operation("prices.quote", Order, int, mode=mode), Order("tea"))


async def test_data_of_another_type_than_the_contract_never_leaves(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None: ...

    await house.serve(prices)
    client = await house.client()
    wrong: Any = Price("tea", 1.0)

    with pytest.raises(InvalidDataError, match="takes Order, and was given Price"):
        await client.call(quote, wrong)
    with pytest.raises(TooLargeError):
        await client.call(quote, Order("x" * (FRAME_LIMIT + 1)))


@pytest.mark.parametrize("verb", ["call", "send"])
async def test_a_caller_whose_contract_says_another_mode_is_refused(house: House, mode: Any, verb: str):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None: ...

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(ContractError, match=f"{mode} for its service, and volatile for this caller"):
        await getattr(client, verb)(Operation("prices.quote", Order, None, mode="volatile"), Order("tea"))


@pytest.mark.parametrize("env", ["dev", "prod"])
@pytest.mark.parametrize("mode", ["queued", "journaled"])
async def test_what_must_be_kept_is_refused_on_memory_outside_of_tests(house: House, mode: Any, env: str):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None: ...

    host = await house.open(env=env)
    with pytest.raises((NotDurableError, ConfigError), match=rf"prices\.quote is {mode}"):
        await host.serve(prices)
    assert host.directory.contracts == {}


async def test_an_event_of_another_service_is_refused(house: House):
    client = await house.client("shop")

    with pytest.raises(UsageError, match="published by 'prices'"):
        await client.publish(Event("prices.quoted", Price), Price("tea", 1.0))


# --- nobody there -------------------------------------------------------------------------------------


async def test_a_volatile_request_that_nobody_serves_is_told_at_once(house: House):
    prices = Service("prices")

    @prices.handler(mode="volatile")
    async def quote(order: Order) -> None: ...

    host = await house.open()
    await host.announce(prices)
    client = await house.client()
    loop = asyncio.get_running_loop()
    before = loop.time()

    with pytest.raises(NotServedError, match=r"nobody serves prices\.quote"):
        await client.call(quote, Order("tea"))
    with pytest.raises(NotServedError):
        await client.send(quote, Order("tea"))
    assert loop.time() - before < 0.1


async def test_volatile_requests_beyond_the_backlog_are_told_at_once(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("posthouse.runtime.host.VOLATILE_BACKLOG", 2)
    prices = Service("prices", concurrency=1)
    release = asyncio.Event()

    @prices.handler(mode="volatile")
    async def quote(order: Order) -> str:
        await release.wait()
        return order.sku

    await house.serve(prices)
    client = await house.client()
    asked = [asyncio.create_task(client.call(quote, Order(sku))) for sku in ("tea", "milk")]
    await asyncio.sleep(1)

    with pytest.raises(QueueFullError, match=r"prices\.quote"):
        await client.call(quote, Order("salt"))

    release.set()
    assert await asyncio.gather(*asked) == ["tea", "milk"]


async def test_a_queued_operation_takes_nothing_volatile(house: House, mode: Any):
    prices = Service("prices")
    ran: list[str] = []

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None:
        ran.append(order.sku)

    host = await house.serve(prices)
    asking = await house.open()
    ticket = await asking.caller.ask("prices.quote", b'{"sku":"tea"}', mode=Mode.VOLATILE, source="shop")

    refusal = (await ticket.reply).refusal

    assert refusal is not None
    assert (refusal.code, ran) == ("service.not_served", [])
    await host.drain()


async def test_a_name_that_nobody_announced_is_told_after_a_little_patience(house: House, mode: Any):
    client = await house.client()
    loop = asyncio.get_running_loop()
    before = loop.time()

    with pytest.raises(UnknownServiceError, match=r"nobody has announced 'prices\.quote'"):
        await client.call(Operation("prices.quote", Order, None, mode=mode), Order("tea"))
    assert loop.time() - before == pytest.approx(PATIENCE, abs=0.1)


async def test_a_service_that_comes_a_moment_later_is_found(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> str:
        return order.sku

    client = await house.client()
    asking = asyncio.create_task(client.call(quote, Order("tea")))
    await asyncio.sleep(PATIENCE / 2)
    await house.serve(prices)

    assert await asking == "tea"


async def test_a_name_that_its_service_does_not_have_is_told_with_those_that_it_has(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None: ...

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(UnknownServiceError, match=r"offers prices\.quote"):
        await client.send(Operation("prices.quoot", Order, None, mode=mode), Order("tea"))


@pytest.mark.parametrize("mode", ["queued", "adopted"], indirect=True)  # who has a store keeps it there
async def test_a_full_queue_is_told_at_once_and_keeps_what_it_has(house: House, mode: Any):
    prices = Service("prices", capacity=2)

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None: ...

    host = await house.open()
    await host.announce(prices)
    client = await house.client()

    await client.send(quote, Order("one"))
    await client.send(quote, Order("two"))
    with pytest.raises(QueueFullError, match=r"'prices\.quote' is at its capacity of 2"):
        await client.send(quote, Order("three"))
    with pytest.raises(QueueFullError):
        await client.call(quote, Order("four"))
    assert (await house.queue("prices.quote")).stored == 2


# --- time ---------------------------------------------------------------------------------------------


async def test_a_call_gives_up_when_its_time_is_over_and_says_what_is_known(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None:
        await asyncio.sleep(60)

    await house.serve(prices)
    client = await house.client()
    loop = asyncio.get_running_loop()
    before = loop.time()

    said = "is stored" if mode == "journaled" else "may have been done"
    with pytest.raises(unanswered(mode), match=said):
        await client.call(quote, Order("tea"), timeout="5s")
    assert loop.time() - before == pytest.approx(5.0, abs=0.1)


async def test_many_times_are_kept_apart_by_the_one_timer(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None:
        await asyncio.sleep(400)

    await house.serve(prices)
    client = await house.client()
    loop = asyncio.get_running_loop()
    before = loop.time()
    ended: dict[int, float] = {}

    async def ask(wait: int) -> None:
        with pytest.raises(unanswered(mode)):
            await client.call(quote, Order("tea"), timeout=wait)
        ended[wait] = loop.time() - before

    await asyncio.gather(*(ask(wait) for wait in (30, 5, 20, 10, 1)))
    assert list(ended) == [1, 5, 10, 20, 30]
    assert all(took == pytest.approx(wait, abs=0.1) for wait, took in ended.items())


async def test_a_deadline_travels_and_is_inherited(house: House, mode: Any):
    shop, prices = Service("shop"), Service("prices")
    seen: list[Any] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        seen.append(ctx.deadline)

    @shop.handler(mode=mode)
    async def buy(order: Order, ctx: Context) -> None:
        seen.append(ctx.deadline)
        await ctx.call(quote, order)
        await ctx.call(quote, order, deadline="1h")
        await ctx.call(quote, order, deadline="1s")

    await house.serve(shop, prices)
    client = await house.client()

    await client.call(buy, Order("tea"), deadline="20s")
    whole, inherited, no_later, sooner = seen
    assert whole == inherited == no_later
    assert (whole - sooner).total_seconds() == pytest.approx(19.0, abs=0.1)
    await client.call(quote, Order("tea"))
    assert seen[-1] is None


async def test_a_request_whose_deadline_has_passed_is_told_and_not_run(house: House, any_mode: Any):
    prices = Service("prices", concurrency=1)
    runs: list[str] = []

    @prices.handler(mode=any_mode)
    async def quote(order: Order) -> None:
        runs.append(order.sku)
        await asyncio.sleep(10)

    host = await house.serve(prices)
    client = await house.client()
    slow = asyncio.create_task(client.call(quote, Order("slow")))
    await asyncio.sleep(1)
    # Not through the client, which stops waiting at the deadline by itself.
    ticket = await host.caller.ask(
        "prices.quote",
        b'{"sku":"late"}',
        mode=quote.promise,
        source="shop",
        deadline=host.seams.clock.now() + 5.0,
    )

    reply = await ticket.reply
    assert reply.refusal is not None
    assert reply.refusal.code == "deadline.expired"
    await slow
    assert runs == ["slow"]
    assert await house.dead() == []


async def test_a_deadline_that_passed_before_asking_is_told_without_asking(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None: ...

    host = await house.open()
    await host.announce(prices)
    client = await house.client()

    with pytest.raises(ExpiredError):
        await client.call(quote, Order("tea"), deadline=0)
    assert (await house.queue("prices.quote")).stored == 0


async def test_a_sent_request_whose_deadline_passes_leaves_a_dead_letter(house: House, mode: Any):
    prices = Service("prices")
    runs: list[str] = []

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None:
        runs.append(order.sku)

    host = await house.open()
    await host.announce(prices)
    client = await house.client()
    await client.send(quote, Order("tea"), deadline="5s")
    await asyncio.sleep(6)
    await host.serve(prices)

    [letter] = await house.bury(1)
    assert (letter.state, letter.code) == ("failed", "deadline.expired")
    assert runs == []


@pytest.mark.parametrize("wrong", ["soon", -1])
async def test_a_time_that_cannot_be_read_is_a_usage_error(house: House, mode: Any, wrong: Any):
    prices = Service("prices")
    seen: list[str] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        for how in ({"timeout": wrong}, {"deadline": wrong}):
            with pytest.raises(UsageError):
                await ctx.call(quote, order, **how)
        seen.append("refused")

    await house.serve(prices)
    client = await house.client()

    for how in ({"timeout": wrong}, {"deadline": wrong}):
        with pytest.raises(UsageError):
            await client.call(quote, Order("tea"), **how)
    await client.call(quote, Order("tea"))
    assert seen == ["refused"]


async def test_an_attempt_that_takes_too_long_is_canceled_and_tried_again(house: House, mode: Any):
    prices = Service("prices", concurrency=1)
    events: list[str] = []

    @prices.handler(timeout="2s", attempts=2, mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            events.append(f"canceled {ctx.attempt}")
            raise

    await house.serve(prices)
    client = await house.client()

    with pytest.raises(FailedError, match="timed out after 2 s"):
        await client.call(quote, Order("tea"))
    assert events == ["canceled 1", "canceled 2"]


async def test_a_handlers_own_time_out_is_its_own(house: House, mode: Any):
    prices = Service("prices", concurrency=1)

    @prices.handler(timeout="10s", mode=mode)
    async def quote(order: Order, ctx: Context) -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(3600)
        except TimeoutError:
            return "gave up by itself"
        return "never"

    await house.serve(prices)
    client = await house.client()

    assert await client.call(quote, Order("tea")) == "gave up by itself"
    assert await client.call(quote, Order("tea")) == "gave up by itself"


async def test_a_handler_that_was_canceled_and_ended_well_has_ended_well(house: House, mode: Any):
    prices = Service("prices", concurrency=1)

    @prices.handler(timeout="2s", mode=mode)
    async def quote(order: Order) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(1)
        return "late, but here"

    await house.serve(prices)
    client = await house.client()

    assert await client.call(quote, Order("tea")) == "late, but here"


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_time_out_leaves_nothing_to_the_next_message_in_the_same_task(house: House, swallows: bool):
    """Else the next one's own asyncio.timeout would take its cancellation for somebody else's."""
    prices = Service("prices", concurrency=1)
    tasks: list[asyncio.Task[Any] | None] = []
    outcomes: list[str] = []

    @prices.handler(timeout="2s", mode="volatile")  # of these, one task takes many
    async def quote(order: Order) -> None:
        task = asyncio.current_task()
        tasks.append(task)
        assert task is not None
        assert task.cancelling() == 0
        if order.sku == "late":
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if not swallows:
                    raise
            return
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(3600)
        except TimeoutError:
            outcomes.append("gave up by itself")

    await house.serve(prices)
    client = await house.client()
    await asyncio.gather(*(client.call(quote, Order(sku)) for sku in ("late", "next")), return_exceptions=True)

    assert outcomes == ["gave up by itself"]
    assert len(set(tasks)) == 1


# --- the context --------------------------------------------------------------------------------------


async def test_a_context_does_nothing_after_its_handler_has_ended(house: House, mode: Any):
    prices = Service("prices")
    quoted = prices.event("quoted", Price)
    kept: list[Context] = []

    @prices.handler(attempts=1, mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        kept.append(ctx)
        if order.sku == "bad":
            raise ValueError

    await house.serve(prices)
    client = await house.client()
    await client.call(quote, Order("tea"))
    with pytest.raises(FailedError):
        await client.call(quote, Order("bad"))

    assert len(kept) == 2
    for ctx in kept:
        with pytest.raises(UsageError, match="after the handler has ended"):
            await ctx.send(quote, Order("tea"))
        with pytest.raises(UsageError, match="after the handler has ended"):
            await ctx.call(quote, Order("tea"))
        with pytest.raises(UsageError, match="after the handler has ended"):
            await ctx.publish(quoted, Price("tea", 1.0))


async def test_when_it_was_sent_and_its_id_are_the_same_on_every_attempt(house: House, mode: Any):
    prices = Service("prices")
    seen: list[Any] = []

    @prices.handler(mode=mode)
    async def quote(order: Order, ctx: Context) -> None:
        seen.append((ctx.id, ctx.sent))
        if len(seen) < 3:
            raise ValueError

    await house.serve(prices)
    await (await house.client()).call(quote, Order("tea"))
    assert len(seen) == 3
    assert len(set(seen)) == 1


# --- who stops waiting --------------------------------------------------------------------------------


async def test_who_is_canceled_while_waiting_leaves_nothing_behind(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> str:
        await asyncio.sleep(5)
        return order.sku

    await house.serve(prices)
    client = await house.client()
    asking = asyncio.create_task(client.call(quote, Order("tea")))
    await asyncio.sleep(1)
    assert waiting(house.hosts[1]) == 1

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert waiting(house.hosts[1]) == 0
    assert await client.call(quote, Order("milk")) == "milk"


async def test_a_thousand_cancellations_mix_up_no_answers(house: House, any_mode: Any):
    prices = Service("prices", concurrency=8)

    @prices.handler(mode=any_mode)
    async def quote(order: Order) -> str:
        await asyncio.sleep(0.001 * order.qty)
        return order.sku

    await house.serve(prices)
    host = await house.open()
    client = host.client("shop")
    rng = host.seams.rng
    answered: list[int] = []

    async def ask(number: int) -> None:
        reply = await client.call(quote, Order(str(number), rng.randrange(5)), timeout=None)
        assert reply == str(number)
        answered.append(number)

    tasks: list[asyncio.Task[None]] = []
    for number in range(1000):
        tasks.append(asyncio.create_task(ask(number)))
        if rng.random() < 0.5:
            await asyncio.sleep(rng.choice([0, 0, 0.0005, 0.003]))
        if rng.random() < 0.7:
            rng.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(result) for result in results} == {type(None), asyncio.CancelledError}
    assert len(answered) == results.count(None)
    assert waiting(host) == 0
    if any_mode == "queued":
        await house.settled("prices.quote")


async def test_everything_is_told_of_a_host_that_closes_while_someone_waits(house: House, mode: Any):
    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(order: Order) -> None:
        await asyncio.sleep(60)

    await house.serve(prices)
    host = house.host()
    await host.open()
    client = house.client_of(host)
    asking = asyncio.create_task(client.call(quote, Order("tea")))
    await asyncio.sleep(1)
    await host.close()

    with pytest.raises((OutcomeUnknownError, PendingError), match="stop"):
        await asking
    with pytest.raises((UnavailableError, UsageError)):
        await client.call(quote, Order("tea"))
    assert waiting(host) == 0


async def test_the_letters_that_are_replayed_run_again(house: House):
    prices = Service("prices")
    broken = True
    runs: list[int] = []

    @prices.handler(attempts=2, mode="queued")
    async def quote(order: Order, ctx: Context) -> None:
        runs.append(ctx.attempt)
        if broken:
            raise ValueError

    host = await house.serve(prices)
    await (await house.client()).send(quote, Order("tea"))
    [letter] = await house.bury(1)
    broken = False
    await host.transport.replay([letter.handle])
    await until(house.dead, lambda letters: letters == [])
    await house.settled("prices.quote")
    assert runs == [1, 2, 1]


def test_a_decided_error_is_a_not_done_error():
    assert issubclass(ExpiredError, NotDoneError)
