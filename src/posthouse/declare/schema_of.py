"""From a type to what the wire needs of it: its decoder, its encoder, its JSON schema, its fields.

msgspec does the work, for Struct, dataclass, TypedDict, attrs and the builtin types. A type that it
cannot read is refused when it is declared. Decoders and schemas are made when first asked for, so
that importing a program costs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from posthouse.declare.wrong import wrong

if TYPE_CHECKING:
    from collections.abc import Callable

encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode
"""Data of any declared type to its bytes."""


def check_type(kind: Any, what: str, *, where: str = "") -> None:
    """See to it that data of this type can be read and written.

    A type with a name in it that is not defined yet passes; its decoder is the second chance.

    Args:
        kind: the type as the user wrote it.
        what: what it is the type of, for the error: "the request of 'prices.quote'".
        where: where it is declared; the caller's line when empty.

    Raises:
        DeclarationError: it cannot.
    """
    try:
        msgspec.json.schema(kind)  # walks the whole type, which making a decoder does not
    except NameError:
        return
    except TypeError as error:
        raise wrong(f"{what} has the type {_shown(kind)}: {_reason(error)}", _INSTEAD, where=where) from error


def decoder(kind: Any, what: str) -> Callable[[bytes], Any]:
    """Return what reads data of this type; it raises msgspec.DecodeError, with the path of the field.

    Raises:
        DeclarationError: the type names something that is defined nowhere, or cannot be read.
    """
    if kind is None or kind is type(None):
        return _nothing
    try:
        return msgspec.json.Decoder(kind).decode
    except (NameError, TypeError) as error:
        raise wrong(f"{what} has the type {_shown(kind)}: {_reason(error)}", _INSTEAD) from error


def schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; {"type": "null"} for None."""
    return msgspec.json.schema(kind)


def field_names(kind: Any) -> frozenset[str] | None:
    """Return the fields of a type as they are named in JSON; None when it is not made of fields."""
    try:
        described = msgspec.inspect.type_info(kind)
    except NameError:
        return None
    match described:
        case (
            msgspec.inspect.StructType(fields=fields)
            | msgspec.inspect.DataclassType(fields=fields)
            | msgspec.inspect.TypedDictType(fields=fields)
        ):
            return frozenset(field.encode_name for field in fields)
        case _:
            return None


def fits(given: Any, *, into: Any) -> bool:
    """Return False if data of the type `given` is certainly not of the type `into`.

    Two classes can be told apart at import; whether two other types fit is for a type checker to say.
    """
    given, into = (type(None) if kind is None else kind for kind in (given, into))
    if given is Any or into is Any:  # it is a class too, and has no subclasses
        return True
    if isinstance(given, type) and isinstance(into, type):
        try:
            return issubclass(given, into)
        except TypeError:  # not to be asked of a TypedDict or a Protocol
            return True
    return True


_INSTEAD: Final = "use a msgspec.Struct, a dataclass, a TypedDict, an attrs class, or builtin types"


def _nothing(data: bytes) -> Any:
    """Read None, which may also have no bytes at all."""
    if data not in {b"", b"null"}:
        raise msgspec.ValidationError("Expected `null`")
    return None


def _shown(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


def _reason(error: Exception) -> str:
    last = str(error).rpartition("\n")[2]  # msgspec's advice before it is not for our users
    return f"{last[:1].lower()}{last[1:]}"
