"""An example of what a schema describes, and the curl command that sends it: ready to paste."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode

import msgspec

from posthouse.message.schema import resolved

if TYPE_CHECKING:
    from posthouse.contracts.registry import OperationRecord

_FIELD: Final = re.compile(r"\{(\w+)\}")
_STRINGS: Final = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00",
    "duration": "PT5S",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "decimal": "1.50",
    "byte": "",
}
_DEEPEST: Final = 6


def sample(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """Return data that fits a schema, as far as simple means go: the required fields, and those with a default."""
    root = root if root is not None else schema
    part = resolved(schema, root)
    if depth > _DEEPEST:
        return None
    for key in ("const", "default"):
        if key in part:
            return part[key]
    for key in ("examples", "enum"):
        if part.get(key):
            return part[key][0]
    if branches := part.get("anyOf") or part.get("oneOf"):
        branch = next((each for each in branches if each.get("type") != "null"), branches[0])
        return sample(branch, root, depth + 1)
    match part.get("type"):
        case "object":
            fields: Mapping[str, Any] = part.get("properties", {})
            required = part.get("required", ())
            return {
                name: sample(field, root, depth + 1)
                for name, field in fields.items()
                if name in required or resolved(field, root).get("default") not in (None, [], {}, "")
            }
        case "array" if "prefixItems" in part:
            return [sample(item, root, depth + 1) for item in part["prefixItems"]]
        case "array":
            return [sample(part["items"], root, depth + 1)] if isinstance(part.get("items"), Mapping) else []
        case "string":
            return _STRINGS.get(part.get("format", ""), "text")
        case "integer" | "number":
            return max(part.get("minimum", 1), part.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case _:
            return None


def curl(operation: OperationRecord, base: str) -> str:
    """Return the command that sends an example to an operation's route.

    Args:
        operation: one that has a route.
        base: of the gateway, "http://127.0.0.1:8080".
    """
    method, _, path = operation.http.partition(" ")
    data: Any = None if operation.whole_request else sample(operation.request)
    fields = dict(cast("Mapping[str, Any]", data)) if isinstance(data, Mapping) else {}
    for name in _FIELD.findall(path):
        path = path.replace(f"{{{name}}}", quote(_text(fields.pop(name, "text")), safe=""))
    if method in {"GET", "DELETE"}:
        query = urlencode({name: _text(value) for name, value in fields.items()})
        url = shlex.quote(f"{base}{path}?{query}" if query else f"{base}{path}")
        return f"curl {url}" if method == "GET" else f"curl -X DELETE {url}"
    start = f"curl {'' if method == 'POST' else f'-X {method} '}{shlex.quote(base + path)}"
    if operation.whole_request:  # only its handler knows what it reads
        return f"{start} --data-binary @FILE"
    body = shlex.quote(msgspec.json.encode(fields if isinstance(data, Mapping) else data).decode())
    return f"{start} --json {body}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
