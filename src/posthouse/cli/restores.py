"""`posthouse restores`: which stores were put back, what follows from it, and what somebody has to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.clock import Instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from posthouse.cli.stores import Stores
    from posthouse.contracts.store import Books

_MANY: Final = 10_000
"""At most so many of a kind are counted: beyond, nobody looks at each."""

_EXAMPLES: Final = 5

KINDS: Final = {
    "asked again": "a store has lost what they did, and is asked for them once more: nothing is to be done",
    "waits for its caller": "it runs when whoever asked for it asks again: start that service, if it does not run",
    "conflict": "it was done, was lost by a restore, and is refused now: `posthouse messages get ID`, and put right by"
    " hand what was built on it",
    "unknown": "nobody can say whether it was done: look at what the other service has (`posthouse messages get ID`),"
    " and ask anew if it is not there",
    "orphan": "its caller was put back and does not know of it: `posthouse dead show ID` says whether it took effect;"
    " `posthouse dead drop ID` when it is put right",
    "not asked again": "it was settled, is not kept any more, and may be lost there: compare both sides for these"
    " numbers; `posthouse dead drop ID` when it is done",
    "events lost": "they can never be had: read the publisher's present state; `posthouse dead drop ID` then",
}
"""What there may be, and what to do about it."""

HARMLESS: Final = frozenset({"asked again", "waits for its caller"})
"""What ends by itself."""


class LifeRow(msgspec.Struct, kw_only=True):
    """A life of a store, and why it began."""

    epoch: int
    reason: str
    at: Instant


class Found(msgspec.Struct, kw_only=True):
    """What is found of one kind.

    Attributes:
        kind: see KINDS.
        about: the other service, or the operation.
        count: how many.
        ids: some of them.
    """

    kind: str
    about: str
    count: int
    ids: list[str]


class StoreRow(msgspec.Struct, kw_only=True):
    """A store with its lives, and what was found in it."""

    service: str
    store: str
    lives: list[LifeRow]
    found: list[Found]


@click.command()
@common
def restores(options: Options) -> int:
    """Show the lives of each store, what is asked for again after a restore, and what somebody has to look at."""
    from posthouse.cli.stores import visit_stores

    async def work(stores: Stores) -> list[StoreRow]:
        return [
            await store.read(lambda books, service=service: row_of(service, books))
            for service, store in stores.by_service.items()
        ]

    rows = visit_stores(options, work)
    if options.json:
        for row in rows:
            output.record(row)
    else:
        _show(rows)
    return exits.FINDING if any(each.kind not in HARMLESS for row in rows for each in row.found) else exits.FINE


def row_of(service: str, books: Books) -> StoreRow:
    """Return what there is to say of a store."""
    return StoreRow(
        service=service,
        store=books.identity.id,
        lives=[LifeRow(epoch=life.epoch, reason=life.reason, at=life.at) for life in books.lives()],
        found=[
            Found(kind=kind, about=about, count=len(ids), ids=ids[:_EXAMPLES])
            for (kind, about), ids in _gathered(books).items()
        ],
    )


def _gathered(books: Books) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for kind, about, id in (*_calls(books), *_requests(books), *_letters(books)):
        found.setdefault((kind, about), []).append(id)
    return found


def _calls(books: Books) -> Iterator[tuple[str, str, str]]:
    from posthouse.protocol.outbox import CallState

    kinds = {
        CallState.REDRIVING: "asked again",
        CallState.CONFLICT: "conflict",
        CallState.UNKNOWN: "unknown",
    }
    for state, kind in kinds.items():
        for call in books.calls_listed(state=state, limit=_MANY):
            yield kind, call.service, call.id


def _requests(books: Books) -> Iterator[tuple[str, str, str]]:
    from posthouse.protocol.inbox import waits_for_caller

    for row in books.requests_listed(decided=False, limit=_MANY):
        if waits_for_caller(row.place, row.asked, epoch=books.identity.epoch):
            yield "waits for its caller", row.operation, row.id


def _letters(books: Books) -> Iterator[tuple[str, str, str]]:
    from posthouse.runtime.steps.closing import ORPHANED
    from posthouse.runtime.steps.feeding import EVENT_LOST
    from posthouse.runtime.steps.resending import NOT_REDRIVEN

    kinds = {ORPHANED: "orphan", NOT_REDRIVEN: "not asked again", EVENT_LOST: "events lost"}
    for code, kind in kinds.items():
        for letter in books.dead_letters(cause=code, limit=_MANY):
            yield kind, letter.operation, letter.id


def _show(rows: list[StoreRow]) -> None:
    if not rows:
        output.say("no service has a store here yet")
        return
    output.table(
        ["STORE", "LIFE#", "BEGAN", "WHY"],
        [(row.service, life.epoch, output.moment(life.at), life.reason) for row in rows for life in row.lives],
    )
    found = [(row.service, each) for row in rows for each in row.found]
    if not found:
        output.say("nothing is asked for again, and nothing is unknown or lost")
        return
    output.line()
    output.table(
        ["STORE", "WHAT", "ABOUT", "COUNT#", "SUCH AS"],
        [(service, each.kind, each.about, each.count, each.ids[0]) for service, each in found],
    )
    for kind in dict.fromkeys(each.kind for _, each in found):
        output.say(f"{kind}: {KINDS[kind]}")
