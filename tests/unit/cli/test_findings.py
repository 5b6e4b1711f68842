"""What `check` finds before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from posthouse.cli.findings import Finding, World, findings, used_by
from posthouse.contracts.registry import Contract
from posthouse.declare.contract_of import contract_of
from posthouse.declare.operation import Event, Operation
from posthouse.declare.service import Service
from posthouse.runtime.context import Context
from posthouse.runtime.settings import load


class Order(Struct):
    sku: str


class Price(Struct):
    total: float


quote = Operation("prices.quote", Order, Price)
quoted = Event("prices.quoted", Price)


def the_prices(mode: Any = "journaled", request: Any = Order, event_mode: Any = "journaled") -> Service:
    prices = Service("prices")
    prices.event("quoted", Price, mode=event_mode)

    async def quote(order: Any) -> Price:
        return Price(1.0)

    quote.__annotations__["order"] = request
    prices.handler(mode=mode)(quote)
    return prices


def a_shop(http: str = "POST /orders") -> Service:
    shop = Service("shop")

    @shop.handler(http=http)
    async def buy(order: Order, ctx: Context) -> Price:
        return await ctx.call(quote, order)

    return shop


def an_audit() -> Service:
    audit = Service("audit")

    @audit.on(quoted)
    async def note(price: Price) -> None: ...

    return audit


def find(
    *services: Service, announced: list[Contract] | None = None, config: dict[str, Any] | None = None
) -> list[str]:
    world = World([contract_of(service) for service in services], announced or [])
    return [finding.code for finding in findings(services, world, load(config or {}, environ={}))]


def test_a_whole_program_has_no_findings():
    assert find(a_shop(), the_prices(), an_audit()) == []


@pytest.mark.parametrize(
    ("mode", "config", "codes"),
    [
        ("journaled", {}, []),
        ("journaled", {"transport": "memory:"}, ["engine.not_durable"]),
        ("journaled", {"transport": "memory:", "env": "test"}, []),
        ("queued", {"transport": "memory:"}, ["engine.not_durable"]),
        ("queued", {"transport": "memory:", "env": "test"}, []),
        ("volatile", {"transport": "memory:"}, []),
    ],
)
def test_a_promise_that_cannot_be_kept_here_is_found(mode: Any, config: dict[str, Any], codes: list[str]):
    assert find(the_prices(mode=mode), config=config) == codes


def test_a_journaled_event_can_be_kept_where_stores_are_files():
    assert find(the_prices(event_mode="journaled")) == []


def test_what_others_have_announced_counts():
    assert find(a_shop(), an_audit(), announced=[contract_of(the_prices())]) == []


def test_an_operation_that_nobody_serves_is_found():
    assert find(a_shop()) == ["service.unknown"]


def test_an_event_that_nobody_publishes_is_found():
    assert find(an_audit()) == ["event.unknown"]


@pytest.mark.parametrize("other", [the_prices(mode="volatile"), the_prices(request=Price)])
def test_a_caller_that_means_another_contract_is_found(other: Service):
    assert find(a_shop(), other) == ["contract.mismatch"]


def test_a_subscription_that_means_another_mode_is_found():
    assert find(an_audit(), the_prices(event_mode="volatile")) == ["contract.mismatch"]


def test_two_services_with_one_route_are_found_whatever_the_fields_are_called():
    one, other = Service("one"), Service("other")

    @one.handler(http="GET /things/{sku}")
    async def look(order: Order) -> Price:
        return Price(1.0)

    @other.handler(http="GET /things/{total}")
    async def see(price: Price) -> Price:
        return price

    assert find(one, other) == ["route.conflict"]
    assert find(one, announced=[contract_of(other)]) == ["route.conflict"]


def test_a_service_that_breaks_what_it_announced_is_found():
    assert find(the_prices(), announced=[contract_of(the_prices(mode="volatile"))]) == ["contract.mismatch"]


@pytest.mark.parametrize(
    "config", [{"services": {"pricse": {"capacity": 1}}}, {"routes": {"POST /order": {"hide": True}}}]
)
def test_a_setting_for_what_is_not_there_is_found(config: dict[str, Any]):
    assert find(the_prices(), config=config) == ["config.unused"]


def test_a_finding_says_where():
    shop = a_shop()
    world = World([contract_of(shop)], [])

    [found] = findings([shop], world, load({}, environ={}))

    assert isinstance(found, Finding)
    assert "shop.buy asks prices.quote, which nobody serves" in found.what
    assert "test_findings.py:" in found.where


def test_names_within_comprehensions_lambdas_and_closures_are_seen():
    local = Operation("other.thing", Order, Price)

    async def within(order: Order, ctx: Context) -> list[Price]:
        later = lambda: ctx.send(local, order)  # noqa: E731
        await later()
        return [await ctx.call(quote, each) for each in [order]]

    assert {used.name for used in used_by(within)} == {"other.thing", "prices.quote"}
