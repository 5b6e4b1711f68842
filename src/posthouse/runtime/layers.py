"""Values from files, variables and flags, held against the structs that say what may be set.

Each layer is checked alone, so that an error names the place where the value stands; then the
layers are laid over each other. This file knows no key by name: what can be set stands in
settings.py. Durations and sizes may be written with units ("5s", "1MiB").
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, cast, get_args, get_origin

import msgspec

from posthouse.clock import seconds
from posthouse.errors import ConfigError

Lasts: TypeAlias = Annotated[float, msgspec.Meta(ge=0, extra={"unit": "time"})]
"""Seconds, as a number or as "5s"."""

Size: TypeAlias = Annotated[int, msgspec.Meta(ge=1, extra={"unit": "bytes"})]
"""Bytes, as a number or as "1MiB"."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?(B|kB|KiB|MB|MiB|GB|GiB)")
_BYTES: Final = {"B": 1, "kB": 1000, "KiB": 1 << 10, "MB": 10**6, "MiB": 1 << 20, "GB": 10**9, "GiB": 1 << 30}


def nearest(word: str, words: Iterable[str], path: str = "") -> str:
    """Return " (did you mean 'x'?)" for the word that is most like it, or nothing."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {(f'{path}.' if path else '') + close[0]!r}?)" if close else ""


def check(
    values: object, kind: type[msgspec.Struct], source: str, *, text: bool = False, path: str = ""
) -> dict[str, Any]:
    """Return the values of one layer, each as the type that its field has.

    Args:
        values: what the layer says, nested as `kind` is; None stands for "not said".
        kind: the struct whose fields may be set.
        source: the place it stands, for errors: a file's name, a variable.
        text: every value is text, as in the environment; numbers and lists are read from it.
        path: where in the whole these values stand, "gateway".

    Raises:
        ConfigError: an unknown key, or a value that its field cannot have.
    """
    if not isinstance(values, Mapping):
        # the kind of it and not the value, which may be a secret in the wrong place
        raise ConfigError(f"{source}: {path} is a table of keys and values, not {type(values).__name__}")
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    checked: dict[str, Any] = {}
    for key, value in cast("Mapping[str, Any]", values).items():
        if value is None:
            continue
        where = f"{path}.{key}" if path else key
        if key not in fields:
            raise ConfigError(
                f"{source}: unknown key {where!r}{nearest(key, fields, path)}",
                hint=f"Known here: {', '.join(sorted(fields))}.",
            )
        checked[key] = _value(value, fields[key], source, text=text, path=where)
    return checked


def overlay(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Return both, nested tables joined; where both say something, `upper` is right."""
    joined = dict(lower)
    for key, value in upper.items():
        below = joined.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            joined[key] = overlay(cast("dict[str, Any]", below), cast("dict[str, Any]", value))
        else:
            joined[key] = value
    return joined


def _value(value: Any, kind: Any, source: str, *, text: bool, path: str) -> Any:
    if struct := struct_of(kind):
        return check(value, struct, source, text=text, path=path)
    if get_origin(kind) is dict and (struct := struct_of(get_args(kind)[1])):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source}: {path} is a table of keys and values, not {type(value).__name__}")
        rows = cast("Mapping[str, Any]", value)
        return {name: check(row, struct, source, text=text, path=f'{path}."{name}"') for name, row in rows.items()}
    try:
        if unit := _unit_of(kind):
            value = _measure(value, unit, text=text)
        elif text and get_origin(kind) is list:
            value = [part.strip() for part in str(value).split(",") if part.strip()]
        return msgspec.convert(value, kind, strict=not text)
    except (msgspec.ValidationError, ValueError) as error:
        shown = "..." if path.endswith("secret") else repr(value)
        raise ConfigError(f"{source}: {path} = {shown}: {_reason(error, kind)}") from None


def _reason(error: Exception, kind: Any) -> str:
    if choices := [
        str(choice) for member in _members(kind) if get_origin(member) is Literal for choice in get_args(member)
    ]:
        return f"expected one of {', '.join(choices)}"
    said = str(error).replace("`", "")
    return said[:1].lower() + said[1:]


def _measure(value: Any, unit: str, *, text: bool) -> Any:
    if not isinstance(value, str):
        return seconds(value) if unit == "time" and type(value) in (int, float) else value
    if text and re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value) if unit == "time" else int(value)
    if unit == "time":
        return seconds(value)
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is not a size; write 1048576, '64KiB' or '1MiB'")
    return int(float(match[1]) * _BYTES[match[2]])


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct that a field holds, or None when it holds a value."""
    for member in _members(kind):
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            return member
    return None


def _unit_of(kind: Any) -> str:
    for member in _members(kind):
        for meta in getattr(member, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.extra:
                return str(meta.extra.get("unit", ""))
    return ""
