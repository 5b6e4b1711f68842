"""Requests for what their service does not run any more wait, and that is said."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Service
from posthouse.cli.backlog import _has
from posthouse.cli.conversation import conversations
from posthouse.cli.stores import Stores
from posthouse.cli.why import why
from posthouse.testing.loop import LoopClock
from tests.house import House, until

pytestmark = pytest.mark.anyio


class Order(Struct):
    sku: str


def before() -> tuple[Service, Any]:
    """The service as it was: its handler never comes to an end."""
    prices = Service("prices")

    @prices.handler(attempts=1000, backoff="1h..1h")
    async def quote(order: Order) -> str:
        raise ValueError("not yet")

    return prices, quote


def after(mode: str) -> Service:
    """The service as it is now: without that operation, or with it in another mode."""
    prices = Service("prices")

    @prices.handler
    async def sell(order: Order) -> str:
        return order.sku

    if mode != "gone":

        @prices.handler(name="quote", mode="queued")
        async def quote(order: Order) -> str:
            return order.sku

    return prices


async def stores_of(house: House) -> Stores:
    """Look into the stores of a house, as a command does."""
    names = house.stored_services
    host = await house.open()
    await host.directory.refresh()
    return Stores(host, {name: await house._store(name) for name in names})


async def rest(house: House, count: int = 1) -> None:
    """Wait until nobody runs any of so many requests."""
    await until(
        lambda: house.requests("prices.quote"), lambda rows: [row.state.name for row in rows] == ["RECEIVED"] * count
    )


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said of requests that wait."""
    texts = [record.getMessage() for record in caplog.records]
    return [text.split(". ")[0] for text in texts if "requests that wait for" in text]


async def told(caplog: pytest.LogCaptureFixture) -> str:
    """Wait until something is said of requests that wait, and only once."""

    async def ask() -> list[str]:
        return said(caplog)

    [text] = await until(ask, bool)
    return text


@pytest.mark.parametrize(
    ("mode", "reason"), [("gone", "prices.quote is not offered any more"), ("queued", "prices.quote is queued by now")]
)
async def test_what_nobody_runs_any_more_is_told_at_the_start_and_to_people(
    house: House, mode: str, reason: str, caplog: pytest.LogCaptureFixture
):
    prices, quote = before()
    first = await house.serve(prices)
    shop = await house.client()
    ids = [await shop.send(quote, Order(sku)) for sku in ("tea", "salt")]
    await rest(house, 2)
    await first.die()

    with caplog.at_level(logging.WARNING, "posthouse.journal"):
        await house.serve(after(mode))
        text = await told(caplog)

    assert text == "prices: requests that wait for prices.quote: 2"
    stores = await stores_of(house)
    [conversation] = await conversations(stores, ids[0])
    assert reason in why(conversation, LoopClock().now()).why
    assert [reason in row.stuck for row in await _has(stores, stores.of("prices"))] == [True]


async def test_what_nobody_runs_is_told_when_it_comes_and_once(house: House, caplog: pytest.LogCaptureFixture):
    prices, quote = before()
    first = await house.serve(prices)
    shop = await house.client()
    await first.die()
    for sku in ("tea", "salt"):
        await shop.send(quote, Order(sku))

    with caplog.at_level(logging.WARNING, "posthouse.journal"):
        await house.serve(after("gone"))
        await rest(house, 2)
        text = await told(caplog)

    assert text.startswith("prices: requests that wait for prices.quote: ")


async def test_a_service_that_has_nothing_journaled_any_more_tells_what_waits_in_its_store(
    house: House, caplog: pytest.LogCaptureFixture
):
    prices, quote = before()
    first = await house.serve(prices)
    shop = await house.client()
    await shop.send(quote, Order("tea"))
    await rest(house)
    await first.die()
    now = Service("prices")

    @now.handler(mode="queued")
    async def sell(order: Order) -> str:
        return order.sku

    with caplog.at_level(logging.WARNING, "posthouse.journal"):
        host = await house.open()
        host.journals.allow("prices")
        await host.journals.need("prices")  # as whoever starts a process does, where a store is there
        await host.serve(now)

        assert await told(caplog) == "prices: requests that wait for prices.quote: 1"


async def test_nothing_is_said_of_what_waits_for_a_handler_that_is_there(
    house: House, caplog: pytest.LogCaptureFixture
):
    prices, quote = before()
    first = await house.serve(prices)
    shop = await house.client()
    id = await shop.send(quote, Order("tea"))
    await rest(house)
    await first.die()

    with caplog.at_level(logging.WARNING, "posthouse.journal"):
        await house.serve(before()[0])
        await asyncio.sleep(60)  # no time passes

    stores = await stores_of(house)
    assert said(caplog) == []
    [conversation] = await conversations(stores, id)
    assert "nobody runs" not in why(conversation, LoopClock().now()).why
    assert [row.stuck for row in await _has(stores, stores.of("prices"))] == [""]
