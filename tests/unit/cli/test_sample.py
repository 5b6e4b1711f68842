"""The curl that `dev` prints can be pasted: its example fits the schema it was made from."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from posthouse import HttpRequest
from posthouse.cli.sample import curl, sample
from posthouse.cli.shape import shape
from posthouse.contracts.registry import OperationRecord
from posthouse.message.message import Mode


class Line(Struct):
    sku: str
    qty: Annotated[int, Meta(ge=3)]
    note: str | None = None


class Order(Struct):
    id: str
    lines: list[Line]
    at: Annotated[datetime, Meta(tz=True)]
    kind: Literal["b", "a"]
    price: Annotated[float, Meta(gt=0)]
    gift: bool = False
    tags: dict[str, int] = {}


class Tree(Struct):
    below: list["Tree"] = []


def operation(http: str, request: Any) -> OperationRecord:
    return OperationRecord(name="shop.buy", mode=Mode.QUEUED, request=msgspec.json.schema(request), http=http)


@pytest.mark.parametrize(
    "kind", [Order, Line, Tree, str, int, list[int], dict[str, str], tuple[int, str], bool, None, str | None]
)
def test_a_sample_fits_its_schema(kind: Any):
    data = msgspec.json.encode(sample(msgspec.json.schema(kind)))

    msgspec.json.decode(data, type=kind)


def test_a_post_is_a_curl_with_json_that_a_shell_reads_as_one_word():
    words = shlex.split(curl(operation("POST /orders", Line), "http://127.0.0.1:8080"))

    assert words[:3] == ["curl", "http://127.0.0.1:8080/orders", "--json"]
    assert msgspec.json.decode(words[3]) == {"sku": "text", "qty": 3}


def test_a_get_has_its_fields_in_path_and_query():
    line = curl(operation("GET /lines/{sku}", Line), "http://h:1")

    assert shlex.split(line) == ["curl", "http://h:1/lines/text?qty=3"]


@pytest.mark.parametrize(("method", "begins"), [("PUT", "curl -X PUT http"), ("DELETE", "curl -X DELETE ")])
def test_other_methods_are_named(method: str, begins: str):
    assert curl(operation(f"{method} /x", Line), "http://h:1").startswith(begins)


def test_what_a_handler_reads_by_itself_is_not_guessed():
    whole = msgspec.structs.replace(operation("POST /github", HttpRequest), whole_request=True)

    assert curl(whole, "http://h:1") == "curl http://h:1/github --data-binary @FILE"


def test_a_shape_is_one_line():
    assert shape(msgspec.json.schema(Line)) == "{sku: string, qty: integer, note: string | null = null}"
    assert "\n" not in shape(msgspec.json.schema(Tree))
