"""Journaled events at their publisher: each is told once, with what it is about, and by nobody else."""

from __future__ import annotations

import asyncio

import pytest

from posthouse import Context, Reject, Service, UsageError
from posthouse.errors import IdReusedError
from posthouse.message.codec import decode
from posthouse.message.message import Kind
from tests.house import House, until
from tests.unit.runtime.audit import LATER, Audit, Price, answer_of, drop_events, publish, publisher, quoted

pytestmark = pytest.mark.anyio


async def test_what_a_client_publishes_is_heard_once_by_every_subscription(house: House):
    audit, archive = Audit(), Audit("archive")
    await house.serve(publisher())
    await house.serve(audit.service)
    await house.serve(archive.service)

    await publish(house, range(20))

    await audit.hears(house, range(20))
    await archive.hears(house, range(20))


async def test_an_event_is_published_with_the_effect_of_its_handler_or_not_at_all(house: House):
    prices, audit = publisher(), Audit()

    @prices.handler
    async def quote(price: Price, ctx: Context) -> None:
        await ctx.publish(quoted, price)
        if price.number == 2:
            raise Reject("too dear", code="prices.dear")

    await house.serve(prices)
    await house.serve(audit.service)
    client = await house.client()
    await client.call(quote, Price(1))
    with pytest.raises(Reject):
        await client.call(quote, Price(2))
    await client.call(quote, Price(3))

    await audit.hears(house, [1, 3])


async def test_an_event_of_a_handler_that_fails_first_is_published_once(house: House):
    prices, audit, runs = publisher(), Audit(), list[int]()

    @prices.handler
    async def quote(price: Price, ctx: Context) -> None:
        runs.append(price.number)
        await ctx.publish(quoted, price)
        if len(runs) < 3:
            raise ValueError("not yet")

    await house.serve(prices)
    await house.serve(audit.service)
    await (await house.client()).call(quote, Price(7))

    await audit.hears(house, [7])
    assert runs == [7, 7, 7]


async def test_a_handler_that_is_queued_publishes_journaled_events_when_it_has_ended_well(house: House):
    prices, audit = publisher(), Audit()

    @prices.handler(mode="queued")
    async def quote(price: Price, ctx: Context) -> None:
        await ctx.publish(quoted, price)
        if price.number == 2:
            raise Reject("too dear", code="prices.dear")

    await house.serve(prices)
    await house.serve(audit.service)
    client = await house.client()
    await client.call(quote, Price(1))
    with pytest.raises(Reject):
        await client.call(quote, Price(2))

    await audit.hears(house, [1])


async def test_an_id_of_the_applications_own_is_published_once_and_stands_for_one_event(house: House):
    audit = Audit()
    host = await house.serve(publisher())
    await house.serve(audit.service)
    client = host.client("prices")
    for _ in range(3):
        await client.publish(quoted, Price(1), id="order-1")
    with pytest.raises(IdReusedError):
        await client.publish(quoted, Price(2), id="order-1")
    await asyncio.gather(*(client.publish(quoted, Price(3), id="order-3") for _ in range(3)))

    await audit.hears(house, [1, 3])


async def test_only_its_service_publishes_an_event_and_only_with_a_store(house: House):
    await house.serve(publisher())
    host = await house.open()

    with pytest.raises(UsageError, match="published by 'prices'"):
        await host.client("shop").publish(quoted, Price(1))
    with pytest.raises(UsageError, match="store"):
        await host.client("prices").publish(quoted, Price(1))


async def test_what_is_published_while_nobody_subscribes_is_kept(house: House):
    await house.serve(publisher())

    await publish(house, range(5))

    [stream] = await house.read("prices", lambda books: books.streams("prices.quoted"))
    assert (stream.first, stream.next) == (0, 5)


async def test_what_a_handler_of_events_publishes_and_sends_commits_with_it(house: House):
    audit, stock, sold = Service("audit"), Service("stock"), list[str]()
    noted = audit.event("noted", Price, mode="journaled")

    @stock.on(noted)
    async def hear(price: Price) -> None:
        sold.append(f"noted {price.number}")

    @stock.handler
    async def take(price: Price) -> None:
        sold.append(f"took {price.number}")

    ran: list[int] = []

    @audit.on(quoted)
    async def note(price: Price, ctx: Context) -> None:
        ran.append(price.number)
        await ctx.publish(noted, price)
        await ctx.send(take, price)
        if len(ran) < 3:
            raise ValueError("not yet")

    await house.serve(publisher())
    await house.serve(stock)
    await house.serve(audit)
    await publish(house, [5])
    await until(answer_of(sold), lambda sold: len(sold) >= 2)
    await asyncio.sleep(LATER)

    assert sorted(sold) == ["noted 5", "took 5"]


async def test_who_is_shown_and_does_not_serve_can_publish_and_is_asked_for_what_was_missed(house: House):
    audit = Audit()
    host = await house.open()
    await host.announce(publisher())
    await host.join("prices")
    await house.serve(audit.service)
    lost: list[int] = []

    def once(number: int) -> bool:
        lost.append(number)
        return lost.count(number) == 1

    drop_events(house, once)
    await publish(house, [1])

    await audit.hears(house, [1])


async def test_an_event_that_was_told_before_is_not_sent_again(house: House):
    audit = Audit()
    host = await house.serve(publisher())
    await house.serve(audit.service)
    sent: list[bytes] = []
    send = host.transport.direct.send

    def seen(peer: str, frame: bytes) -> None:
        if not frame or decode(frame).kind is Kind.EVENT:
            sent.append(frame)
        send(peer, frame)

    host.transport.direct.send = seen
    for _ in range(3):
        await host.client("prices").publish(quoted, Price(1), id="order-1")

    await audit.hears(house, [1])
    assert len(sent) == 1
