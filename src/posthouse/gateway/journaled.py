"""HTTP requests to journaled operations: asked, found again, canceled.

What they ask is stored by the gateway's outbox before anybody is told of it, and what comes of it is
found in the store: nothing is held here once an HTTP request is over. So a restart loses none of them,
and each gateway on the same store knows them all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from posthouse.contracts.store import Key
from posthouse.errors import OutcomeUnknownError
from posthouse.gateway.patience import Patience
from posthouse.gateway.responses import accepted, from_outcome, pending
from posthouse.message.names import service_of
from posthouse.protocol.outbox import CallState, Wants
from posthouse.runtime.caller import FRAME_LIMIT, too_large
from posthouse.runtime.steps.asking import Asked
from posthouse.runtime.steps.here import KEPT_FOR
from posthouse.runtime.steps.wire import digest_of, outcome_of

if TYPE_CHECKING:
    from posthouse.clock import Seconds
    from posthouse.gateway.idempotency import Given
    from posthouse.gateway.responses import Response
    from posthouse.gateway.routes import Route
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.parts import JournalOfCaller
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.steps.ticket import Ticket
    from posthouse.runtime.steps.wire import Outcome


class Journaled:
    """Asks journaled operations for HTTP clients.

    Args:
        journal: the gateway's.
        directory: what is known of the registry.
        seams: time and ids.
        shows_causes: whether what went wrong inside is shown.
    """

    def __init__(self, journal: JournalOfCaller, directory: Directory, *, seams: Seams, shows_causes: bool) -> None:
        self._journal = journal
        self._asks = journal.asks
        self._directory = directory
        self._now = seams.clock.now
        self._new_id = seams.new_id
        self._shows_causes = shows_causes
        self._waits: dict[Seconds, Patience[Ticket]] = {}
        self._stops = False

    async def ask(
        self, route: Route, data: bytes, given: Given | None, *, wait: Seconds, root: str, applied: str
    ) -> Response:
        """Ask, and return what came of it, or where to ask for that when it takes longer than `wait`.

        Args:
            route: to the operation.
            data: of the operation's request type, encoded.
            given: the client's idempotency key; None without one.
            wait: how long the outcome is waited for.
            root: the path under which the gateway is mounted.
            applied: the preference of the client that led to this wait.

        Raises:
            NotStoredError: it was not stored: the outbox is full, or the store cannot be used.
            IdempotencyRunningError: what was asked under the key is still open.
            IdempotencyConflictError: the key was used for other data.
        """
        name = route.record.name
        if len(data) > FRAME_LIMIT:
            raise too_large(name, len(data))
        now = self._now()
        id = self._new_id()
        asked = Asked(
            id,
            service_of(name),
            name,
            data,
            digest=digest_of(name, data),
            time=now,
            wants=Wants.CALLER,
            key=route.ordering_key(data),
            idempotency=None if given is None else Key(route.name, given.key, given.digest, id, now + KEPT_FOR),
        )
        waits = wait > 0 and not self._stops
        ticket = self._asks.ask(asked, for_reply=waits)
        outcome = await self._outcome(ticket, wait) if waits else await ticket.done
        if outcome is None:
            return accepted(ticket.id, root=root, applied=applied)
        return from_outcome(outcome, route.record, id=ticket.id, shows_causes=self._shows_causes)

    async def find(self, id: str, *, root: str) -> Response | None:
        """Return what has come of a request, or that it is open; None when there is no such request.

        Raises:
            OutcomeUnknownError: nobody can say any more what came of it.
        """
        call = await self._journal.call(id)
        if call is None:
            return None
        if not call.state.final:
            return pending(id, root=root, state="parked" if call.parked else "pending")
        if not call.outcome or call.state not in {CallState.DONE, CallState.NOT_DONE}:
            raise OutcomeUnknownError(f"what became of {call.operation} is not known", message_id=id)
        record = self._directory.operations.get(call.operation)
        return from_outcome(outcome_of(call.outcome), record, id=id, shows_causes=self._shows_causes)

    async def cancel(self, id: str, *, root: str) -> Response | None:
        """Ask that a request is not done; None when there is no such request."""
        return pending(id, root=root, state="canceling") if await self._journal.cancel(id) else None

    def release(self) -> None:
        """Wait for no outcome any more: who does is told where to ask for it, as soon as the request is stored."""
        self._stops = True
        for patience in self._waits.values():
            patience.close()
            for ticket in patience.waiting:
                self._asks.only_store(ticket)

    async def _outcome(self, ticket: Ticket, wait: Seconds) -> Outcome | None:
        """Return what comes of a call, or None when it is stored and takes longer."""
        patience = self._waits.get(wait) or self._patience(wait)
        patience.begin(ticket)
        try:
            return await ticket.done
        except asyncio.CancelledError:  # the client has gone; its request lives on
            self._asks.forget(ticket)
            raise
        finally:
            patience.over(ticket)

    def _patience(self, wait: Seconds) -> Patience[Ticket]:
        return self._waits.setdefault(wait, Patience(wait, self._asks.only_store))
