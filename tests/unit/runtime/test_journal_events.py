"""Journaled events: who publishes them, who hears them, and that each subscription has each of them once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, Event, Reject, Service, UsageError
from posthouse.errors import IdReusedError
from posthouse.message.codec import decode
from posthouse.message.message import Kind
from posthouse.testing.faults import Faults
from posthouse.testing.watched import Record
from tests.house import House, lossy, until

pytestmark = pytest.mark.anyio


class Price(Struct):
    number: int


LATER = 12.0
"""By then each subscription has asked its publishers twice more."""

quoted: Event[Price] = Event("prices.quoted", Price, mode="journaled")


def publisher(**how: Any) -> Service:
    """Return a service that publishes; nobody else may."""
    prices = Service("prices")
    prices.event("quoted", Price, mode="journaled", **how)
    return prices


class Audit:
    """A service that writes down what it hears: in a list, and in a table of its own."""

    def __init__(self, name: str = "audit", *, capacity: int = 1000, **how: Any) -> None:
        self.service = Service(name, capacity=capacity, schema=["CREATE TABLE heard (number INTEGER)"])
        self.ran: list[int] = []
        self.name = f"{name}.note"

        async def note(price: Price, ctx: Context) -> None:
            self.ran.append(price.number)
            db = await ctx.transaction()
            await db.execute("INSERT INTO heard VALUES (?)", (price.number,))

        self.service.on(quoted, **how)(note)

    async def heard(self, house: House) -> list[int]:
        rows = await house.rows(self.service.name, "SELECT number FROM heard ORDER BY number")
        return [number for (number,) in rows]

    async def hears(self, house: House, numbers: Any) -> None:
        """Wait until it has heard these, each once, and then a little longer."""
        wanted = sorted(numbers)
        await until(lambda: self.heard(house), lambda heard: len(heard) >= len(wanted))
        await asyncio.sleep(LATER)
        assert await self.heard(house) == wanted


async def publish(house: House, numbers: Any, *, host: int = 0) -> None:
    client = house.hosts[host].client("prices")
    await asyncio.gather(*(client.publish(quoted, Price(number)) for number in numbers))


def drop_events(house: House, which: Any, *, host: int = 0) -> None:
    """Lose the events on the direct path of a host for whose number this is true."""
    direct, send = house.hosts[host].transport.direct, house.hosts[host].transport.direct.send

    def send_some(peer: str, frame: bytes) -> None:
        message = decode(frame)
        if message.kind is not Kind.EVENT or message.lane is None or not which(message.lane.number):
            send(peer, frame)

    direct.send = send_some


# --- publishing -----------------------------------------------------------------------------------------


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


# --- hearing --------------------------------------------------------------------------------------------


async def test_one_copy_goes_to_a_process_however_many_subscriptions_hear_it_there(house: House):
    record = Record()
    audit, archive, heard = Audit(), Audit("archive"), list[int]()

    @audit.service.on(quoted)
    async def again(price: Price) -> None:
        heard.append(price.number)

    host = await house.serve(publisher(), wrap=lossy(Faults(), record))
    await house.serve(audit.service, archive.service)
    copies: list[int] = []
    send = host.transport.direct.send

    def counted(peer: str, frame: bytes) -> None:
        if (message := decode(frame)).kind is Kind.EVENT and message.lane is not None:
            copies.append(message.lane.number)
        send(peer, frame)

    host.transport.direct.send = counted
    await publish(house, range(10))

    await audit.hears(house, range(10))
    await archive.hears(house, range(10))
    assert sorted(heard) == list(range(10))
    assert Counter(copies) == dict.fromkeys(range(10), 1)


async def test_two_instances_of_a_subscriber_have_each_event_once(house: House):
    audit = Audit()
    await house.serve(publisher())
    await house.serve(audit.service)
    await house.serve(audit.service)

    for first in range(0, 60, 20):
        await publish(house, range(first, first + 20))

    await audit.hears(house, range(60))
    assert sorted(audit.ran) == list(range(60))


async def test_a_batch_of_events_is_had_as_a_whole(house: House):
    audit = Service("audit", schema=["CREATE TABLE heard (number INTEGER)"])
    sizes: list[int] = []

    @audit.on(quoted, batch=10)
    async def note(prices: list[Price], ctx: Context) -> None:
        sizes.append(len(prices))
        db = await ctx.transaction()
        await db.executemany("INSERT INTO heard VALUES (?)", [(price.number,) for price in prices])
        if len(sizes) == 1:
            raise ValueError("the first one fails")

    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(40))
    await until(lambda: house.rows("audit", "SELECT number FROM heard"), lambda rows: len(rows) >= 40)
    await asyncio.sleep(LATER)

    assert sorted(await house.rows("audit", "SELECT number FROM heard")) == [(number,) for number in range(40)]
    assert max(sizes) > 1


async def test_a_subscriber_that_was_away_hears_what_was_published_meanwhile(house: House):
    audit = Audit()
    await house.serve(publisher())
    away = await house.serve(audit.service)
    await publish(house, range(3))
    await audit.hears(house, range(3))
    await away.close()
    await publish(house, range(3, 9))

    await house.serve(audit.service)

    await audit.hears(house, range(9))


async def test_what_is_lost_on_its_way_is_asked_for(house: House):
    audit = Audit()
    await house.serve(publisher())
    await house.serve(audit.service)
    lost = {1, 4, 5}

    def first_time(number: int) -> bool:
        is_lost = number in lost
        lost.discard(number)
        return is_lost

    drop_events(house, first_time)
    before = asyncio.get_running_loop().time()
    await publish(house, range(8))
    await until(lambda: audit.heard(house), lambda heard: len(heard) == 8)

    assert asyncio.get_running_loop().time() - before < 1.0
    await audit.hears(house, range(8))


async def test_the_last_event_of_all_that_is_lost_is_found_by_the_regular_question(house: House):
    audit = Audit()
    await house.serve(publisher())
    await house.serve(audit.service)
    lost: list[int] = []

    def once(number: int) -> bool:
        lost.append(number)
        return lost.count(number) == 1

    drop_events(house, once)
    await publish(house, [1])
    assert lost == [0]

    await audit.hears(house, [1])


async def test_thousands_that_were_published_before_are_caught_up_with(house: House):
    audit = Audit(capacity=50, start="first")
    await house.serve(publisher())
    for first in range(0, 2000, 100):
        await publish(house, range(first, first + 100))

    await house.serve(audit.service)

    await audit.hears(house, range(2000))
    assert len(audit.ran) == 2000


async def test_no_more_events_lie_at_a_subscriber_than_its_capacity(house: House):
    slow = Service("audit", capacity=10, concurrency=4)
    may_end, ran = asyncio.Event(), list[int]()

    @slow.on(quoted)
    async def note(price: Price) -> None:
        await may_end.wait()
        ran.append(price.number)

    await house.serve(publisher())
    await house.serve(slow)
    await publish(house, range(100))
    await asyncio.sleep(20)

    assert 1 <= len(await house.requests("audit.note")) <= 10
    may_end.set()
    await until(_answer(ran), lambda ran: len(ran) >= 100)
    await asyncio.sleep(LATER)
    assert sorted(ran) == list(range(100))


def _answer(value: Any) -> Any:
    async def answer() -> Any:
        return value

    return answer
