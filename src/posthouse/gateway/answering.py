"""Answers HTTP requests: finds the route, asks the service, waits for the reply.

This is the path of every HTTP request, so it stays bare: no request objects, no task and no timer of
its own for any of them, and what can be worked out before is kept in the routes. A client that goes
away leaves its request running; one that will not wait, or whose service is slow, is told where to
ask for the outcome. How journaled operations are asked stands in journaled; the others here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from posthouse.errors import (
    GatewayError,
    MethodNotAllowedError,
    NotStoredError,
    OutcomeUnknownError,
    PosthouseError,
    RequestUnknownError,
)
from posthouse.gateway.guard import Guard
from posthouse.gateway.idempotency import read_key
from posthouse.gateway.ingress import (
    check_media_type,
    check_path,
    data_of_body,
    data_of_query,
    read_body,
    read_headers,
    whole_request,
)
from posthouse.gateway.journaled import Journaled
from posthouse.gateway.pages import Pages
from posthouse.gateway.patience import Patience
from posthouse.gateway.preferences import preferred
from posthouse.gateway.responses import Response, accepted, from_reply, pending, problem
from posthouse.gateway.routes import Compiler, Match, Table
from posthouse.gateway.status import Kept, Keys, Room, Shelf
from posthouse.message.message import Kind, Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from posthouse.clock import Seconds
    from posthouse.gateway.idempotency import Given
    from posthouse.gateway.routes import Route
    from posthouse.gateway.webhooks import Verifier
    from posthouse.runtime.caller import Ticket
    from posthouse.runtime.host import Host
    from posthouse.runtime.parts import JournalOfCaller

_log: Final = logging.getLogger("posthouse.gateway")

SERVICE: Final = "gateway"
"""The service in whose name the gateway asks."""

_LATE: Final = Message(Kind.CONTROL, "", "", SERVICE, 0.0)
"""What a waiting HTTP request is given instead of a reply that takes too long."""

_NO_ROUTES: Final[Mapping[str, Match]] = {}
_REQUESTS: Final = "/requests/"
_REPLACED: Final = "\ufffd"
"""What servers put into a path in place of bytes that are not UTF-8."""


class Answering:
    """The ASGI app behind the gateway's face, on a host that is open.

    Args:
        host: what it asks with.
        journal: the gateway's own.
        verifiers: of signatures, by route.
    """

    def __init__(self, host: Host, journal: JournalOfCaller, verifiers: Mapping[str, Verifier]) -> None:
        settings = host.settings.gateway
        self._host = host
        self._directory = host.directory
        self._caller = host.caller
        self._settings = settings
        self._header_count = settings.header_count
        self._header_limit = settings.header_limit
        self._shows_causes = host.settings.env != "prod"
        self._guard = Guard((settings.bind, *settings.hosts)) if host.settings.env == "dev" else None
        self._loop = asyncio.get_running_loop()
        self._bodies: Patience[asyncio.Task[Any] | None] = Patience(settings.body_timeout, _cancel)
        self._replies: dict[Seconds, Patience[Ticket]] = {}
        self._journaled = Journaled(journal, host.directory, seams=host.seams, shows_causes=self._shows_causes)
        clock = host.seams.clock
        self._room = Room(size=settings.keep_bytes, count=2 * settings.keep)
        self._shelf = Shelf(
            count=settings.keep, length=settings.keep_for, clock=clock, room=self._room, forget=host.caller.forget
        )
        self._keys = Keys(count=settings.keep, length=settings.keep_for, clock=clock)
        self._compiler = Compiler(host.settings.routes, settings, verifiers)
        self._pages = Pages(host)
        self._compile()

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one HTTP request."""
        try:
            response = await self._respond(scope, receive)
        except PosthouseError as error:
            response = problem(error, shows_causes=self._shows_causes)
        except Exception:
            response = self._failed(scope)
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "http.response.body", "body": response.body if scope["method"] != "HEAD" else b""})

    def release(self) -> None:
        """Answer all HTTP requests that wait for a reply now: the gateway stops."""
        self._journaled.release()
        for patience in self._replies.values():
            patience.close()
            for ticket in patience.waiting:
                self._caller.forget(ticket)
                if not ticket.reply.done():
                    text = f"the gateway stopped before {ticket.name} had answered"
                    ticket.reply.set_exception(OutcomeUnknownError(text, message_id=ticket.id))

    def close(self) -> None:
        """Wait for nothing any more."""
        self.release()
        self._bodies.close()
        self._shelf.close()

    async def _respond(self, scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]]) -> Response:
        if self._generation != self._directory.generation:
            self._compile()
        method: str = scope["method"]
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root:
            path = path.removeprefix(root) or "/"
        if _REPLACED in path:
            check_path(scope)
        headers = read_headers(scope["headers"], count=self._header_count, limit=self._header_limit)
        if self._guard is not None:
            self._guard.check(method, headers)
        match = self._exact.get(path, _NO_ROUTES).get(method)
        if match is None:
            own = await self._own_page(method, path, root)
            if own is not None:
                return own
            match = self._table.find(method, path)
        route = match.route

        body = b""
        if route.takes_body or route.verifier is not None:
            body = await read_body(receive, headers, limit=route.body_limit, patience=self._bodies)
        if route.verifier is not None:
            route.verifier.check(headers, body)
        if route.record.whole_request:
            data = whole_request(scope, path, scope["headers"], body)
        elif route.takes_body:
            if body or b"content-type" in headers:
                check_media_type(headers)
            data = data_of_body(match, body, depth=self._settings.depth_limit)
        else:
            data = data_of_query(match, scope.get("query_string", b""))

        wait, applied = route.wait, ""
        if b"prefer" in headers:
            wait, applied = preferred(headers[b"prefer"], wait)
        given = None
        if route.keeps_keys and route.idempotency in headers:
            query = scope.get("query_string", b"")
            given = read_key(headers[route.idempotency], path=path, query=query, body=body)
        if route.is_journaled:
            return await self._journaled.ask(route, data, given, wait=wait, root=root, applied=applied)
        if given is not None:
            return await self._ask_once(route, data, given, wait=wait, root=root, applied=applied)
        return await self._ask(route, data, None, wait=wait, root=root, applied=applied)

    async def _ask(
        self, route: Route, data: bytes, kept: Kept | None, *, wait: Seconds, root: str, applied: str
    ) -> Response:
        record = route.record
        ticket = await self._caller.ask(record.name, data, mode=record.mode, source=SERVICE)
        if kept is not None:
            kept.id = ticket.id
        if wait > 0:
            patience = self._replies.get(wait) or self._patience(wait)
            patience.begin(ticket)
            try:
                reply = await ticket.reply
            except asyncio.CancelledError:  # the HTTP request has ended, the request has not
                if ticket.reply.cancelled():  # else it came in the same moment, and is kept
                    ticket.reply = self._loop.create_future()
                self._shelf.put(kept or Kept(record), ticket)
                raise
            finally:
                patience.over(ticket)
            if reply is not _LATE:
                if kept is not None:
                    self._room.keep(kept, reply)
                return from_reply(reply, record, shows_causes=self._shows_causes)
        self._shelf.put(kept or Kept(record), ticket)
        return accepted(ticket.id, root=root, applied=applied)

    async def _ask_once(
        self, route: Route, data: bytes, given: Given, *, wait: Seconds, root: str, applied: str
    ) -> Response:
        kept = Kept(route.record)
        before = self._keys.begin(route.name, given, kept)
        if before is not None:
            return self._outcome(before, root)
        try:
            return await self._ask(route, data, kept, wait=wait, root=root, applied=applied)
        except NotStoredError:
            self._keys.release(route.name, given)
            raise
        except PosthouseError as error:  # nobody knows what became of it: asking again must not repeat it
            self._room.keep(kept, error)
            raise
        except BaseException:
            if not kept.id:  # cut off while it was handed over, so it may have been stored
                self._room.keep(kept, OutcomeUnknownError("the gateway was cut off while it stored the request"))
            raise

    def _outcome(self, kept: Kept, root: str) -> Response:
        match kept.outcome:
            case None:
                return pending(kept.id, root=root)
            case Message() as reply:
                return from_reply(reply, kept.record, shows_causes=self._shows_causes)
            case error:
                return problem(error, shows_causes=self._shows_causes)

    async def _own_page(self, method: str, path: str, root: str) -> Response | None:
        """Return one of the gateway's own pages; None when a service may have this path."""
        id = path[len(_REQUESTS) :] if path.startswith(_REQUESTS) else ""
        if "/" in id or not (id or path in self._pages.paths):
            return None
        if id:
            return await self._request(method, id, root)
        if method not in {"GET", "HEAD"}:
            if path == "/" and self._table.has(path):
                return None
            raise MethodNotAllowedError(f"{path} takes GET, not {method}", allowed="GET, HEAD")
        if path == "/" and "GET" in self._exact.get(path, _NO_ROUTES):
            return None  # HEAD, for the service that has claimed GET /
        return await self._pages.page(path, self._table)

    async def _request(self, method: str, id: str, root: str) -> Response:
        """Answer whoever asks for a request that was asked before, or wants it no more."""
        kept = self._shelf.get(id)
        response = None
        if method in {"GET", "HEAD"}:
            response = await self._journaled.find(id, root=root) if kept is None else self._outcome(kept, root)
        elif method == "DELETE" and kept is None:
            response = await self._journaled.cancel(id, root=root)
        elif method == "DELETE":
            raise MethodNotAllowedError("what is not journaled cannot be canceled", allowed="GET, HEAD")
        else:
            raise MethodNotAllowedError(
                f"{_REQUESTS}{id} takes GET and DELETE, not {method}", allowed="DELETE, GET, HEAD"
            )
        if response is None:
            raise RequestUnknownError(
                f"there is no request {id!r}",
                hint="What is journaled is kept for a day; the rest only in the memory of the gateway that was asked.",
            )
        return response

    def _compile(self) -> None:
        self._generation = self._directory.generation
        self._table: Table = self._compiler.table(self._directory.operations)
        self._exact = self._table.exact

    def _patience(self, wait: Seconds) -> Patience[Ticket]:
        return self._replies.setdefault(wait, Patience(wait, self._no_longer))

    def _no_longer(self, ticket: Ticket) -> None:
        """Let the HTTP request go on without its reply, which fills a new future instead."""
        waited, ticket.reply = ticket.reply, self._loop.create_future()
        if not waited.done():
            waited.set_result(_LATE)

    def _failed(self, scope: Mapping[str, Any]) -> Response:
        id = self._host.seams.new_id()
        _log.exception("%s %s failed in the gateway; its problem has the id %s", scope["method"], scope["path"], id)
        return problem(GatewayError("the gateway failed at this HTTP request", message_id=id))


def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
