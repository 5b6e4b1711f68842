"""A route as a handler declares it: "POST /orders/{id}".

The parts in braces are fields of the request. Which routes there are together, and which one an HTTP
request takes, is the gateway's to say.
"""

from __future__ import annotations

import re
from typing import Any, Final

from posthouse.declare.schema_of import field_names
from posthouse.declare.values import HttpRequest
from posthouse.declare.wrong import wrong

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

_PATH: Final = re.compile(r"/|(?:/(?:[A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]*\}))+", re.ASCII)
_FIELD: Final = re.compile(r"\{(\w+)\}", re.ASCII)
_DO: Final = 'write "METHOD /path", as in http="POST /orders/{id}"'


def check_route(http: Any, request: Any, of: str, where: str) -> str:
    """Return a route as it was written.

    Args:
        http: the route.
        request: the type whose fields the parts in braces are.
        of: the handler, for errors: "handler 'shop.buy'".
        where: its place.

    Raises:
        DeclarationError: it is not "METHOD /path", or a part in braces is no field of the request.
    """
    method, _, path = http.partition(" ") if isinstance(http, str) else ("", "", "")
    if method not in METHODS:
        raise wrong(f"http={http!r} of {of} has no method of {', '.join(METHODS)}", _DO, where=where)
    if not _PATH.fullmatch(path):
        raise wrong(f"http={http!r} of {of} has no path of plain segments", _DO, where=where)
    parts = _FIELD.findall(path)
    if len(parts) != len(set(parts)):
        raise wrong(f"http={http!r} of {of} names a field twice", "name each field once", where=where)
    fields = field_names(request)
    if request is HttpRequest or fields is None:
        return http
    for part in parts:
        if part not in fields:
            do = f"name one of {', '.join(sorted(fields))}" if fields else "leave it out: the request has no fields"
            raise wrong(f"http={http!r} of {of}: {{{part}}} is no field of its request", do, where=where)
    return http


def same_requests(one: str, other: str) -> bool:
    """Return whether two routes take exactly the same HTTP requests, whatever their fields are called."""
    return _FIELD.sub("{}", one) == _FIELD.sub("{}", other)
