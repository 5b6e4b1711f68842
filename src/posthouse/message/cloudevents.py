"""A message as a CloudEvent, and back: the structured mode of CloudEvents 1.0, as a JSON object.

What CloudEvents has a name for bears it; our other attributes are extensions whose names begin with
`posthouse`, in lower case and without signs, as the specification asks. What stands at its default
is left out. Data that is JSON travels as JSON, any other as `data_base64`. The number with which
journaled delivery orders a lane, and seals, belong to a frame and stay behind, as do extensions
that CloudEvents has no name or no type for.

Source: CloudEvents 1.0.2, specification and JSON event format; the "distributed tracing" extension.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from posthouse.errors import MalformedBodyError
from posthouse.message.message import JSON, Kind, Message, Mode, Priority, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from posthouse.clock import Instant

MEDIA_TYPE: Final = "application/cloudevents+json"

_SOURCE: Final = "/services/"
_JSON_LIKE: Final = re.compile(r"[^/;\s]+/(?:json|[^/;\s]+\+json)\s*(?:;.*)?", re.IGNORECASE)
_EXTENSION: Final = re.compile(r"[a-z0-9]+")
_TEXTS: Final = {  # our texts, by the names of their extensions
    "posthousereplyto": "reply_to",
    "partitionkey": "key",
    "traceparent": "trace",
    "posthousework": "work",
    "posthousetenant": "tenant",
}
_INSTANT: Final = "posthousedeadline"
_CHOICES: Final[Mapping[str, tuple[str, type[Kind] | type[Mode] | type[Priority], int]]] = {
    "posthousekind": ("kind", Kind, Kind.EVENT),
    "posthousemode": ("mode", Mode, Mode.QUEUED),
    "posthousepriority": ("priority", Priority, Priority.NORMAL),
}
_REFUSAL: Final = "posthouserefusal"
_KNOWN: Final = frozenset(
    {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data", "data_base64"}
    | {"dataschema", _INSTANT, _REFUSAL, *_TEXTS, *_CHOICES}
)


def to_cloudevent(message: Message) -> dict[str, Any]:
    """Return a message as the JSON object of a CloudEvent.

    Raises:
        ValueError: its time or its deadline is not in the years 1 to 9999.
    """
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": message.id,
        "source": f"{_SOURCE}{message.source}",
        "type": message.type,
        "time": _written(message.time),
    }
    if message.subject:
        event["subject"] = message.subject
    for name, (field, choices, default) in _CHOICES.items():
        if (value := getattr(message, field)) != default:
            event[name] = choices(value).name.lower()
    for name, field in _TEXTS.items():
        if value := getattr(message, field):
            event[name] = value
    if message.deadline:
        event[_INSTANT] = _written(message.deadline)
    if message.refusal is not None:
        event[_REFUSAL] = msgspec.json.encode(message.refusal).decode()
    event |= {
        name: value
        for name, value in message.extensions.items()
        if _EXTENSION.fullmatch(name) and name not in _KNOWN and _fits(value)
    }
    if message.data:
        event["datacontenttype"] = content_type = message.content_type or JSON
        if (data := _json_of(message.data) if _JSON_LIKE.fullmatch(content_type) else msgspec.UNSET) is msgspec.UNSET:
            event["data_base64"] = base64.b64encode(message.data).decode()
        else:
            event["data"] = data
    elif message.content_type:
        event["datacontenttype"] = message.content_type
    return event


def from_cloudevent(event: Mapping[str, Any], *, received: Instant) -> Message:
    """Return the message that a CloudEvent is.

    Args:
        event: its JSON object, structured mode.
        received: when it came; its time if it does not say one.

    Raises:
        MalformedBodyError: it lacks what a CloudEvent must have, or has what it cannot.
    """
    if (version := event.get("specversion")) != "1.0":
        raise MalformedBodyError(f"specversion is {version!r}; CloudEvents 1.0 is read here")
    attributes: dict[str, Any] = {}
    for name, (field, choices, default) in _CHOICES.items():
        attributes[field] = _choice(event, name, choices, default)
    for name, field in _TEXTS.items():
        attributes[field] = _text(event, name)
    source = _text(event, "source", needed=True)
    content_type = _text(event, "datacontenttype")
    return Message(
        id=_text(event, "id", needed=True),
        type=_text(event, "type", needed=True),
        source=source.removeprefix(_SOURCE),
        time=_instant(event, "time") or received,
        data=_data(event, content_type or JSON),
        deadline=_instant(event, _INSTANT),
        content_type="" if content_type == JSON else content_type,
        subject=_text(event, "subject"),
        refusal=_refusal(event),
        extensions={
            name: value
            for name, value in event.items()
            if name not in _KNOWN and _EXTENSION.fullmatch(name) and _fits(value)
        },
        **attributes,
    )


def _written(instant: Instant) -> str:
    try:
        moment = datetime.fromtimestamp(instant, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{instant} is no moment that can be written") from error
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _fits(value: object) -> bool:
    """Say whether a value is one of CloudEvents' types: text, a boolean, or an integer of 32 bits."""
    return isinstance(value, (str, bool)) or (isinstance(value, int) and -(2**31) <= value < 2**31)


def _json_of(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.UNSET  # it says that it is JSON, and is not: it travels as the bytes that it is


def _text(event: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    value = event.get(name)
    if isinstance(value, str) and (value or not needed):
        return value
    if value is None and not needed:
        return ""
    raise MalformedBodyError(f"{name} of a CloudEvent is {value!r}; it is a text{', and there must be one' * needed}")


def _choice(event: Mapping[str, Any], name: str, choices: Any, default: int) -> Any:
    value = event.get(name)
    if value is None:
        return choices(default)
    known = {choice.name.lower(): choice for choice in choices}
    if not isinstance(value, str) or value not in known:
        raise MalformedBodyError(f"{name} of a CloudEvent is {value!r}; it is one of {', '.join(known)}")
    return known[value]


def _instant(event: Mapping[str, Any], name: str) -> Instant:
    if (written := event.get(name)) is None:
        return 0.0
    try:
        moment = msgspec.convert(written, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise MalformedBodyError(f"{name} of a CloudEvent is {written!r}; write it as in '2026-01-01T12:00:00Z'")
    return moment.timestamp()


def _data(event: Mapping[str, Any], content_type: str) -> bytes:
    encoded = event.get("data_base64")
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError) as error:
            raise MalformedBodyError(f"data_base64 of a CloudEvent is not base64: {error}") from error
    if "data" not in event:
        return b""
    data = event["data"]
    if isinstance(data, str) and not _JSON_LIKE.fullmatch(content_type):
        return data.encode()
    return msgspec.json.encode(data)


def _refusal(event: Mapping[str, Any]) -> Refusal | None:
    if not (written := _text(event, _REFUSAL)):
        return None
    try:
        return msgspec.json.decode(written, type=Refusal)
    except msgspec.DecodeError as error:
        raise MalformedBodyError(f"{_REFUSAL} of a CloudEvent cannot be read: {error}") from error
