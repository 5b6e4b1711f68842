"""From an HTTP request to the data of a message, within limits.

Limits are counted while the body streams in, so that nobody makes us hold more than they allow. JSON
is checked against the schema of the operation before anything is stored; where the body is the data,
its bytes go on as they came. Refused besides: an encoding that we would have to inflate, a name that
stands twice in one object (two readers may each believe another one), NaN, a charset that is not
UTF-8.

Which route it is, and what is answered, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from posthouse.errors import (
    AmbiguousBodyError,
    BodyTimeoutError,
    BodyTooDeepError,
    BodyTooLargeError,
    HeadersTooLargeError,
    HttpError,
    InvalidDataError,
    MalformedBodyError,
    MediaTypeError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from posthouse.clock import Seconds
    from posthouse.gateway.patience import Patience
    from posthouse.gateway.routes import Match, Route

PARAMETERS: Final = 100
"""The most parameters of a query."""

_SEPARATORS: Final = 4
"""What a header costs beside its name and value: ": " and the end of its line."""
_ONCE: Final = frozenset({b"host", b"origin", b"content-type", b"content-length", b"content-encoding"})
_PRIVATE: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization"})
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"{}[]")

_encode: Final = msgspec.json.Encoder().encode
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


def read_headers(pairs: list[tuple[bytes, bytes]], *, count: int, limit: int) -> dict[bytes, bytes]:
    """Return the headers by name; of one that came more than once, the last.

    Args:
        pairs: as they came, names in lower case.
        count: most of them.
        limit: most bytes of all of them together, as they are on the wire.

    Raises:
        HeadersTooLargeError: they are too many, or too large.
        AmbiguousBodyError: the length of the body is told in two ways.
        HttpError: one came twice that must not.
    """
    if len(pairs) > count:
        raise HeadersTooLargeError(f"the HTTP request has {len(pairs)} headers; the gateway takes {count}")
    headers = dict(pairs)
    size = sum(map(len, headers)) + sum(map(len, headers.values())) + _SEPARATORS * len(headers)
    if len(headers) != len(pairs):
        size = sum(len(name) + len(value) + _SEPARATORS for name, value in pairs)
        names = [name for name, _ in pairs]
        if twice := next((name for name in _ONCE if names.count(name) > 1), None):
            raise HttpError(f"the header {twice.decode()} stands twice in the HTTP request")
    if b"transfer-encoding" in headers and b"content-length" in headers:  # whose end of the body is the right one?
        raise AmbiguousBodyError("the HTTP request has both Content-Length and Transfer-Encoding")
    if size > limit:
        raise HeadersTooLargeError(f"the headers have {size:,} bytes; the gateway takes {limit:,}")
    return headers


async def read_body(
    receive: Callable[[], Awaitable[Any]], headers: Mapping[bytes, bytes], *, limit: int, patience: Patience[Any]
) -> bytes:
    """Return the body.

    Args:
        receive: ASGI's.
        headers: of the HTTP request.
        limit: most bytes.
        patience: ends the wait for a body that does not come; its keys are tasks, which it cancels.

    Raises:
        BodyTooLargeError: it is larger; it was not read to its end.
        BodyTimeoutError: it did not come in time.
        HttpError: the client went away before its end.
    """
    announced = headers.get(b"content-length", b"")
    if len(announced) > len(str(limit)) or (announced.isdigit() and int(announced) > limit):
        raise _too_large(limit)
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    patience.begin(task)
    try:
        event = await receive()
        if event["type"] == "http.request" and not event.get("more_body", False):
            body: bytes = event.get("body", b"")
        else:
            body = await _read_on(receive, event, limit)
    except asyncio.CancelledError:
        if task is not None and patience.gave_up(task) and task.uncancel() <= before:
            raise _too_slow(patience.length) from None
        raise
    finally:
        patience.over(task)
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _read_on(receive: Callable[[], Awaitable[Any]], event: Any, limit: int) -> bytes:
    body = bytearray()
    while event["type"] == "http.request":
        body += event.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not event.get("more_body", False):
            return bytes(body)
        event = await receive()
    raise HttpError("the HTTP client went away before the end of its body")


def check_path(scope: Mapping[str, Any]) -> None:
    """See to it that a path is what its bytes say: two ids must not become one.

    Raises:
        HttpError: it is not in UTF-8.
    """
    try:
        unquote_to_bytes(scope.get("raw_path") or b"").decode()
    except UnicodeError:
        raise HttpError("the path is not in UTF-8") from None


def check_media_type(headers: Mapping[bytes, bytes]) -> None:
    """See to it that a body is JSON, in UTF-8, as it is.

    Raises:
        MediaTypeError: it says that it is something else, or nothing.
    """
    said = headers.get(b"content-type", b"")
    if b"content-encoding" in headers and headers[b"content-encoding"].strip().lower() != b"identity":
        raise MediaTypeError("the gateway inflates nothing", hint="Send the body without Content-Encoding.")
    if said == b"application/json":
        return
    kind, _, parameters = said.lower().partition(b";")
    kind = kind.strip()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise MediaTypeError(f"the body is {kind.decode('latin-1') or 'of no type'}, and the operation takes JSON")
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip().strip(b'"') not in {b"utf-8", b"utf8"}:
            raise MediaTypeError("the body is not in UTF-8", hint="Send JSON in UTF-8.")


def data_of_body(match: Match, body: bytes, *, depth: int) -> bytes:
    """Return the data of an HTTP request whose body is the data; fields from the path are put in.

    Args:
        match: its route.
        body: as it came.
        depth: the deepest that its JSON may be nested.

    Raises:
        MalformedBodyError: it is not JSON.
        BodyTooDeepError: it is nested deeper.
        InvalidDataError: it is not what the operation takes.
    """
    route, fields = match
    if not body:
        if fields:
            body = b"{}"
        elif route.takes_nothing:
            body = b"null"
        else:
            raise MalformedBodyError("the body is empty; the operation takes JSON")
    if body.count(b"{") + body.count(b"[") > depth:  # no more brackets than that: no deeper either
        _check_depth(body, depth)
    if fields:
        body = _merged(route, body, fields)
    _check(route, body)
    return body


def data_of_query(match: Match, query: bytes) -> bytes:
    """Return the data of an HTTP request without a body: query and path, as the operation's types.

    Raises:
        HttpError: the query cannot be read.
        InvalidDataError: it is not what the operation takes.
    """
    route, fields = match
    values: dict[str, Any] = {}
    for name, value in _parameters(query):
        if name in route.arrays:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise _invalid(f"`{name}` stands twice in the query - at `$.{name}`")
        else:
            values[name] = value
    values.update(fields)
    if not values and route.takes_nothing:
        return b"null"
    try:
        return _encode(msgspec.convert(values, route.type, strict=False))
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def whole_request(scope: Mapping[str, Any], path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the whole HTTP request as data; the body is not looked into.

    Headers that came more than once are joined by commas; those that prove who asks stay here.
    """
    kept: dict[str, str] = {}
    for raw, value in headers:
        if raw not in _PRIVATE:
            name, text = raw.decode("latin-1"), value.decode("latin-1")
            kept[name] = f"{kept[name]}, {text}" if name in kept else text
    return _encode(
        {
            "method": scope["method"],
            "path": path,
            "query": dict(_parameters(scope.get("query_string", b""))),
            "headers": kept,
            "body": body,
        }
    )


