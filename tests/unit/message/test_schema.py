"""A schema's type takes what the real type takes, and refuses what that refuses, unknown fields besides."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct, inspect

from posthouse.message.schema import array_fields, field_schema, type_from

_T = TypeVar("_T")


class Fruit(enum.Enum):
    APPLE = "apple"
    BANANA = "banana"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Order(Struct):
    sku: str
    qty: Annotated[int, Meta(ge=1, le=10)] = 1
    tags: list[str] = []
    fruit: Fruit | None = None
    per_day: dict[str, float] = {}
    kebab: int = msgspec.field(name="ke-bab", default_factory=lambda: 3)


class Basket(Struct):
    id: uuid.UUID
    orders: list[Order]
    first: Order | None = None
    prices: dict[str, decimal.Decimal] = {}


class Row(Struct, array_like=True):
    a: int
    b: str = "x"


class Cat(Struct, tag=True):
    lives: int


class Dog(Struct, tag=True):
    name: str
    friend: Cat | Dog | None = None


class NumberedCat(Struct, tag=1, tag_field="k"):
    lives: int


class NumberedDog(Struct, tag=2, tag_field="k"):
    name: str


class CatRow(Struct, tag=True, array_like=True):
    lives: int


class DogRow(Struct, tag=True, array_like=True):
    name: str


class Node(Struct):
    value: int
    next: Node | None = None
    children: list[Node] = []
    by_name: dict[str, Node] = {}


class Left(Struct):
    right: Right | None = None


class Right(Struct):
    value: int
    left: Left | None = None


@dataclass
class Point:
    x: int
    ys: list[int] = field(default_factory=list)


class Loose(TypedDict):
    a: int
    b: NotRequired[str]


class Pair(NamedTuple):
    a: int
    b: str = "x"


class Box(Struct, Generic[_T]):
    content: _T


class Tool(Struct):
    name: Annotated[str, Meta(min_length=2, max_length=5, pattern="^[a-z]+$")]
    ratio: Annotated[float, Meta(gt=0, lt=1)]
    step: Annotated[int, Meta(multiple_of=3)] = 3
    parts: Annotated[list[int], Meta(min_length=1, max_length=2)] = []
    notes: Annotated[dict[str, int], Meta(max_length=1)] = {}
    when: Annotated[datetime.datetime, Meta(tz=True)] | None = None
    day: datetime.date | None = None
    took: datetime.timedelta | None = None
    blob: bytes = b""
    level: Level = Level.LOW
    kind: Literal["a", "b", 3] = "a"


TYPES: list[Any] = [
    *(Order, Basket, Row, Cat, Cat | Dog, Cat | Dog | int | None, NumberedCat | NumberedDog, CatRow, CatRow | DogRow),
    *(Node, Left, list[Node], Point, Loose, Pair, Box[int], Box[list[str]], Tool, Fruit, Level, Literal["a", 1, None]),
    *(tuple[int, str], tuple[int, ...], set[int], dict[str, Any], dict[str, int], dict[str, Order | None], Any, None),
    *(int, float, bool, str, bytes, datetime.date, datetime.timedelta, uuid.UUID, decimal.Decimal, int | str | None),
    *(float | int | str | None, decimal.Decimal | int, list[Order] | int, Annotated[Order, Meta(description="q")]),
]


def names_of(kind: Any) -> str:
    return str(kind).replace(f"{__name__}.", "")


NAMES = "sku qty tags type k lives name value next children x ys a b content".split()  # noqa: SIM905
TEXTS = "apple banana Cat Dog CatRow a ab 2024-02-03 2024-02-03T04:05:06Z P1D 1.5 QQ==".split()  # noqa: SIM905
SCALARS = st.none() | st.booleans() | st.integers(-3, 20) | st.floats(-9, 9) | st.sampled_from(TEXTS)
JUNK: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=5,
)  # fmt: skip


def json_for(info: inspect.Type) -> st.SearchStrategy[Any]:
    """Return plain JSON that a type mostly takes; it is made from the type itself, not from its schema."""
    match info:
        case inspect.StructType(array_like=True):
            tag = [st.just(info.tag)] if info.tag is not None else []
            return st.tuples(*tag, *(json_for(field.type) for field in info.fields)).map(list)
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            tag = {info.tag_field: st.just(info.tag)} if isinstance(info, inspect.StructType) and info.tag_field else {}
            needed = {field.encode_name: lazily(field.type) for field in info.fields if field.required}
            others = {field.encode_name: lazily(field.type) for field in info.fields if not field.required}
            return st.fixed_dictionaries(tag | needed, optional=others)
        case inspect.NamedTupleType():
            return st.tuples(*(json_for(field.type) for field in info.fields)).map(list)
        case inspect.TupleType():
            return st.tuples(*map(json_for, info.item_types)).map(list)
        case inspect.ListType() | inspect.SetType() | inspect.VarTupleType():
            return st.lists(lazily(info.item_type), max_size=2)
        case inspect.DictType():
            return st.dictionaries(st.sampled_from(NAMES), lazily(info.value_type), max_size=2)
        case inspect.UnionType():
            return st.one_of(*map(lazily, info.types))
        case inspect.Metadata():
            return json_for(info.type)
        case inspect.EnumType():
            return st.sampled_from([member.value for member in info.cls])
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.IntType():
            return st.integers(-2, 12)
        case inspect.FloatType():
            return st.floats(-1, 2) | st.integers(0, 2)
        case inspect.UUIDType():
            return st.uuids().map(str)
        case _:
            return JUNK


def lazily(info: inspect.Type) -> st.SearchStrategy[Any]:
    return st.deferred(lambda: json_for(info))


TAKES = {names_of(kind): type_from(msgspec.json.schema(kind)) for kind in TYPES}


@settings(max_examples=600)
@given(kind=st.sampled_from(TYPES), data=st.data())
def test_the_type_of_a_schema_takes_what_the_real_one_takes_but_for_unknown_fields(kind: Any, data: st.DataObject):
    fitting = json_for(inspect.type_info(kind))
    frame = msgspec.json.encode(data.draw(fitting | fitting.flatmap(spoiled) | JUNK))

    real, built = taken(frame, kind), taken(frame, TAKES[names_of(kind)])

    assert real or not built
    assert built or not real or has_unknown_field(frame, TAKES[names_of(kind)])


def spoiled(value: Any) -> st.SearchStrategy[Any]:
    """Return the value as plain JSON with one place changed, taken out or added."""

    @st.composite
    def change(draw: st.DrawFn) -> Any:
        whole: list[Any] = [copy.deepcopy(value)]
        place: Any = whole
        key: Any = 0
        while inside := keys_of(place[key]):
            if draw(st.booleans()):
                break
            place, key = place[key], draw(st.sampled_from(inside))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "remove" if place is not whole:
                del place[key]
            case "add" if isinstance(place[key], dict):
                place[key][draw(st.sampled_from(NAMES))] = draw(JUNK)
            case "add" if isinstance(place[key], list):
                place[key].append(draw(JUNK))
            case _:
                place[key] = draw(JUNK)
        return whole[0]

    return change()


def keys_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return sorted(cast("dict[str, Any]", value))
    return list(range(len(cast("list[Any]", value)))) if isinstance(value, list) else []


def taken(frame: bytes, kind: Any) -> bool:
    try:
        msgspec.json.decode(frame, type=kind)
    except msgspec.ValidationError:
        return False
    return True


def has_unknown_field(frame: bytes, kind: Any) -> bool:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(frame, type=kind)
    return "unknown field" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        (bytes, b'"QQ=="'),
        (bytes, b'"no base64"'),
        (Cat, b'{"lives":9}'),
        (Cat, b'{"type":"Dog","lives":9}'),
        (Cat | Dog, b'{"lives":9}'),
        (Annotated[int, Meta(ge=1, le=3)], b"0"),
        (Annotated[int, Meta(ge=1, le=3)], b"1"),
        (Annotated[int, Meta(ge=1, le=3)], b"3"),
        (Annotated[int, Meta(ge=1, le=3)], b"4"),
        (Annotated[float, Meta(gt=1, lt=3)], b"1"),
        (Annotated[float, Meta(gt=1, lt=3)], b"1.5"),
        (Annotated[float, Meta(gt=1, lt=3)], b"3"),
        (Annotated[str, Meta(min_length=2, max_length=3)], b'"a"'),
        (Annotated[str, Meta(min_length=2, max_length=3)], b'"ab"'),
        (Annotated[str, Meta(min_length=2, max_length=3)], b'"abc"'),
        (Annotated[str, Meta(min_length=2, max_length=3)], b'"abcd"'),
        (Annotated[list[int], Meta(min_length=1, max_length=1)], b"[]"),
        (Annotated[list[int], Meta(min_length=1, max_length=1)], b"[1]"),
        (Annotated[list[int], Meta(min_length=1, max_length=1)], b"[1,2]"),
        (Annotated[dict[str, int], Meta(min_length=1, max_length=1)], b"{}"),
        (Annotated[dict[str, int], Meta(min_length=1, max_length=1)], b'{"a":1}'),
        (Annotated[dict[str, int], Meta(min_length=1, max_length=1)], b'{"a":1,"b":2}'),
        (Pair, b"[1]"),
        (Pair, b'[1,"x"]'),
        (Pair, b'[1,"x",3]'),
        (Row, b'[1,"x",3]'),
    ],
    ids=str,
)
def test_at_each_limit_the_type_of_a_schema_decides_as_the_real_one(kind: Any, frame: bytes):
    assert taken(frame, type_from(msgspec.json.schema(kind))) == taken(frame, kind)


# --- what a schema cannot say, and what it says beyond --------------------------------------------------


def test_a_wrong_value_is_told_with_its_path():
    basket = type_from(msgspec.json.schema(Basket))

    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` - at `\$\.orders\[1\]\.qty`"):
        msgspec.json.decode(
            b'{"id":"00000000-0000-0000-0000-000000000001","orders":[{"sku":"a"},{"sku":"b","qty":"2"}]}', type=basket
        )


def test_an_unknown_field_is_refused_by_its_name_on_every_level():
    basket = type_from(msgspec.json.schema(Basket))

    with pytest.raises(msgspec.ValidationError, match=r"unknown field `role` - at `\$\.orders\[0\]`"):
        msgspec.json.decode(
            b'{"id":"00000000-0000-0000-0000-000000000001","orders":[{"sku":"a","role":"admin"}]}', type=basket
        )


def test_an_object_that_says_it_is_open_takes_unknown_fields():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True}

    assert taken(b'{"a":1,"more":2}', type_from(schema))
    assert not taken(b'{"a":"1"}', type_from(schema))


ODD: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer"}}, "patternProperties": {"^x": {}}},
    {"allOf": [{"type": "integer"}]},
    {"not": {"type": "integer"}},
    {"enum": [True, 1.5]},
    {"anyOf": [{"type": "string"}, {"type": "string", "format": "date"}]},
    {"anyOf": [{"type": "object"}, {"type": "object", "properties": {}}]},
    {"type": "future"},
    {"$ref": "#/nowhere"},
    {"$ref": "elsewhere.json"},
]


@pytest.mark.parametrize("part", ODD, ids=str)
def test_a_part_that_is_not_understood_takes_everything_and_the_rest_is_still_checked(part: dict[str, Any]):
    built = type_from({"type": "object", "properties": {"odd": part, "n": {"type": "integer"}}, "required": ["n"]})

    for odd in (b"1", b'"s"', b"[1]", b'{"z":1}', b"null", b"true"):
        assert taken(b'{"n":1,"odd":' + odd + b"}", built)
    assert not taken(b'{"n":"1","odd":1}', built)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}},
        {"type": "string", "pattern": "("},
        {"type": "integer", "minimum": 10**30},
        {"type": "array", "prefixItems": [], "minItems": 0, "maxItems": 0},
        {"type": "integer", "minimum": 1, "exclusiveMinimum": 1},
    ],
    ids=str,
)
def test_an_odd_schema_is_no_accident_of_the_gateway(schema: dict[str, Any]):
    msgspec.json.Decoder(type_from(schema))


def test_a_list_of_types_is_a_union_of_them():
    built = type_from({"type": ["string", "null"], "maxLength": 2})

    assert [taken(frame, built) for frame in (b'"ab"', b"null", b'"abc"', b"1")] == [True, True, False, False]


def test_fields_that_hold_arrays_are_known_for_queries():
    class Filter(Struct):
        tags: list[str] = []
        ids: set[int] | None = None
        text: str = ""
        row: tuple[int, int] = (0, 0)

    assert array_fields(msgspec.json.schema(Filter)) == {"tags", "ids", "row"}
    assert array_fields({"type": "integer"}) == frozenset()


def test_the_schema_of_one_field_stands_alone():
    schema = msgspec.json.schema(Basket)

    assert taken(b'{"sku":"a"}', type_from(field_schema(schema, "first") or {}))
    assert not taken(b'{"sku":1}', type_from(field_schema(schema, "first") or {}))
    assert field_schema(schema, "nothing") is None
