"""contract_of: what a service announces."""

from __future__ import annotations

import msgspec
import pytest

from posthouse.contracts.registry import OperationRecord, SubscriptionRecord
from posthouse.declare.contract_of import check_acks, contract_of
from posthouse.declare.operation import DEFAULT_MODE, PROMISES, Operation
from posthouse.declare.service import Service
from posthouse.declare.values import HttpRequest, Reply
from posthouse.errors import DeclarationError, Reject
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
        mode=PROMISES[DEFAULT_MODE],
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


def test_an_ordering_key_is_announced():
    prices = Service("prices")

    @prices.handler(mode="journaled", key="sku")
    async def quote(order: Order) -> None: ...

    assert [operation.key for operation in contract_of(prices).operations] == ["sku"]


def test_who_hears_of_outcomes_is_nobody_elses_business():
    prices, silent = Service("prices"), Service("prices")
    quote = Operation("prices.quote", Order, None, mode="journaled")

    @prices.on_reply(quote)
    @prices.on_ack(quote)
    async def heard(reply: Reply[Order, None]) -> None: ...

    def answer(order: Order) -> None: ...

    prices.handler(quote)(answer)
    silent.handler(quote)(answer)

    assert contract_of(prices) == contract_of(silent)


async def heard(reply: Reply[Order, None]) -> None: ...


def test_what_hears_of_acks_may_be_declared_before_what_answers():
    prices, quote = Service("prices"), Operation("prices.quote", Order, None, mode="journaled")

    prices.on_ack(quote)(heard)

    @prices.handler(quote)
    async def answer(order: Order) -> None: ...

    check_acks(prices)


def test_acks_of_what_is_not_answered_are_refused_at_the_start():
    prices, quote = Service("prices"), Operation("prices.quote", Order, None, mode="journaled")
    prices.on_ack(quote)(heard)

    with pytest.raises(DeclarationError, match=r"on_ack\('prices\.quote'\).*no handler") as refused:
        contract_of(prices)
    assert "test_contract_of.py" in refused.value.where


def test_acks_of_another_contract_by_the_same_name_are_refused_at_the_start():
    prices, quote = Service("prices"), Operation("prices.quote", Order, None, mode="journaled")
    prices.on_ack(quote)(heard)

    @prices.handler(mode="volatile", name="quote")
    async def answer(order: Order) -> None: ...

    with pytest.raises(DeclarationError, match=r"on_ack\('prices\.quote'\).*another contract.*mode='volatile'"):
        contract_of(prices)
