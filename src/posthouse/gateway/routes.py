"""Which operation an HTTP request asks for.

A Table is compiled from what the directory knows, and thrown away when that changes: exact paths by
dictionary, paths with fields by their segments, the more literal one first. Two services that claim
the same HTTP requests: the one that had them keeps them, the other is logged and listed.
Nothing here reads an HTTP request beyond its method and path.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from posthouse.declare.key import key_reader
from posthouse.declare.route import METHODS, same_requests
from posthouse.errors import MethodNotAllowedError, RouteUnknownError
from posthouse.message.message import Mode
from posthouse.message.schema import array_fields, field_schema, type_from
from posthouse.runtime.settings import RouteSettings, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from posthouse.clock import Seconds
    from posthouse.contracts.registry import OperationRecord
    from posthouse.gateway.webhooks import Verifier
    from posthouse.runtime.settings import GatewaySettings

_log: Final = logging.getLogger("posthouse.gateway")

OWN: Final = tuple(f"{method} {path}" for path in ("/livez", "/readyz", "/requests/{id}") for method in METHODS)
"""The gateway's own; no service can claim them. GET / is its own until a service claims it."""

WITHOUT_BODY: Final = frozenset({"GET", "DELETE"})


class Route:
    """One operation behind the gateway, with all that can be worked out before the HTTP request comes.

    Attributes:
        name: "POST /orders/{id}".
        record: the operation, as its service announced it.
        takes_body: whether the data is the body, else query and path.
        wait: how long the reply is waited for.
        body_limit: most bytes of the body.
        verifier: checks the signature; None where none is asked for.
        idempotency: the name of the header with the idempotency key, in lower case.
        keeps_keys: whether idempotency keys mean anything to it.
        is_journaled: whether what is asked is stored here before it is sent.
    """

    def __init__(
        self, record: OperationRecord, said: RouteSettings, defaults: GatewaySettings, verifier: Verifier | None
    ) -> None:
        self.name = record.http
        self.record = record
        self.method, _, self.path = record.http.partition(" ")
        self.takes_body = self.method not in WITHOUT_BODY
        self.wait: Seconds = defaults.wait if said.wait is None else said.wait
        self.body_limit = defaults.body_limit if said.body_limit is None else said.body_limit
        self.verifier = verifier
        self.idempotency = said.idempotency.lower().encode("latin-1")
        self.keeps_keys = self.method != "GET"
        self.is_journaled = record.mode is Mode.JOURNALED

    @cached_property
    def type(self) -> Any:
        """The type that the data is checked against; made when it is first asked for."""
        return type_from(self.record.request)

    @cached_property
    def decode(self) -> Callable[[bytes], Any]:
        """Reads and checks the data; raises msgspec.DecodeError."""
        return msgspec.json.Decoder(self.type).decode

    @cached_property
    def arrays(self) -> frozenset[str]:
        """The fields that a query may name more than once."""
        return array_fields(self.record.request)

    @cached_property
    def takes_nothing(self) -> bool:
        """Whether the data is null."""
        return self.record.request.get("type") == "null"

    def ordering_key(self, data: bytes) -> str:
        """Return the ordering key of data that was checked; empty for none.

        Raises:
            InvalidDataError: what stands in its field can be none.
        """
        name = self.record.key
        if not name:
            return ""
        key = self._key_of(self.decode(data))
        if not key and self._default_key is not msgspec.UNSET:
            fields = msgspec.json.decode(data)
            if name not in fields:
                return self._key_of(self.decode(msgspec.json.encode({**fields, name: self._default_key})))
        return key

    @cached_property
    def _key_of(self) -> Callable[[Any], str]:
        return key_reader(self.record.key, self.type, self.record.name)

    @cached_property
    def _default_key(self) -> Any:
        """What stands for the field of the ordering key when it is left out; UNSET for nothing."""
        schema = field_schema(self.record.request, self.record.key)
        return msgspec.UNSET if schema is None else schema.get("default", msgspec.UNSET)

    def field_type(self, name: str) -> Any:
        """Return the type of one field of the data; Any for a field that is not there."""
        schema = field_schema(self.record.request, name)
        return Any if schema is None else type_from(schema)


class Match(NamedTuple):
    """A route, and the fields that stood in the path."""

    route: Route
    fields: Mapping[str, str]


class Conflict(NamedTuple):
    """An operation that cannot be reached, since another one has its route."""

    route: str
    operation: str
    taken_by: str


_NO_FIELDS: Final[Mapping[str, str]] = {}


