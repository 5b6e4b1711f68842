"""The ordering key: which fields may be one, and the one text of what they hold."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest

from posthouse.declare.key import KEY_LIMIT
from posthouse.declare.operation import Operation
from posthouse.errors import DeclarationError, InvalidDataError

SOME_UUID = UUID("12345678-1234-5678-1234-567812345678")
Sku = NewType("Sku", str)
_T = TypeVar("_T")


class Color(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


class Odd(str):
    """A text that shows itself as another."""

    __slots__ = ()

    def __str__(self) -> str:
        return "odd"


class Anything(msgspec.Struct):
    key: Any


class Renamed(msgspec.Struct, rename="camel"):
    order_id: str


class Page(msgspec.Struct, Generic[_T]):
    of: _T


@dataclasses.dataclass
class Plain:
    sku: str


class Typed(TypedDict):
    sku: str
    color: NotRequired[str]


class Later(msgspec.Struct):
    sku: str
    other: Afterwards | None = None


def keyed(kind: Any, key: Any) -> Operation[Any, None]:
    return Operation[Any, None]("prices.quote", kind, None, mode="journaled", key=key)


# --- the text of a value --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("tea", "tea"),
        ("", ""),
        ("Grüße 🍵", "Grüße 🍵"),
        (Odd("green tea"), "green tea"),
        (7, "7"),
        (-7, "-7"),
        (True, "true"),
        (False, "false"),
        (Color.RED, "red"),
        (Size.LARGE, "3"),
        (SOME_UUID, "12345678-1234-5678-1234-567812345678"),
        (date(2024, 2, 9), "2024-02-09"),
        (None, ""),
        (msgspec.UNSET, ""),
        ("x" * KEY_LIMIT, "x" * KEY_LIMIT),
    ],
)
def test_a_value_has_one_text(value: Any, text: str):
    found = keyed(Anything, "key").key_of(Anything(value))

    assert found == text
    assert type(found) is str


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1.0, "a float"),
        (Decimal("1.0"), "a Decimal"),
        (datetime(2024, 2, 9), "a datetime"),
        (b"tea", "a bytes"),
        (["tea"], "a list"),
        (Plain("tea"), "a Plain"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogates"),
        pytest.param(10**5000, "digits", id="huge"),
        ("x" * (KEY_LIMIT + 1), "513 characters; 512 is the most"),
    ],
)
def test_a_value_without_one_text_is_refused(value: Any, says: str):
    with pytest.raises(InvalidDataError, match=rf"'key', the ordering key of prices\.quote, .*{says}"):
        keyed(Anything, "key").key_of(Anything(value))


# --- the field of a type --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "data"),
    [
        (Plain, "sku", Plain("tea")),
        (Renamed, "orderId", Renamed("tea")),
        (Page[Sku], "of", Page(Sku("tea"))),
        (Annotated[Plain, msgspec.Meta(description="what is sold")], "sku", Plain("tea")),
        (Typed, "sku", Typed(sku="tea")),
        (Typed, "color", Typed(sku="water", color="tea")),
        (dict[str, str], "sku", {"sku": "tea"}),
        (Mapping[str, Any], "sku", {"sku": "tea"}),
        (Page[Annotated[str, msgspec.Meta(description="its number")] | int | None], "of", Page("tea")),
        (Page[Literal["tea", 5]], "of", Page("tea")),
    ],
)
def test_a_key_is_taken_from_each_kind_of_data(kind: Any, key: str, data: Any):
    assert keyed(kind, key).key_of(data) == "tea"


def test_a_contract_without_a_key_gives_none_to_any_data():
    assert keyed(Plain, None).key_of(object()) == ""


def test_a_field_that_may_be_missing_gives_no_key_when_it_is():
    assert keyed(Typed, "color").key_of({"sku": "tea"}) == ""


@pytest.mark.parametrize(
    ("kind", "key", "data"),
    [(Typed, "sku", {}), (dict[str, str], "sku", {}), (Plain, "sku", {"sku": "tea"}), (Typed, "sku", Plain("tea"))],
)
def test_data_without_the_field_is_refused(kind: Any, key: str, data: Any):
    with pytest.raises(InvalidDataError, match=rf"{type(data).__name__} given to prices\.quote has no 'sku'"):
        keyed(kind, key).key_of(data)


@pytest.mark.parametrize(
    ("kind", "key", "says"),
    [
        (Plain, "colour", "no field of its type.*name one of sku"),
        (Renamed, "order_id", "no field of its type.*name one of orderId"),
        (Typed, "colour", "no field of its type.*name one of color, sku"),
        (Plain, "", "no field of its type"),
        (Plain, 5, "no field of its type"),
        (dict[str, str], "", "has no fields"),
        (dict[int, str], "5", "has no fields"),
        (str, "sku", "has no fields"),
        (list[Plain], "sku", "has no fields"),
        (Plain | None, "sku", "has no fields"),
        (None, "sku", "has no fields"),
        (Page[float], "of", "may be a float.*str, int, bool"),
        (Page[str | float], "of", "may be a float"),
        (Page[list[str]], "of", "may be a list"),
        (Page[bytes], "of", "may be a bytes"),
        (Page[datetime], "of", "may be a datetime"),
        (dict[str, Decimal], "of", "may be a decimal"),
    ],
)
def test_a_key_that_cannot_be_is_refused_where_it_is_declared(kind: Any, key: Any, says: str):
    with pytest.raises(DeclarationError, match=rf"key={key!r} of 'prices\.quote'.*{says}") as refused:
        keyed(kind, key)
    assert "test_key.py" in refused.value.where


def test_a_key_of_a_type_that_is_defined_later_is_looked_for_at_first_use():
    class Lost(msgspec.Struct):
        sku: str
        other: Missing  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownVariableType]

    late, lost = keyed(Later, "sku"), keyed(Lost, "sku")
    global Afterwards

    class Afterwards(msgspec.Struct): ...

    assert late.key_of(Later("tea")) == "tea"
    with pytest.raises(DeclarationError, match="Missing"):
        _ = lost.key_of


def test_what_reads_the_key_is_made_once():
    quote = keyed(Plain, "sku")

    assert quote.key_of is quote.key_of
