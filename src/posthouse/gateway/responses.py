"""HTTP responses, and what becomes one: a reply of a service, an error, a request that is still open.

A Response is ready to be sent: its headers are a list as ASGI takes it. Every error is problem
details (RFC 9457) with our stable code; a cause that only a developer should see is shown in dev
and test, never in prod. Who may see what, and when something is answered, is decided elsewhere.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from posthouse.errors import (
    AmbiguousBodyError,
    BodyTimeoutError,
    FailedError,
    InvalidDataError,
    MethodNotAllowedError,
    PosthouseError,
    QueueUnknownError,
    Reject,
    UnavailableError,
)
from posthouse.message.message import Kind, Message
from posthouse.runtime.outbound import refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from posthouse.clock import Seconds
    from posthouse.contracts.registry import OperationRecord
    from posthouse.runtime.steps.wire import Outcome

RETRY_AFTER: Final[Seconds] = 1.0
"""When to come again, where nothing better is known."""

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
_NOTHING: Final = (b"content-length", b"0")
_PLACE: Final = re.compile(r" - at `(?P<path>\$[^`]*)`$")
_MEMBERS: Final = frozenset(
    {"type", "title", "status", "detail", "instance", "code", "hint", "id", "errors", "details"}
)


class Response(msgspec.Struct, gc=False):
    """What an HTTP client is sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""


def json_response(status: int, value: Any, headers: Iterable[tuple[bytes, bytes]] = ()) -> Response:
    """Return a response with a value as JSON."""
    body = msgspec.json.encode(value)
    return Response(status, [_JSON, (b"content-length", b"%d" % len(body)), *headers], body)


def from_reply(reply: Message, record: OperationRecord, *, shows_causes: bool) -> Response:
    """Return what a reply is to the HTTP client: its data as it is, or the refusal as problem details."""
    if reply.refusal is not None:
        return problem(refused(reply), shows_causes=shows_causes)
    return _good(reply.data, reply.content_type, record)


def from_outcome(outcome: Outcome, record: OperationRecord | None, *, id: str, shows_causes: bool) -> Response:
    """Return what a stored outcome is to the HTTP client.

    Args:
        outcome: as the store has it.
        record: the operation; None when its service is not known any more.
        id: of the request.
        shows_causes: as for `problem`.
    """
    if outcome.refusal is not None:
        reply = Message(Kind.REPLY, id, "", "", 0.0, b"", refusal=outcome.refusal)
        return problem(refused(reply), shows_causes=shows_causes)
    return _good(outcome.data, "", record)


def _good(body: bytes, content_type: str, record: OperationRecord | None) -> Response:
    status = 0 if record is None else record.status
    if not body or (body == b"null" and (record is None or record.reply.get("type") == "null")):
        return Response(status or 204, [] if (status or 204) == 204 else [_NOTHING])
    kind = (b"content-type", content_type.encode("latin-1", "replace")) if content_type else _JSON
    return Response(status or 200, [kind, (b"content-length", b"%d" % len(body))], body)


def accepted(id: str, *, root: str, applied: str = "") -> Response:
    """Return the response for a request whose reply is not there yet.

    Args:
        id: of the request.
        root: the path under which the gateway is mounted; empty for none.
        applied: the preference of the client that led to this; empty for none.
    """
    response = pending(id, root=root)
    if applied:
        response.headers.append((b"preference-applied", applied.encode()))
    return response


def pending(id: str, *, root: str, state: str = "pending") -> Response:
    """Return the response that says how an open request stands, and where and when to ask for it again."""
    location = (b"location", f"{root}/requests/{id}".encode("latin-1", "replace"))
    return json_response(202, {"id": id, "state": state}, (location, retry_after(RETRY_AFTER)))


def retry_after(wait: Seconds) -> tuple[bytes, bytes]:
    """Return the header that says when to come again, in whole seconds, 1 or more."""
    return b"retry-after", b"%d" % max(1, math.ceil(wait))


def problem(
    error: PosthouseError, *, shows_causes: bool = False, headers: Iterable[tuple[bytes, bytes]] = ()
) -> Response:
    """Return an error as problem details.

    Args:
        error: any of ours.
        shows_causes: whether what went wrong inside is shown: a failed handler's cause, paths of the engine.
        headers: more of them.
    """
    status = 503 if isinstance(error, QueueUnknownError) else error.status
    if not 400 <= status <= 599:
        status = 500
    detail = str(error)
    if isinstance(error, FailedError) and not shows_causes:
        detail = "The handler failed as often as it may; the request was given up."
    elif isinstance(error, UnavailableError) and not shows_causes:
        detail = _title(error)  # its text names files and addresses of the engine
    members: dict[str, Any] = {
        "type": f"urn:posthouse:error:{quote(error.code, safe='._-')}",
        "title": _title(error),
        "status": status,
        "detail": detail,
        "code": error.code,
    }
    if error.hint:
        members["hint"] = error.hint
    if error.message_id:
        members["id"] = error.message_id
    if isinstance(error, InvalidDataError):
        members["errors"] = [_place(detail)]
    if isinstance(error, Reject):
        members |= _extensions(error.details)
    body = msgspec.json.encode(members)
    sent = [_PROBLEM, (b"content-length", b"%d" % len(body)), *headers]
    if error.transient or status in {429, 503}:
        sent.append(retry_after(RETRY_AFTER))
    if isinstance(error, AmbiguousBodyError | BodyTimeoutError):  # what follows on this connection is no HTTP request
        sent.append((b"connection", b"close"))
    if isinstance(error, MethodNotAllowedError) and error.allowed:
        sent.append((b"allow", error.allowed.encode()))
    return Response(status, sent, body)


def _title(error: PosthouseError) -> str:
    if isinstance(error, Reject):
        return error.code
    return (inspect.getdoc(type(error)) or error.code).partition("\n")[0]


def _place(text: str) -> dict[str, str]:
    found = _PLACE.search(text)
    path = found["path"] if found else "$"
    if missing := re.match(r"Object (?:missing required|contains unknown) field `(?P<name>[^`]+)`", text):
        path += f".{missing['name']}"
    return {"path": path, "message": text[: found.start()] if found else text}


def _extensions(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a Reject as members; what would hide one of ours stands under `details`."""
    ours = {name: value for name, value in details.items() if name in _MEMBERS}
    rest = {name: value for name, value in details.items() if name not in _MEMBERS}
    return {**rest, "details": ours} if ours else rest
