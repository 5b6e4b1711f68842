"""An engine whose data is wiped under everybody: what each process has told is told again, and all go on."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Service
from posthouse.backends.memory.broker import broker_named
from posthouse.errors import NotServedError, NotStoredError, UnknownServiceError
from posthouse.message.message import Mode
from posthouse.runtime.directory import HOLD_OVER
from posthouse.testing.faulty import FaultyTransport
from tests.house import Errors, House

pytestmark = pytest.mark.anyio


class News(Struct):
    text: str


def wipe(house: House) -> None:
    broker_named(house.hosts[0].settings.transport.partition(":")[2]).wipe()


def paper_and_reader(heard: list[str]) -> tuple[Service, Any, Service]:
    paper, reader = Service("paper"), Service("reader")
    printed = paper.event("printed", News, mode="queued")

    @reader.on(printed)
    async def hear(news: News) -> None:
        heard.append(news.text)

    return paper, printed, reader


def prices(mode: Any = "queued") -> tuple[Service, Any]:
    service = Service("prices")

    @service.handler(mode=mode)
    async def quote(news: News) -> str:
        return news.text.upper()

    return service, quote


async def sent(client: Any, op: Any, data: Any) -> None:
    """Send until it is stored, as who does not give up."""
    while True:
        try:
            await client.send(op, data)
            return
        except NotStoredError:
            await asyncio.sleep(0.1)


async def test_a_service_answers_again(house: House, any_mode: Any):
    service, quote = prices(any_mode)
    await house.serve(service)
    client = await house.client()
    assert await client.call(quote, News("a")) == "A"

    wipe(house)
    await asyncio.sleep(1)

    assert await client.call(quote, News("b")) == "B"


async def test_a_subscription_hears_again(house: House):
    heard: list[str] = []
    paper, printed, reader = paper_and_reader(heard)
    await house.serve(reader)
    host = await house.serve(paper)

    wipe(house)
    await asyncio.sleep(1)
    await host.client("paper").publish(printed, News("a"))
    await asyncio.sleep(1)

    assert heard == ["a"]


async def test_instances_are_there_again_as_they_were(house: House):
    server = await house.serve(prices()[0])
    await server.join("shop")
    other = await house.open()
    before = await other.registry.instances()

    wipe(house)
    assert await other.registry.instances() == []
    await asyncio.sleep(1)

    again = await other.registry.instances()
    assert [(i.id, i.service, i.serving) for i in again] == [(i.id, i.service, i.serving) for i in before]
    assert {i.service for i in again} == {"prices", "shop"}


async def test_what_was_announced_and_not_served_is_announced_again(house: House):
    paper, _, _ = paper_and_reader([])
    host = await house.open()
    await host.announce(paper)

    wipe(house)
    await asyncio.sleep(1)

    assert [contract.service for contract in await host.registry.contracts()] == ["paper"]


async def test_a_contract_that_nobody_tells_again_stands_for_some_seconds(house: House):
    service, quote = prices()
    server = await house.serve(service)
    other = await house.open()
    await server.close()

    wipe(house)
    await asyncio.sleep(HOLD_OVER - 1)
    stands = other.directory.contracts.keys()
    await asyncio.sleep(2)

    assert stands == {"prices"}
    with pytest.raises(UnknownServiceError):
        await other.client("shop").call(quote, News("a"))


async def test_an_instance_that_does_not_come_back_is_gone_after_some_seconds(house: House):
    service, quote = prices("volatile")
    server = await house.serve(service)
    other = await house.open()
    server.registry.register = _nothing  # type: ignore[method-assign] - its process is gone

    wipe(house)
    await asyncio.sleep(HOLD_OVER - 1)
    stands = [instance.service for instance in other.directory.all_instances]
    await asyncio.sleep(2)

    assert stands == ["prices"]
    assert other.directory.all_instances == []
    with pytest.raises((NotServedError, UnknownServiceError)):
        await other.client("shop").call(quote, News("a"))


async def _nothing(_: object) -> None:
    pass


async def test_a_call_in_the_moment_of_the_wipe_finds_its_service(house: House):
    service, look = prices("volatile")
    await house.serve(service)
    client = await house.client()
    await client.call(look, News("a"))

    wipe(house)

    assert await client.call(look, News("b")) == "B"


async def test_a_newer_contract_goes_before_what_was_known(house: House):
    first = await house.serve(prices("queued")[0])
    other = await house.open()
    await first.close()

    wipe(house)
    await asyncio.sleep(1)
    before = other.directory.operations["prices.quote"].mode
    await house.serve(prices("volatile")[0])
    await asyncio.sleep(1)

    assert before is Mode.QUEUED
    assert other.directory.operations["prices.quote"].mode is Mode.VOLATILE


async def test_a_handler_at_work_ends_and_its_service_takes_the_next(house: House):
    service = Service("prices")
    ran: list[str] = []

    @service.handler
    async def quote(news: News) -> None:
        await asyncio.sleep(3)
        ran.append(news.text)

    errors = Errors()
    logging.getLogger("posthouse").addHandler(errors)
    await house.serve(service)
    client = await house.client()
    await client.send(quote, News("at work"))
    await asyncio.sleep(1)

    wipe(house)
    await sent(client, quote, News("next"))
    await asyncio.sleep(10)

    logging.getLogger("posthouse").removeHandler(errors)
    assert ran == ["at work", "next"]
    assert errors.texts == []


async def test_it_is_told_as_soon_as_the_engine_can_be_reached(house: House):
    paper, _, _ = paper_and_reader([])
    host = await house.open(wrap=FaultyTransport)
    await host.announce(paper)
    transport: Any = host.transport

    transport.cut()
    wipe(house)
    await asyncio.sleep(3)
    before = await host.registry.contracts()
    transport.heal()
    await asyncio.sleep(10)

    assert before == []
    assert [contract.service for contract in await host.registry.contracts()] == ["paper"]


async def test_ten_wipes_in_a_row_stop_nobody(house: House):
    heard: list[str] = []
    paper, printed, reader = paper_and_reader(heard)
    for _ in range(2):
        await house.serve(reader)
    host = await house.serve(paper)

    for _ in range(10):
        wipe(house)
        await asyncio.sleep(host.seams.rng.random())
    await asyncio.sleep(5)
    await host.client("paper").publish(printed, News("a"))
    await asyncio.sleep(1)

    assert heard == ["a"]
