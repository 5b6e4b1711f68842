"""A JSON schema, as contracts carry them, to a type that msgspec checks.

The gateway has no user code, only the schemas that services announced; with the type it checks data
before anything is stored, and msgspec's own errors say which field is wrong. One rule: **never
stricter than the type that the schema was written from**, but for unknown fields of an object,
which are refused (`additionalProperties: true` lets them in). What the schema does not say, or says
in words that are not in `_KNOWN`, is not checked here; the service checks it again.

What a schema cannot say, and is therefore let through: that an untagged date-time is one (msgspec
writes a plain string unless a time zone is asked for), keys that must be numbers, a `_missing_` of
an Enum. A first required field with one allowed value may be left out, since msgspec lets a lone
tagged Struct come without its tag and both are written alike.

How messages are checked in the service itself does not belong here: it has the real types.
"""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, ForwardRef, Literal, TypeAlias, Union, cast

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, UnsetType

Schema: TypeAlias = Mapping[str, Any]

_KNOWN: Final = frozenset(
    {
        *("$ref", "$defs", "title", "description", "default", "examples", "deprecated"),
        *("type", "enum", "const", "anyOf", "oneOf", "discriminator"),
        *("properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"),
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("format", "contentEncoding", "pattern", "minLength", "maxLength"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    }
)
_STRINGS: Final[Mapping[str, Any]] = {
    "date-time": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "duration": datetime.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
}
_KIND_OF: Final[Mapping[type, str]] = {str: "string", int: "integer", type(None): "null"}
_OF_NUMBERS: Final = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
_OF_STRINGS: Final = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
_OF_ARRAYS: Final = {"minItems": "min_length", "maxItems": "max_length"}
_OF_OBJECTS: Final = {"minProperties": "min_length", "maxProperties": "max_length"}


def type_from(schema: Schema) -> Any:
    """Return a type that takes what the schema describes, for msgspec's decoders and `msgspec.convert`.

    Args:
        schema: as `msgspec.json.schema` writes it; `$ref` points into the schema itself.

    Returns:
        A type; Any for the parts of a schema that are not understood, and for all of one that
        msgspec cannot check in one pass.
    """
    try:
        builder = _Builder(schema)
        built = builder.build(schema)
        builder.close_rings()
        msgspec.json.Decoder(built)  # it looks into every part now, not at the first message
    except (TypeError, ValueError, RecursionError, re.error):
        return Any
    return built


def array_fields(schema: Schema) -> frozenset[str]:
    """Return the fields of an object that hold arrays: those that a query may name more than once."""

    def holds_array(field: Schema) -> bool:
        field = resolved(field, schema)
        return field.get("type") == "array" or any(map(holds_array, _branches(field)))

    properties = resolved(schema, schema).get("properties", {})
    return frozenset(name for name, field in properties.items() if holds_array(field))


def field_schema(schema: Schema, name: str) -> Schema | None:
    """Return the schema of one field of an object, complete with its `$defs`; None when there is none."""
    field = resolved(schema, schema).get("properties", {}).get(name)
    return None if field is None else {"$defs": schema.get("$defs", {}), **field}


def resolved(part: Schema, root: Schema) -> Schema:
    """Follow `$ref` to where it points; an empty schema when that is nowhere."""
    seen: set[str] = set()
    while (pointer := part.get("$ref")) is not None:
        if pointer in seen:
            return {}
        seen.add(pointer)
        part = _at(pointer, root)
    return part


def _at(pointer: str, root: Schema) -> Schema:
    place: Any = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        place = cast("Schema", place).get(step.replace("~1", "/").replace("~0", "~")) if _is_schema(place) else None
    return cast("Schema", place) if pointer.startswith("#/") and _is_schema(place) else {}


def _is_schema(value: object) -> bool:
    return isinstance(value, Mapping)


def _branches(part: Schema) -> Sequence[Schema]:
    return part.get("anyOf") or part.get("oneOf") or ()


class _Builder:
    """Builds the type of one schema; each object of `$defs` once, and a ring of them by forward references."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._built: dict[tuple[str, str], Any] = {}
        self._open: dict[tuple[str, str], str] = {}
        self._asked_for: set[str] = set()
        self._rings: dict[str, type[msgspec.Struct]] = {}
        self._made: list[type[msgspec.Struct]] = []

    def close_rings(self) -> None:
        """Let every class find the names that forward references use: msgspec looks for them in the class."""
        for made in self._made:
            for name, target in self._rings.items():
                setattr(made, name, target)

    def build(self, part: Schema, tag_field: str = "") -> Any:
        """Return the type of a part; with `tag_field`, as a member of a union that this field tells apart."""
        if not _KNOWN.issuperset(part):
            return Any
        if (pointer := part.get("$ref")) is not None:
            return self._referred(pointer, tag_field)
        if branches := _branches(part):
            return self._union(branches, part.get("discriminator", {}).get("propertyName", ""))
        if "enum" in part or "const" in part:
            return _one_of(part.get("enum", [part.get("const")]))
        match part.get("type"):
            case "object" if "properties" in part:
                return self._struct(part, tag_field)
            case "object":
                return self._map(part)
            case "array" if "prefixItems" in part:
                return self._row(part, tag_field)
            case "array":
                items = part.get("items", {})
                return _limited(list[self.build(items)] if _is_schema(items) else list[Any], part, _OF_ARRAYS)
            case "string":
                return _string(part)
            case "integer":
                return _limited(int, part, _OF_NUMBERS)
            case "number":
                return _limited(float, part, _OF_NUMBERS)
            case "boolean":
                return bool
            case "null":
                return None
            case [*kinds]:
                return self._union([{**part, "type": kind} for kind in kinds])
            case _:
                return Any

    def _referred(self, pointer: str, tag_field: str) -> Any:
        key = (pointer, tag_field)
        if key in self._built:
            return self._built[key]
        if key in self._open:  # a ring: by name, filled in when the class is there
            name = self._open[key]
            self._asked_for.add(name)
            return ForwardRef(name)
        target = resolved(_at(pointer, self._root), self._root)
        name = f"Part{len(self._built) + len(self._open)}"
        self._open[key] = name
        built = self.build(target, tag_field)
        del self._open[key]
        if name in self._asked_for:
            if not (isinstance(built, type) and issubclass(built, msgspec.Struct)):
                raise TypeError(f"{pointer} contains itself, and is no object")
            self._rings[name] = built
        self._built[key] = built
        return built

    def _union(self, branches: Sequence[Schema], tag_field: str = "") -> Any:
        wholes = [resolved(branch, self._root) for branch in branches]
        rows = [whole for whole in wholes if "prefixItems" in whole]
        if len(rows) > 1 and all(_tag_of(row) is not None for row in rows):
            tag_field = tag_field or "type"
        members = [self.build(branch, tag_field) for branch in branches]
        if not _told_apart(wholes, tag_field, self._root):
            return Any
        return _either(members)

    def _struct(self, part: Schema, tag_field: str) -> Any:
        properties: Mapping[str, Schema] = part["properties"]
        required = set(part.get("required", ()))
        extra = part.get("additionalProperties", False)
        tag = _only_value(properties[tag_field]) if tag_field in properties else None
        fields: list[tuple[str, Any, Any]] = []
        names: dict[str, str] = {}
        for position, (name, field) in enumerate(properties.items()):
            if name == tag_field and tag is not None:
                continue
            kind = self.build(field)
            may_be_a_tag = position == 0 and not tag_field and _only_value(field) is not None
            if name in required and not may_be_a_tag:
                fields.append((f"f{position}", kind, NODEFAULT))
            else:
                fields.append((f"f{position}", _either([kind, UnsetType]), UNSET))
            names[f"f{position}"] = name
        return self._class(
            fields,
            rename=names,
            kw_only=True,
            forbid_unknown_fields=extra is False,
            tag=tag,
            tag_field=tag_field if tag is not None else None,
        )

    def _row(self, part: Schema, tag_field: str) -> Any:
        """Return the type of an array whose places have types of their own."""
        places: list[Schema] = part["prefixItems"]
        least, most = part.get("minItems", 0), part.get("maxItems")
        if least == most == len(places) and places:
            return tuple[tuple(self.build(place) for place in places)]
        if most is not None and most != len(places):
            return list[Any]
        tag = _tag_of(part) if tag_field else None
        fields = [
            (f"f{position}", self.build(place), NODEFAULT if position < least else None)
            for position, place in enumerate(places)
        ]
        return self._class(
            fields[1:] if tag is not None else fields,
            array_like=True,
            forbid_unknown_fields=most is not None,
            tag=tag,
            tag_field=tag_field if tag is not None else None,
        )

    def _class(self, fields: list[tuple[str, Any, Any]], **how: Any) -> Any:
        define = cast("Callable[..., type[msgspec.Struct]]", msgspec.defstruct)
        made = define("Part", [field if field[2] is not NODEFAULT else field[:2] for field in fields], gc=False, **how)
        self._made.append(made)
        return made

    def _map(self, part: Schema) -> Any:
        values = part.get("additionalProperties", {})
        if values is False:
            return Annotated[dict[str, Any], Meta(max_length=0)]
        keys = _limited(str, part.get("propertyNames", {}), _OF_STRINGS)
        return _limited(dict[keys, self.build(values) if _is_schema(values) else Any], part, _OF_OBJECTS)


def _string(part: Schema) -> Any:
    if "contentEncoding" in part:  # lengths are those of the text, not of the bytes
        return bytes if part["contentEncoding"] == "base64" else str
    return _STRINGS.get(part.get("format", "")) or _limited(str, part, _OF_STRINGS)


def _limited(kind: Any, part: Schema, limits: Mapping[str, str]) -> Any:
    said = {ours: part[theirs] for theirs, ours in limits.items() if theirs in part}
    if not said:
        return kind
    try:
        return Annotated[kind, Meta(**said)]
    except (TypeError, ValueError, re.error):
        return kind  # limits that msgspec cannot hold are left to the service


def _one_of(values: Sequence[Any]) -> Any:
    if not values or any(type(value) not in (str, int, type(None)) for value in values):
        return Any
    return Literal[tuple(values)]


def _either(members: Iterable[Any]) -> Any:
    members = tuple(members)
    return Any if Any in members else cast("Any", Union)[members]


def _only_value(part: Schema) -> Any:
    values = part.get("enum", [part["const"]] if "const" in part else [])
    return values[0] if len(values) == 1 else None


def _tag_of(row: Schema) -> Any:
    places = row.get("prefixItems", ())
    return _only_value(places[0]) if places else None


def _told_apart(branches: Sequence[Schema], tag_field: str, root: Schema) -> bool:
    """Whether msgspec can see which branch it has: by the kind of JSON, or by the tag of an object or a row."""
    kinds = [kind for branch in branches for kind in _kinds(branch, root)]
    if any(kinds.count(kind) > 1 for kind in ("string", "integer", "number", "boolean", "map")):
        return False
    if kinds.count("object") + kinds.count("map") > 1 and not all(
        _only_value(branch.get("properties", {}).get(tag_field, {})) is not None
        for branch in branches
        if "object" in _kinds(branch, root)
    ):
        return False
    return kinds.count("array") < 2 or all(
        _tag_of(branch) is not None for branch in branches if "array" in _kinds(branch, root)
    )


def _kinds(part: Schema, root: Schema) -> set[str]:
    """Return the kinds of JSON that a part takes; "map" is an object without fields."""
    part = resolved(part, root)
    if branches := _branches(part):
        return {kind for branch in branches for kind in _kinds(branch, root)}
    if "enum" in part or "const" in part:
        values: list[object] = part.get("enum", [part.get("const")])
        return {_KIND_OF.get(type(value), "any") for value in values}
    kind = part.get("type", "any")
    if kind == "object" and "properties" not in part:
        return {"map"}
    return {kind} if isinstance(kind, str) else set(cast("list[str]", kind))
