"""Several instances on one store, and one after the other: who hears, who goes on, and what is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, Service
from posthouse.message.codec import decode
from posthouse.message.message import Kind
from posthouse.protocol.inbox import RequestState
from posthouse.testing.faults import Faults
from tests.house import House, lossy, until

pytestmark = pytest.mark.anyio


class Order(Struct):
    sku: str


def prices(*, took: float = 0.0) -> tuple[Service, Any, list[str]]:
    service, runs = Service("prices"), list[str]()

    @service.handler
    async def quote(order: Order) -> str:
        runs.append(order.sku)
        await asyncio.sleep(took)
        return order.sku.upper()

    return service, quote, runs


def till() -> Service:
    """Return a service that is there, so that its siblings are not alone."""
    service = Service("till")

    @service.handler
    async def sell(order: Order) -> None: ...

    return service


async def test_who_only_asks_hears_at_once_though_a_sibling_of_it_is_the_one_that_is_announced(house: House):
    service, quote, _runs = prices()
    await house.serve(service)
    await house.serve(till())
    client = await house.client("till")
    loop = asyncio.get_running_loop()
    before = loop.time()

    assert await client.call(quote, Order("tea")) == "TEA"
    assert loop.time() - before < 0.1


async def test_a_reply_that_a_sibling_took_in_is_found_by_who_waits_for_it(house: House):
    """The sibling never heard of the lane; and what is settled is not sent again as a reply."""
    service, quote, runs = prices()
    faults = Faults()
    await house.serve(service, wrap=lossy(faults))
    await house.serve(till())
    client = await house.client("till")
    faults.order(quote, "lose reply", times=1)  # that to the one who asked; the sibling gets its own

    asking = asyncio.create_task(client.call(quote, Order("tea")))
    await asyncio.sleep(0.5)
    [call] = await house.calls("prices.quote", of="till")

    assert call.state.final
    assert await asking == "TEA"
    assert runs == ["tea"]


async def test_a_reply_that_comes_after_a_sibling_took_it_in_is_heard_soon(house: House):
    """The request was put off for a minute when it was asked for again, so nothing else would wake who waits."""
    service, quote, _runs = prices(took=5.0)
    server = await house.serve(service)
    await house.serve(till())
    asker = await house.open()
    direct, send = server.transport.direct, server.transport.direct.send
    loop = asyncio.get_running_loop()

    def send_late(peer: str, frame: bytes) -> None:
        if peer == asker.peer and decode(frame).kind is Kind.REPLY:
            loop.call_later(0.2, send, peer, frame)
        else:
            send(peer, frame)

    direct.send = send_late

    before = loop.time()
    assert await house.client_of(asker, "till").call(quote, Order("tea")) == "TEA"
    assert loop.time() - before < 6.5


async def test_a_sibling_takes_over_what_the_dead_one_ran(house: House):
    service, quote, runs = prices(took=5.0)
    client = await house.client()
    hosts = [await house.serve(service) for _ in range(2)]
    asking = [asyncio.create_task(client.call(quote, Order(str(n)), timeout="5m")) for n in range(10)]
    await until(lambda: house.requests("prices.quote"), lambda rows: len(rows) == 10)
    await asyncio.sleep(1)
    await hosts[0].die()

    assert await asyncio.gather(*asking) == [str(n) for n in range(10)]
    assert 10 < len(runs) < 20


async def test_calls_of_a_dead_instance_are_asked_again_by_its_sibling(house: House):
    service, quote, runs = prices()
    host = await house.open()
    await host.announce(service)
    first, second = await house.open(), await house.open()
    await house.client_of(first, "till").send(quote, Order("tea"))
    client = house.client_of(second, "till")
    await client.send(quote, Order("milk"))
    await first.die()
    await host.serve(service)
    await house.settled("prices.quote")
    await until(lambda: house.requests("prices.quote"), lambda rows: rows == [])

    assert sorted(runs) == ["milk", "tea"]


async def test_who_closes_right_after_its_call_leaves_nothing_at_its_replier(house: House):
    service, quote, _runs = prices()
    await house.serve(service)
    caller = await house.open()
    await house.client_of(caller).call(quote, Order("tea"))
    assert [row.state for row in await house.requests("prices.quote")] == [RequestState.DONE]

    await caller.close()
    await asyncio.sleep(1)

    assert await house.requests("prices.quote") == []


async def test_the_store_that_was_named_for_a_service_stays_its_store_when_it_is_served(house: House):
    service = Service("till", schema=["CREATE TABLE book (entry TEXT)"])

    @service.handler
    async def sell(order: Order, ctx: Context) -> None:
        db = await ctx.transaction()
        await db.execute("INSERT INTO book VALUES (?)", (order.sku,))

    host = await house.open()
    host.journals.allow("till", store="memory:elsewhere")
    await host.serve(service)
    await (await house.client()).call(sell, Order("tea"))

    assert "till" not in house.stored_services
