"""The ordering key: from a field of the data to the text that travels.

Requests with the same text are handled in the order asked, so a value must have one text only: floats,
decimals and times, which can be written in several ways, are no keys. Which requests wait for which is
not said here.
"""

from __future__ import annotations

import operator
from datetime import date, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

import msgspec
from msgspec import inspect

from posthouse.declare.wrong import wrong
from posthouse.errors import InvalidDataError

if TYPE_CHECKING:
    from collections.abc import Callable

    _Get: TypeAlias = Callable[[Any], Any]

KEY_LIMIT: Final = 512
"""The longest ordering key, in characters."""

_PLAIN: Final = (
    inspect.StrType,
    inspect.IntType,
    inspect.BoolType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.UUIDType,
    inspect.DateType,
    inspect.NoneType,
    inspect.AnyType,
)
_DO: Final = "name a field that is a str, int, bool, Enum, UUID or date"


def check_key(key: Any, kind: Any, name: str) -> None:
    """See to it that data of a type has this ordering key.

    A type with a name in it that is not defined yet passes; the first use of the key is the second chance.

    Args:
        key: the field, as it is named in JSON.
        kind: the type of the data.
        name: of the operation or event, for the error.

    Raises:
        DeclarationError: there is no such field, or what it holds cannot be a key.
    """
    try:
        _getter(key, kind, name)
    except NameError:
        return


def key_reader(key: str | None, kind: Any, name: str) -> Callable[[Any], str]:
    """Return what gives the ordering key of data: a text of at most KEY_LIMIT characters, empty for none.

    It raises InvalidDataError when the data has no such field, or holds there what cannot be a key.

    Args:
        key: the field, as it is named in JSON; None when no order is kept.
        kind: the type of the data.
        name: of the operation, for errors.

    Raises:
        DeclarationError: as `check_key`; or the type names something that is defined nowhere.
    """
    if key is None:
        return _none
    try:
        get = _getter(key, kind, name)
    except NameError as error:
        raise wrong(f"the type of {name!r} cannot be read: {error}", "define what it names") from error

    def read(data: Any) -> str:
        try:
            value = get(data)
        except (AttributeError, LookupError, TypeError) as error:
            raise InvalidDataError(
                f"the {type(data).__name__} given to {name} has no {key!r}, its ordering key"
            ) from error
        try:
            text = _text(value)
        except ValueError as error:
            raise InvalidDataError(f"{key!r}, the ordering key of {name}, cannot be one: {error}") from error
        if len(text) > KEY_LIMIT:
            raise InvalidDataError(
                f"{key!r}, the ordering key of {name}, has {len(text):,} characters; {KEY_LIMIT} is the most"
            )
        return text

    return read


def _none(data: Any) -> str:
    del data  # there is no field to look at
    return ""


def _text(value: Any) -> str:
    """Return the one text of a value.

    Raises:
        ValueError: it has none.
    """
    if isinstance(value, Enum):
        value = value.value
    match value:
        case str():
            if "\0" in value:  # some stores end a text here
                raise ValueError("it holds a NUL")
            value.encode()  # half a surrogate pair cannot travel
            return str.__str__(value)
        case bool():
            return "true" if value else "false"
        case int():
            return int.__repr__(value)
        case UUID():
            return str(value)
        case date() if not isinstance(value, datetime):
            return value.isoformat()
        case None | msgspec.UnsetType():
            return ""
        case _:
            raise ValueError(f"it is a {type(value).__name__}")


def _getter(key: Any, kind: Any, name: str) -> _Get:
    """Return what takes the field from data.

    Raises:
        DeclarationError: the type has no such field, or not one that can be a key.
        NameError: the type names something that is not defined yet.
    """
    of = f"key={key!r} of {name!r}"
    described = _bare(inspect.type_info(kind))
    match described:
        case inspect.StructType(fields=fields) | inspect.DataclassType(fields=fields):
            field = _field(key, fields, of)
            return operator.attrgetter(field.name)
        case inspect.TypedDictType(fields=fields):
            field = _field(key, fields, of)
            return operator.itemgetter(key) if field.required else operator.methodcaller("get", key)
        case inspect.DictType(key_type=inspect.StrType() | inspect.AnyType(), value_type=value) if (
            isinstance(key, str) and key
        ):
            _check_plain(value, of)
            return operator.itemgetter(key)
        case _:
            raise wrong(f"{of}: its type has no fields", "send a Struct with a field for it, or leave key out")


def _field(key: Any, fields: tuple[inspect.Field, ...], of: str) -> inspect.Field:
    for field in fields:
        if field.encode_name == key:
            _check_plain(field.type, of)
            return field
    named = ", ".join(sorted(field.encode_name for field in fields))
    raise wrong(f"{of} is no field of its type", f"name one of {named}" if named else "leave key out: it has no fields")


def _check_plain(described: inspect.Type, of: str) -> None:
    described = _bare(described)
    kinds = described.types if isinstance(described, inspect.UnionType) else (described,)
    for kind in kinds:
        if not isinstance(_bare(kind), _PLAIN):
            what = type(_bare(kind)).__name__.removesuffix("Type").lower()
            raise wrong(f"{of} may be a {what}, which has no one text to compare", _DO)


def _bare(described: inspect.Type) -> inspect.Type:
    return described.type if isinstance(described, inspect.Metadata) else described
