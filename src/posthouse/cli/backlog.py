"""`posthouse outbox` and `posthouse inbox`: what is under way in the stores, on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.clock import Instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.cli.stores import Stores
    from posthouse.contracts.store import Books, RequestTally, Store

NEVER: Final = float("inf")


class Asks(msgspec.Struct, kw_only=True):
    """The calls of one service to another that are not final.

    Attributes:
        caller: who asks.
        service: who is asked.
        calls: how many.
        states: how many in which state.
        oldest: when the oldest was stored.
        instances: how many instances of the service take work now.
    """

    caller: str
    service: str
    calls: int
    states: dict[str, int]
    oldest: Instant
    instances: int


class Has(msgspec.Struct, kw_only=True):
    """The requests to an operation, or the events of a subscription, that are in one undecided state.

    Attributes:
        operation: what is asked, or the subscription.
        state: of the requests.
        requests: how many.
        oldest: when the oldest was asked; 0 where nobody knows.
        due: when the next of them may run, or could; 0 for never.
        instances: how many instances take work now.
        stuck: why nobody will run them; empty when somebody will, or nobody knows.
    """

    operation: str
    state: str
    requests: int
    oldest: Instant
    due: Instant
    instances: int
    stuck: str = ""


@click.command()
@click.argument("service", required=False)
@common
def outbox(options: Options, service: str | None) -> int:
    """List what SERVICE, or every service, has asked of others and has not been told yet."""
    from posthouse.cli.stores import visit_stores

    async def work(stores: Stores) -> tuple[list[Asks], Instant]:
        rows = [row for store in _chosen(stores, service) for row in await _asks(stores, store)]
        return rows, stores.clock.now()

    rows, now = visit_stores(options, work)
    if options.json:
        for row in rows:
            output.record(row)
    elif not rows:
        output.say("nothing is under way: every call in the stores here is final")
    else:
        output.table(
            ["FROM", "ASKS", "THERE#", "CALLS#", "OLDEST", "STATES"],
            [
                (
                    row.caller,
                    row.service,
                    row.instances,
                    f"{row.calls:,}",
                    output.ago(row.oldest, now),
                    ", ".join(f"{count:,} {state}" for state, count in row.states.items()),
                )
                for row in rows
            ],
        )
        output.say("which ones: posthouse messages ls --state STATE")
    return exits.FINE


@click.command()
@click.argument("service", required=False)
@common
def inbox(options: Options, service: str | None) -> int:
    """List what SERVICE, or every service, was asked or told and has not decided yet."""
    from posthouse.cli.stores import visit_stores

    async def work(stores: Stores) -> tuple[list[Has], Instant]:
        rows = [row for store in _chosen(stores, service) for row in await _has(stores, store)]
        return rows, stores.clock.now()

    rows, now = visit_stores(options, work)
    if options.json:
        for row in rows:
            output.record(row)
    elif not rows:
        output.say("nothing is undecided in the stores here")
    else:
        output.table(
            ["OPERATION", "THERE#", "STATE", "REQUESTS#", "OLDEST", "DUE"],
            [
                (
                    row.operation,
                    row.instances,
                    row.state,
                    f"{row.requests:,}",
                    output.ago(row.oldest, now),
                    output.ahead(row.due, now) if row.state != "running" else "-",
                )
                for row in rows
            ],
        )
        for text in dict.fromkeys(row.stuck for row in rows if row.stuck):
            output.say(text)
        output.say("which ones: posthouse messages ls --state STATE; parked: posthouse dead ls")
    return exits.FINE


def _chosen(stores: Stores, service: str | None) -> Sequence[Store]:
    return [stores.of(service)] if service is not None else list(stores.by_service.values())


async def _asks(stores: Stores, store: Store) -> list[Asks]:
    from posthouse.cli.conversation import named

    rows: dict[str, Asks] = {}
    for tally in await store.read(lambda books: books.call_tallies()):
        if tally.state.final:
            continue
        row = rows.get(tally.service)
        if row is None:
            there = len(stores.host.directory.instances(tally.service))
            row = rows[tally.service] = Asks(
                caller=store.service, service=tally.service, calls=0, states={}, oldest=tally.oldest, instances=there
            )
        state = "parked" if tally.parked else named(tally.state)
        row.calls += tally.count
        row.states[state] = row.states.get(state, 0) + tally.count
        row.oldest = min(row.oldest, tally.oldest)
    return list(rows.values())


async def _has(stores: Stores, store: Store) -> list[Has]:
    from posthouse.cli.conversation import named

    rows: dict[tuple[str, str], Has] = {}
    for tally, asked in await store.read(_tallies):
        key = tally.operation, named(tally.state)
        due = tally.due if tally.due < NEVER else 0.0
        row = rows.get(key)
        if row is None:
            there = len(stores.host.directory.instances(store.service))
            stuck = _stuck(stores, store, tally)
            row = rows[key] = Has(
                operation=key[0], state=key[1], requests=0, oldest=asked, due=due, instances=there, stuck=stuck
            )
        row.requests += tally.count
        row.oldest = min(row.oldest, asked) if row.oldest and asked else row.oldest or asked
        row.due = min(row.due, due) if row.due and due else row.due or due
    return list(rows.values())


def _stuck(stores: Stores, store: Store, tally: RequestTally) -> str:
    from posthouse.cli.conversation import offered
    from posthouse.cli.why import not_run
    from posthouse.protocol.inbox import RequestState
    from posthouse.protocol.stream import is_of_feed
    from posthouse.runtime.steps.intervening import is_own_run

    waits = tally.state in {RequestState.RECEIVED, RequestState.SUSPENDED}
    directory = stores.host.directory
    if not waits or store.service not in directory.contracts or is_own_run(tally.first, tally.operation):
        return ""
    how = offered(directory, tally.operation)
    if is_of_feed(tally.lane) and how != "journaled":
        name = tally.operation
        return f"{name} is not declared any more: nobody handles what it has; `posthouse subscriptions drop {name}`"
    return not_run(tally.operation, how)


def _tallies(books: Books) -> list[tuple[RequestTally, Instant]]:
    """Return the tallies, each with when its first request was asked: in a lane, the one with the lowest number."""
    from posthouse.cli.listing import asked_of

    tallies = books.request_tallies()
    first = {row.place: asked_of(row) for row in books.requests_at([tally.first for tally in tallies])}
    return [(tally, first.get(tally.first, 0.0)) for tally in tallies]