class Table:
    """All routes.

    Attributes:
        routes: those that are served.
        conflicts: those that are not.
        exact: by path and method, those without fields in the path.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: list[Route] = []
        self.conflicts: list[Conflict] = []
        self.exact: dict[str, dict[str, Match]] = {}
        self._templates: dict[int, list[tuple[tuple[str, ...], dict[str, Route]]]] = {}
        for route in routes:
            self._add(route)
        for templates in self._templates.values():
            templates.sort(key=lambda template: [part[:1] == "{" for part in template[0]])

    def find(self, method: str, path: str) -> Match:
        """Return the route of an HTTP request; HEAD takes that of GET.

        Raises:
            RouteUnknownError: no route has this path.
            MethodNotAllowedError: one has, but not for this method.
        """
        exact = self.exact.get(path)
        if exact is not None:
            found = exact.get(method)
            if found is not None:
                return found
        allowed = set(exact or ())
        parts = tuple(path.split("/"))
        for template, by_method in self._templates.get(len(parts), ()):
            fields = _fields(template, parts)
            if fields is None:
                continue
            route = by_method.get(method)
            if route is not None:
                return Match(route, fields)
            allowed.update(by_method)
        if method == "HEAD" and "GET" in allowed:
            return self.find("GET", path)
        if allowed:
            names = ", ".join(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))
            raise MethodNotAllowedError(f"{path} takes {names}, not {method}", allowed=names)
        raise RouteUnknownError(f"no service has a route for {path}")

    def has(self, path: str) -> bool:
        """Say whether a path without fields has a route."""
        return path in self.exact

    def _add(self, route: Route) -> None:
        taken_by = next((own for own in OWN if same_requests(own, route.name)), "")
        holder = next((other for other in self.routes if same_requests(other.name, route.name)), None)
        if taken_by or holder is not None:
            by = holder.record.name if holder else "the gateway itself"
            self.conflicts.append(Conflict(route.name, route.record.name, by))
            return
        self.routes.append(route)
        if "{" not in route.path:
            self.exact.setdefault(route.path, {})[route.method] = Match(route, _NO_FIELDS)
            return
        parts = tuple(route.path.split("/"))
        templates = self._templates.setdefault(len(parts), [])
        for template, by_method in templates:
            if template == parts:
                by_method[route.method] = route
                return
        templates.append((parts, {route.method: route}))


class Compiler:
    """Makes tables from what the directory knows; what has not changed is not made again."""

    def __init__(
        self, said: Mapping[str, RouteSettings], defaults: GatewaySettings, verifiers: Mapping[str, Verifier]
    ) -> None:
        self._said = said
        self._defaults = defaults
        self._verifiers = verifiers
        self._made: dict[str, Route] = {}
        self._served: set[str] = set()
        self._known_conflicts: set[Conflict] = set()
        self._idle: set[str] = set()

    def table(self, operations: Mapping[str, OperationRecord]) -> Table:
        """Return the table for these operations; new conflicts are logged."""
        made: dict[str, Route] = {}
        for name, record in sorted(operations.items(), key=lambda item: (item[0] not in self._served, item[0])):
            said = row_of(self._said, record.http)
            if not record.http or (said is not None and said.hide):
                continue
            before = self._made.get(name)
            made[name] = before if before is not None and before.record == record else self._route(record)
        self._made = made
        table = Table(made.values())
        self._served = {route.record.name for route in table.routes}
        for conflict in table.conflicts:
            if conflict not in self._known_conflicts:
                _log.error(
                    "%s has the route %r, which %s has already: it is not served",
                    conflict.operation,
                    conflict.route,
                    conflict.taken_by,
                )
        self._known_conflicts = set(table.conflicts)
        self._tell_idle(table)
        return table

    def _tell_idle(self, table: Table) -> None:
        """Tell which signatures are asked of no route: with a slip in its path the right one stands open."""
        idle = {route for route in self._verifiers if not any(same_requests(route, each.name) for each in table.routes)}
        for route in sorted(idle - self._idle) if table.routes else ():
            _log.warning(
                'routes."%s" asks for a signature, and no service has this route yet: is it written right?', route
            )
        if table.routes:
            self._idle = idle

    def _route(self, record: OperationRecord) -> Route:
        said = row_of(self._said, record.http) or RouteSettings()
        return Route(record, said, self._defaults, row_of(self._verifiers, record.http))


def _fields(template: tuple[str, ...], parts: tuple[str, ...]) -> dict[str, str] | None:
    fields: dict[str, str] = {}
    for wanted, part in zip(template, parts, strict=True):
        if wanted[:1] == "{":
            if not part:
                return None
            fields[wanted[1:-1]] = part
        elif wanted != part:
            return None
    return fields
