"""The requests in all stores, one row each: calls where their callers have a store here, else what repliers have.

And the events that a subscription has in its store and has not handled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from posthouse.cli.conversation import asked_at, message_of, named
from posthouse.clock import Instant
from posthouse.message.names import service_of
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.outbox import Call, CallState
from posthouse.runtime.steps.intervening import is_own_run

if TYPE_CHECKING:
    from posthouse.cli.stores import Stores
    from posthouse.contracts.store import Books, LaneIn, Store
    from posthouse.contracts.streams import Feed

_CALL_STATES = {named(state): state for state in CallState}
_REQUEST_STATES = {named(state): state for state in RequestState}


class Row(msgspec.Struct, frozen=True):
    """A request, or an event at one subscription.

    Attributes:
        id: of it.
        caller: who asks; of an event, who told it.
        operation: what; of an event, the subscription.
        state: at the caller; at the replier, where the caller has no store here or that was asked for.
        asked: when; 0 where nobody knows any more.
    """

    id: str
    caller: str
    operation: str
    state: str
    asked: Instant


def states() -> list[str]:
    """Return all states that a row may have."""
    return list(dict.fromkeys([*_CALL_STATES, *_REQUEST_STATES]))


async def listed(stores: Stores, *, service: str, state: str, limit: int) -> list[Row]:
    """Return requests, newest first.

    Args:
        stores: all of them.
        service: only those that it asked, or was asked; empty for all.
        state: only those in this state; empty for all.
        limit: at most so many.
    """
    ours = frozenset(store.identity.id for store in stores.by_service.values())
    rows: list[Row] = []
    for store in stores.by_service.values():
        if not state or state in _CALL_STATES:
            rows += await _calls(store, service=service, state=_CALL_STATES.get(state), limit=limit)
        if not state or state in _REQUEST_STATES:
            # Of what is undecided the replier has the word; else only those count that no store here has as a call.
            strangers_to = ours if not state or state in _CALL_STATES else frozenset[str]()
            found = await _requests(store, strangers_to, state=_REQUEST_STATES.get(state), limit=limit)
            found += await _events(store, state=_REQUEST_STATES.get(state), limit=limit)
            rows += [row for row in found if not service or service in {row.caller, service_of(row.operation)}]
    rows.sort(key=lambda row: row.asked, reverse=True)
    return rows[:limit]


async def _calls(store: Store, *, service: str, state: CallState | None, limit: int) -> list[Row]:
    asked = "" if store.service == service else service
    calls = await store.read(lambda books: books.calls_listed(service=asked, state=state, limit=limit))
    return [_of_call(store.service, call) for call in calls]


async def _requests(store: Store, strangers_to: frozenset[str], *, state: RequestState | None, limit: int) -> list[Row]:
    """Return the newest requests of each lane whose caller is none of these stores."""

    def step(books: Books) -> list[tuple[LaneIn, Request]]:
        return [
            (lane, request)
            for lane in books.lanes_in()
            if lane.caller.id not in strangers_to
            for request in books.requests_listed(state=state, lane=lane.lane, limit=limit)
        ]

    found = await store.read(step)
    return [_of_request(*each) for each in found if not is_own_run(each[1].place, each[1].operation)]


async def _events(store: Store, *, state: RequestState | None, limit: int) -> list[Row]:
    def step(books: Books) -> list[tuple[Feed, Request]]:
        return [
            (feed, request)
            for feed in books.feeds()
            for request in books.requests_listed(state=state, lane=feed.lane, limit=limit)
        ]

    return [
        Row(request.id, service_of(feed.topic), request.operation, named(request.state), asked_of(request))
        for feed, request in await store.read(step)
    ]


def _of_call(caller: str, call: Call) -> Row:
    state = "parked" if call.parked and not call.state.final else named(call.state)
    return Row(call.id, caller, call.operation, state, call.created)


def _of_request(lane: LaneIn, request: Request) -> Row:
    message = message_of(request.frame)
    caller = lane.service or ("" if message is None else message.source)
    return Row(request.id, caller, request.operation, named(request.state), asked_of(request))


def asked_of(request: Request) -> Instant:
    """Return when a request was asked; 0 where nobody knows any more."""
    message = None if is_own_run(request.place, request.operation) else message_of(request.frame)
    return asked_at(request.id) if message is None else message.time
