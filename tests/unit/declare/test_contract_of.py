"""contract_of: what a service announces."""

from __future__ import annotations

import msgspec

from posthouse.contracts.registry import OperationRecord, SubscriptionRecord
from posthouse.declare.contract_of import contract_of
from posthouse.declare.service import Service
from posthouse.declare.values import HttpRequest
from posthouse.errors import Reject
from posthouse.message.message import Mode


class Order(msgspec.Struct):
    sku: str


class Unknown(Reject):
    code = "prices.unknown"
    status = 404


def a_service(*, status: int = 201) -> Service:
    prices = Service("prices")
    quoted = prices.event("quoted", Order, mode="volatile", retain="1d")

    @prices.handler(http="POST /quotes", status=status, rejects=(Unknown,), exhausted="park")
    async def quote(order: Order) -> None: ...

    @prices.handler
    async def receive(request: HttpRequest) -> Order:
        return Order("tea")

    @prices.on(quoted)
    async def note(order: Order) -> None: ...

    return prices


def test_a_contract_says_what_a_service_offers_tells_and_hears():
    contract = contract_of(a_service())

    quote, receive = contract.operations
    assert quote == OperationRecord(
        name="prices.quote",
        mode=Mode.QUEUED,
        request=msgspec.json.schema(Order),
        reply={"type": "null"},
        http="POST /quotes",
        status=201,
        rejects=(("prices.unknown", 404),),
        exhausted="park",
    )
    assert receive.whole_request
    [quoted] = contract.events
    assert (quoted.name, quoted.mode, quoted.retain) == ("prices.quoted", Mode.VOLATILE, 86400.0)
    assert contract.subscriptions == (
        SubscriptionRecord(name="prices.note", topic="prices.quoted", mode=Mode.VOLATILE),
    )


def test_a_version_changes_with_the_contract_and_with_nothing_else():
    assert contract_of(a_service()) == contract_of(a_service())
    assert contract_of(a_service()).version != contract_of(a_service(status=202)).version


def test_a_contract_survives_the_registry():
    contract = contract_of(a_service())

    assert msgspec.json.decode(msgspec.json.encode(contract), type=type(contract)) == contract