def _parameters(query: bytes) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS)
    except UnicodeError:
        raise HttpError("the query is not in UTF-8") from None
    except ValueError:
        raise HttpError(f"the query has more than {PARAMETERS} parameters") from None


def _merged(route: Route, body: bytes, fields: Mapping[str, str]) -> bytes:
    try:
        data = _object(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error) from None
    _check_names(body)
    for name, text in fields.items():
        try:
            value = msgspec.to_builtins(msgspec.convert(text, route.field_type(name), strict=False))
        except msgspec.ValidationError as error:
            raise _invalid(f"{error} - at `$.{name}`") from None
        if data.setdefault(name, value) != value:
            raise _invalid(f"the body says another {name} than the path - at `$.{name}`")
    return _encode(data)


def _check(route: Route, body: bytes) -> None:
    try:
        data = route.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error) from None
    except RecursionError:  # brackets that do not close: nothing else is that deep and got here
        raise BodyTooDeepError("the JSON of the body is nested too deep, and does not end") from None
    # Written anew, it has each name once. As many ends of names as before: none stood twice. Where that
    # cannot be seen so easily (escapes, blanks before a colon), or is not so, it is looked at closely.
    if (
        b"\\" in body
        or b" :" in body
        or b"\n:" in body
        or b"\r:" in body
        or b"\t:" in body
        or body.count(b'":') != _encode(data).count(b'":')
    ):
        _check_names(body)


def _check_names(body: bytes) -> None:
    def no_name_twice(pairs: list[tuple[str, Any]]) -> None:
        names = set[str]()
        for name, _ in pairs:
            if name in names:
                raise MalformedBodyError(f"the name {name!r} stands twice in one object of the body")
            names.add(name)

    json.loads(body, object_pairs_hook=no_name_twice, parse_int=str, parse_float=str, strict=False)


def _check_depth(body: bytes, limit: int) -> None:
    """Take the innermost brackets away, level by level; what is left after `limit` levels was deeper."""
    brackets = _STRING.sub(b"", body).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets:  # without a pair it is no JSON, and the decoder says so better
        raise BodyTooDeepError(f"the JSON of the body is nested deeper than {limit}")


def _invalid(text: str) -> InvalidDataError:
    return InvalidDataError(text)


def _malformed(error: msgspec.DecodeError | UnicodeDecodeError) -> MalformedBodyError:
    if isinstance(error, UnicodeDecodeError):
        return MalformedBodyError("the body is not JSON: a text in it is not in UTF-8")
    text = str(error).removeprefix("JSON is malformed: ")
    return MalformedBodyError(f"the body is not JSON: {text[:1].lower()}{text[1:]}")


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body has more than {limit:,} bytes")


def _too_slow(wait: Seconds) -> BodyTimeoutError:
    return BodyTimeoutError(f"the body did not arrive within {wait:g} s")
