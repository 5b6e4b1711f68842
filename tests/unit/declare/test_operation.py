"""Operation and Event: what a contract keeps, refuses, reads and writes."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict, cast

import msgspec
import pydantic
import pytest

from posthouse.declare.operation import DEFAULT_EVENT_MODE, DEFAULT_MODE, Event, Mode, Operation
from posthouse.declare.schema_of import encode, schema
from posthouse.errors import ConfigError, DeclarationError, IllegalNameError, NotBuiltError, Reject, UsageError
from posthouse.message.message import Mode as Promise


class Order(msgspec.Struct):
    sku: str
    qty: int = 1


class Price(msgspec.Struct):
    total: float


class Unknown(Reject):
    code = "prices.unknown"
    status = 404


class Model(pydantic.BaseModel):
    sku: str


class Nest(msgspec.Struct):
    models: list[Model]


class Node(msgspec.Struct):
    nodes: list[Node]


def test_a_contract_keeps_its_name_types_mode_and_rejects():
    quote = Operation("prices.quote", Order, Price, mode="volatile", rejects=(Unknown,))

    assert (quote.name, quote.request, quote.reply) == ("prices.quote", Order, Price)
    assert (quote.mode, quote.promise, quote.rejects) == ("volatile", Promise.VOLATILE, (Unknown,))


def test_a_contract_that_says_no_mode_has_the_default_one():
    assert Operation("prices.quote", Order, Price).mode == DEFAULT_MODE
    assert Event("prices.quoted", Price).mode == DEFAULT_EVENT_MODE


def test_journaled_may_be_declared():
    assert Event("prices.quoted", Price, mode="journaled").promise is Promise.JOURNALED


def test_an_unknown_mode_is_refused():
    with pytest.raises(DeclarationError, match=r"mode='durable'.*one of 'volatile', 'queued', 'journaled'"):
        Operation("prices.quote", Order, Price, mode=cast("Mode", "durable"))


@pytest.mark.parametrize("name", ["quote", "prices.", "prices.a b", "prices/quote.x", ""])
def test_an_illegal_name_is_refused(name: str):
    with pytest.raises(IllegalNameError):
        Operation(name, Order, Price)
    with pytest.raises(IllegalNameError):
        Event(name, Price)


def test_calling_an_operation_says_what_to_write_instead():
    quote = cast("Any", Operation("prices.quote", Order, Price))

    with pytest.raises(TypeError, match=r"ctx\.call\(quote, data\).*quote\.function\("):
        quote(Order("tea"))


def test_a_contract_without_a_handler_has_no_function():
    with pytest.raises(UsageError, match=r"prices\.quote"):
        _ = Operation("prices.quote", Order, Price).function


def test_the_handler_of_a_shared_contract_leaves_it_as_it_was():
    shared = Operation("prices.quote", Order, Price, rejects=(Unknown,))

    mine = shared.implemented_by(len)

    assert mine.function is len
    assert (mine.name, mine.request, mine.mode, mine.rejects) == ("prices.quote", Order, shared.mode, (Unknown,))
    with pytest.raises(UsageError):
        _ = shared.function


def test_requests_and_replies_are_read_by_their_types():
    quote = Operation("prices.quote", Order, Price)

    assert quote.decode_request(encode(Order("tea", 2))) == Order("tea", 2)
    assert quote.decode_reply(b'{"total":1}') == Price(1.0)
    with pytest.raises(msgspec.ValidationError, match=r"\$\.qty"):
        quote.decode_request(b'{"sku":"tea","qty":"2"}')


def test_a_decoder_is_made_once():
    quote, quoted = Operation("prices.quote", Order, Price), Event("prices.quoted", Price)

    assert quote.decode_request is quote.decode_request
    assert quote.decode_reply is quote.decode_reply
    assert quoted.decode is quoted.decode


@pytest.mark.parametrize("data", [b"null", b""])
def test_no_reply_is_read_from_null_and_from_nothing(data: bytes):
    assert Operation("prices.drop", Order, None).decode_reply(data) is None


def test_data_where_there_should_be_none_is_refused():
    with pytest.raises(msgspec.ValidationError):
        Operation("prices.drop", Order, None).decode_reply(b"{}")


@dataclasses.dataclass
class Plain:
    sku: str


class Typed(TypedDict):
    sku: str


@pytest.mark.parametrize("kind", [Plain, Typed, Order, dict[str, Any], list[Order], int, Order | None, str])
def test_structs_dataclasses_typed_dicts_and_builtins_may_be_sent(kind: Any):
    contract = Operation("prices.any", kind, kind)

    assert contract.request == contract.reply == kind
    assert schema(kind)


@pytest.mark.parametrize("kind", [Model, list[Model], Nest, object, Order | Price, "Order"])
def test_a_type_that_cannot_be_sent_is_refused_where_it_is_declared(kind: Any):
    with pytest.raises(DeclarationError, match=r"request of 'prices\.quote'.*use a msgspec\.Struct") as refused:
        Operation("prices.quote", kind, None)
    assert "test_operation.py" in refused.value.where

    with pytest.raises(DeclarationError, match=r"reply of 'prices\.quote'"):
        Operation("prices.quote", Order, kind)
    with pytest.raises(DeclarationError, match=r"data of 'prices\.quoted'"):
        Event("prices.quoted", kind)


def test_a_wrong_declaration_is_a_type_error_with_a_code():
    with pytest.raises(TypeError) as refused:
        Operation("prices.quote", object, None)

    assert isinstance(refused.value, ConfigError)
    assert refused.value.code == "declaration.invalid"


def test_a_type_that_names_itself_may_be_sent():
    assert Operation("prices.tree", Node, None).decode_request(b'{"nodes":[{"nodes":[]}]}') == Node([Node([])])


def test_a_name_that_is_defined_nowhere_is_told_when_data_is_first_read():
    class Lost(msgspec.Struct):
        other: Missing  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownVariableType]

    lost = Operation("prices.lost", Lost, None)

    with pytest.raises(DeclarationError, match="Missing"):
        _ = lost.decode_request


def test_rejects_must_be_subclasses_of_reject_with_codes_and_statuses_of_their_own():
    class Odd(Reject):
        status = 200

    class Twin(Reject):
        code = "prices.unknown"

    with pytest.raises(DeclarationError, match="ValueError"):
        Operation("prices.quote", Order, Price, rejects=cast("Any", (ValueError,)))
    with pytest.raises(DeclarationError, match="400 to 599"):
        Operation("prices.quote", Order, Price, rejects=(Odd,))
    with pytest.raises(DeclarationError, match="one code"):
        Operation("prices.quote", Order, Price, rejects=(Unknown, Twin))


def test_an_ordering_key_is_kept_for_journaled_delivery_alone():
    assert Operation("prices.quote", Order, Price, mode="journaled", key="sku").key == "sku"
    for mode in ("volatile", "queued"):
        with pytest.raises(DeclarationError, match=rf"mode='{mode}' does not keep.*test_operation.*mode='journaled'"):
            Operation("prices.quote", Order, Price, mode=mode, key="sku")


def test_the_handler_of_a_contract_keeps_its_key():
    shared = Operation("prices.quote", Order, Price, mode="journaled", key="sku")

    mine = shared.implemented_by(len)

    assert (mine.key, mine.key_of(Order("tea"))) == ("sku", "tea")


def test_the_order_of_events_is_not_built():
    with pytest.raises(DeclarationError, match=r"'colour'.*qty, sku"):
        Event("prices.sold", Order, key="colour")
    with pytest.raises(NotBuiltError, match="order"):
        Event("prices.sold", Order, mode="journaled", key="sku")


def test_retention_is_read_as_a_duration():
    assert Event("prices.quoted", Price, retain="30d").retain == 30 * 86400.0
    with pytest.raises(DeclarationError, match="retain='7d'"):
        Event("prices.quoted", Price, retain="a month")
