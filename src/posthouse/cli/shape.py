"""A schema in one line, as people read it: {sku: string, qty: integer = 1, tags?: [string]}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from posthouse.message.schema import resolved

_DEEPEST: Final = 4


def shape(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, depth: int = 0) -> str:
    """Return what a schema describes; "..." for what is deeper than a line can show."""
    root = root if root is not None else schema
    part = resolved(schema, root)
    if depth > _DEEPEST:
        return "..."
    if choices := part.get("enum") or ([part["const"]] if "const" in part else []):
        return " | ".join(msgspec.json.encode(choice).decode() for choice in choices)
    if branches := part.get("anyOf") or part.get("oneOf"):
        return " | ".join(shape(branch, root, depth + 1) for branch in branches)
    match part.get("type"):
        case "object" if "properties" in part:
            required = part.get("required", ())
            fields: Mapping[str, Any] = part["properties"]
            return "{" + ", ".join(_field(name, fields[name], name in required, root, depth) for name in fields) + "}"
        case "object":
            return f"{{string: {_inner(part.get('additionalProperties'), root, depth)}}}"
        case "array":
            return f"[{_inner(part.get('items'), root, depth)}]"
        case str(kind):
            return part.get("format") or kind
        case _:
            return "any"


def _inner(part: Any, root: Mapping[str, Any], depth: int) -> str:
    return shape(cast("Mapping[str, Any]", part), root, depth + 1) if isinstance(part, Mapping) else "any"


def _field(name: str, field: Mapping[str, Any], required: bool, root: Mapping[str, Any], depth: int) -> str:
    kind = shape(field, root, depth + 1)
    if required:
        return f"{name}: {kind}"
    if "default" in field:
        return f"{name}: {kind} = {msgspec.json.encode(field['default']).decode()}"
    return f"{name}?: {kind}"
