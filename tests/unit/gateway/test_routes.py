"""Which operation an HTTP request asks for."""

from __future__ import annotations

import logging
from datetime import date
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec import Struct

from posthouse.declare.key import key_reader
from posthouse.errors import InvalidDataError, MethodNotAllowedError, RouteUnknownError
from posthouse.gateway.routes import Compiler, Table
from posthouse.gateway.webhooks import Verifier, verifier
from posthouse.message.message import Mode
from posthouse.runtime.settings import GatewaySettings, RouteSettings, SignatureSettings
from tests.unit.gateway.makers import record, route

TABLE = Table(
    [
        route("GET /orders", "shop.list"),
        route("POST /orders", "shop.buy"),
        route("GET /orders/{sku}", "shop.get"),
        route("PUT /orders/{sku}", "shop.put"),
        route("GET /orders/new", "shop.new"),
        route("GET /{sku}/new", "shop.any_new"),
        route("GET /orders/{sku}/lines/{qty}", "shop.line"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "operation", "fields"),
    [
        ("GET", "/orders", "shop.list", {}),
        ("POST", "/orders", "shop.buy", {}),
        ("GET", "/orders/tea", "shop.get", {"sku": "tea"}),
        ("PUT", "/orders/tea", "shop.put", {"sku": "tea"}),
        ("GET", "/orders/new", "shop.new", {}),
        ("PUT", "/orders/new", "shop.put", {"sku": "new"}),
        ("GET", "/things/new", "shop.any_new", {"sku": "things"}),
        ("GET", "/orders/tea/lines/3", "shop.line", {"sku": "tea", "qty": "3"}),
        ("HEAD", "/orders", "shop.list", {}),
        ("HEAD", "/orders/tea", "shop.get", {"sku": "tea"}),
    ],
)
def test_a_path_finds_its_operation_the_literal_one_before_fields(
    method: str, path: str, operation: str, fields: dict[str, str]
):
    match = TABLE.find(method, path)

    assert (match.route.record.name, dict(match.fields)) == (operation, fields)


@pytest.mark.parametrize("path", ["/", "/order", "/orders/", "/orders/tea/", "/orders//lines/3", "/ORDERS", "", "/a/b"])
def test_a_path_that_nobody_has_is_unknown(path: str):
    with pytest.raises(RouteUnknownError):
        TABLE.find("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/orders", "GET, HEAD, POST"),
        ("POST", "/orders/tea", "GET, HEAD, PUT"),
        ("POST", "/orders/new", "GET, HEAD, PUT"),
        ("OPTIONS", "/orders/tea/lines/3", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_ones_the_path_takes(method: str, path: str, allowed: str):
    with pytest.raises(MethodNotAllowedError) as caught:
        TABLE.find(method, path)

    assert caught.value.allowed == allowed


def test_a_path_without_get_has_no_head():
    with pytest.raises(MethodNotAllowedError) as caught:
        Table([route("POST /orders")]).find("HEAD", "/orders")

    assert caught.value.allowed == "POST"


# --- the compiler ----------------------------------------------------------------------------------------


def compiler(**said: Any) -> Compiler:
    return Compiler(said, GatewaySettings(wait=5.0, body_limit=100), {})


def test_what_the_settings_say_of_a_route_beats_the_defaults():
    table = compiler(**{"POST /a": RouteSettings(wait=1.0, body_limit=7, idempotency="X-Delivery")}).table(
        {"s.a": record("POST /a", "s.a"), "s.b": record("POST /b", "s.b")}
    )

    a, b = table.routes
    assert (a.wait, a.body_limit, a.idempotency) == (1.0, 7, b"x-delivery")
    assert (b.wait, b.body_limit, b.idempotency) == (5.0, 100, b"idempotency-key")


def verifiers(*routes: str) -> dict[str, Verifier]:
    return {route: verifier(SignatureSettings(header="X-Signature", secret="s"), route) for route in routes}


def test_a_signature_is_checked_whatever_the_service_calls_the_field_in_the_path():
    said = {"POST /hooks/{id}": RouteSettings(wait=1.0)}
    routes = Compiler(said, GatewaySettings(), verifiers("POST /hooks/{id}"))

    [hook] = routes.table({"s.hook": record("POST /hooks/{sku}", "s.hook")}).routes

    assert hook.verifier is not None
    assert hook.wait == 1.0


def test_a_signature_that_no_route_asks_for_is_told_once(caplog: pytest.LogCaptureFixture):
    routes = Compiler({}, GatewaySettings(), verifiers("POST /gihub"))

    routes.table({})
    routes.table({"s.hook": record("POST /github", "s.hook")})
    routes.table({"s.hook": record("POST /github", "s.hook")})

    assert len(caplog.records) == 1
    assert "POST /gihub" in caplog.text


def test_a_hidden_route_and_an_operation_without_one_are_not_served():
    table = compiler(**{"POST /a": RouteSettings(hide=True)}).table(
        {"s.a": record("POST /a", "s.a"), "s.b": record("", "s.b")}
    )

    assert table.routes == []


def test_of_two_services_with_one_route_the_one_that_had_it_keeps_it(caplog: pytest.LogCaptureFixture):
    routes = compiler()
    late = record("GET /x/{sku}", "a.late")
    early = record("GET /x/{qty}", "z.early")

    routes.table({"z.early": early})
    table = routes.table({"a.late": late, "z.early": early})

    assert table.find("GET", "/x/1").route.record.name == "z.early"
    assert [tuple(conflict) for conflict in table.conflicts] == [("GET /x/{sku}", "a.late", "z.early")]
    assert "a.late" in caplog.text
    assert "z.early" in caplog.text


def test_a_conflict_is_logged_once(caplog: pytest.LogCaptureFixture):
    routes = compiler()
    both = {"a.one": record("GET /x", "a.one"), "b.two": record("GET /x", "b.two")}

    with caplog.at_level(logging.ERROR):
        routes.table(both)
        routes.table(both)

    assert len(caplog.records) == 1


def test_the_loser_of_a_conflict_takes_over_when_the_other_is_gone():
    routes = compiler()
    one, two = record("GET /x", "a.one"), record("GET /x", "b.two")

    routes.table({"a.one": one, "b.two": two})
    table = routes.table({"b.two": two})

    assert table.find("GET", "/x").route.record.name == "b.two"
    assert table.conflicts == []


@pytest.mark.parametrize(
    "http",
    ["GET /livez", "POST /livez", "GET /readyz", "GET /requests/{sku}", "PUT /requests/{x}", "DELETE /requests/{x}"],
)
def test_no_service_can_claim_a_page_of_the_gateway(http: str):
    table = compiler().table({"s.a": record(http, "s.a")})

    assert table.routes == []
    assert [conflict.operation for conflict in table.conflicts] == ["s.a"]


# --- what is asked ---------------------------------------------------------------------------------------


class Parcel(Struct):
    sender: UUID
    to: date | None = None
    kind: Literal["letter", "box"] = "letter"
    weight: int = 1


@pytest.mark.parametrize(
    ("field", "data", "key"),
    [
        ("sender", {"sender": "7B1C83E2-4B0F-4D0A-8B7E-0C1D2E3F4A5B"}, "7b1c83e2-4b0f-4d0a-8b7e-0c1d2e3f4a5b"),
        ("to", {"to": "2026-03-01"}, "2026-03-01"),
        ("to", {}, ""),
        ("kind", {"kind": "box"}, "box"),
        ("kind", {}, "letter"),
        ("weight", {"weight": 12}, "12"),
    ],
)
def test_an_ordering_key_is_the_text_that_a_caller_in_python_gives(field: str, data: dict[str, Any], key: str):
    data = {"sender": "7b1c83e2-4b0f-4d0a-8b7e-0c1d2e3f4a5b", **data}
    made = route("POST /parcels", request=Parcel, key=field)
    theirs = key_reader(field, Parcel, "post.take")

    assert made.ordering_key(msgspec.json.encode(data)) == key
    assert theirs(msgspec.convert(data, Parcel)) == key


def test_without_an_ordering_key_the_data_is_not_looked_at():
    assert route("POST /parcels", request=Parcel).ordering_key(b"no JSON") == ""


def test_a_key_that_no_order_can_be_kept_by_is_refused():
    made = route("POST /orders", key="sku")

    with pytest.raises(InvalidDataError, match="NUL"):
        made.ordering_key(b'{"sku":"\\u0000"}')


@pytest.mark.parametrize(("mode", "is_journaled"), [(Mode.JOURNALED, True), (Mode.QUEUED, False)])
def test_the_contract_says_whether_it_is_journaled(mode: Mode, is_journaled: bool):
    assert route("POST /orders", mode=mode).is_journaled is is_journaled


def test_what_has_not_changed_is_not_made_again():
    routes = compiler()
    same, other = record("GET /x", "s.same"), record("GET /y", "s.other")

    before = routes.table({"s.same": same, "s.other": other}).routes
    after = routes.table({"s.same": same, "s.other": record("GET /z", "s.other")}).routes

    assert {route.name for route in before} & {route.name for route in after} == {"GET /x"}
    assert next(route for route in after if route.name == "GET /x") in before
