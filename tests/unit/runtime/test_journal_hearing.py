"""Journaled events at those who hear them: each subscription has each event once, whoever runs it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from posthouse import Context, Service
from posthouse.message.codec import decode
from posthouse.message.message import Kind
from tests.house import House, until
from tests.unit.runtime.audit import LATER, Audit, Price, answer_of, publish, publisher, quoted

pytestmark = pytest.mark.anyio


async def test_one_copy_goes_to_a_process_however_many_subscriptions_hear_it_there(house: House):
    audit, archive, heard = Audit(), Audit("archive"), list[int]()

    @audit.service.on(quoted)
    async def again(price: Price) -> None:
        heard.append(price.number)

    host = await house.serve(publisher())
    for _ in range(2):
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


async def test_an_event_that_comes_again_while_it_runs_and_later_is_had_once(house: House):
    audit, ran, may_end = Service("audit"), list[int](), asyncio.Event()

    @audit.on(quoted)
    async def note(price: Price) -> None:
        ran.append(price.number)
        await may_end.wait()

    host = await house.serve(publisher())
    await house.serve(audit)
    frames: list[tuple[str, bytes]] = []
    send = host.transport.direct.send

    def twice(peer: str, frame: bytes) -> None:
        for _ in range(2):
            send(peer, frame)
        if decode(frame).kind is Kind.EVENT:
            frames.append((peer, frame))

    host.transport.direct.send = twice
    await publish(house, range(3))
    await asyncio.sleep(1)
    for peer, frame in list(frames):
        send(peer, frame)
    await asyncio.sleep(1)
    may_end.set()
    await asyncio.sleep(1)
    for peer, frame in list(frames):
        send(peer, frame)
    await asyncio.sleep(LATER)

    assert sorted(ran) == [0, 1, 2]
    assert await house.requests("audit.note") == []


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


async def test_a_handler_that_hears_an_event_calls_and_its_call_is_made_once_though_it_runs_again(house: House):
    audit, stock = Service("audit", schema=["CREATE TABLE heard (number INTEGER)"]), Service("stock")
    asked: list[int] = []
    ran: list[int] = []

    @stock.handler
    async def take(price: Price) -> int:
        asked.append(price.number)
        await asyncio.sleep(30)
        return price.number * 2

    @audit.on(quoted)
    async def note(price: Price, ctx: Context) -> None:
        ran.append(price.number)
        doubled = await ctx.call(take, price, timeout="5m")
        db = await ctx.transaction()
        await db.execute("INSERT INTO heard VALUES (?)", (doubled,))
        if ran.count(price.number) == 1:
            raise ValueError("not yet")

    await house.serve(publisher())
    await house.serve(stock)
    host = await house.serve(audit)
    await publish(house, [4])
    await until(answer_of(asked), bool)
    await host.drain(grace=5.0)
    await host.close()
    await house.serve(audit)
    await until(lambda: house.rows("audit", "SELECT number FROM heard"), bool)
    await asyncio.sleep(LATER)

    assert await house.rows("audit", "SELECT number FROM heard") == [(8,)]
    assert asked == [4]


async def test_a_drain_lets_events_end_and_leaves_the_others_to_the_next_instance(house: House):
    audit = Audit()
    await house.serve(publisher())
    host = await house.serve(audit.service)
    publishing = asyncio.create_task(publish(house, range(50)))
    await until(answer_of(audit.ran), bool)
    await host.drain()
    await host.close()
    await publishing
    assert len(await house.requests("audit.note")) < 50

    await house.serve(audit.service)

    await audit.hears(house, range(50))
