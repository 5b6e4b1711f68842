"""The caller's handler: one delivery whose run makes calls, waits for them, and commits.

Each call is a transaction of its own and stays whatever becomes of the run. A run that is suspended or dies
is repeated; it finds its calls by their place, and is given the outcomes that are stored. When it commits,
in one transaction, the calls that it used become final, and those that it did not use are canceled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.caller import with_lane, with_row
from tests.model.checker import Step
from tests.model.state import (
    ANSWERED,
    CANCEL_WANTED,
    DONE,
    NOT_DONE,
    OPEN,
    UNKNOWN,
    CallerRow,
    CallerStore,
    Seen,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.config import Config


def steps(config: Config, state: State) -> Iterator[Step[State]]:
    """Yield what the handler, or whoever runs it, may do."""
    store, run = state.caller, state.run
    if not config.places or store.handled:
        return
    if run is None:
        yield Step("handler starts", True, state._replace(run=()))
        return
    place = len(run)
    if place == config.places or config.handler_ends_early:
        yield _commit(config, state, run)
    if place == config.places:
        return
    unmade = next((later for later in range(place, config.places) if _find(store, later) is None), config.places)
    if unmade < config.places and (unmade == place or config.handler_asks_together) and state.created < config.calls:
        rows = (*store.lanes[store.epoch], CallerRow(state.created, place=unmade))
        called = state._replace(caller=with_lane(store, store.epoch, rows), created=state.created + 1)
        yield Step(f"handler calls {state.created} as its call {unmade}", True, called)
    found = _find(store, place)
    if found is None:
        return
    row = found[2]
    if row.state in {ANSWERED, UNKNOWN}:
        told = Seen(row.answer or row.state, store.peer_epoch)
        if config.reply_runs and store.reply_run:
            told = store.reply_run
        yield Step(f"handler is told of call {place}: {told.outcome}", True, state._replace(run=(*run, told)))
    else:
        yield Step("handler is suspended", True, state._replace(run=None))


def _find(store: CallerStore, place: int) -> tuple[int, int, CallerRow] | None:
    """Return the call at a place of the delivery with its lane and number."""
    for lane, rows in enumerate(store.lanes):
        for number, row in enumerate(rows):
            if row.place == place:
                return lane, number, row
    return None


def _commit(config: Config, state: State, run: tuple[Seen, ...]) -> Step[State]:
    """Return the commit, or the end of a run that may not commit: it is run again."""
    store = state.caller
    calls = [(place, found) for place in range(config.places) if (found := _find(store, place))]
    if not all(_may_use(config, store, found[2], run[place]) for place, found in calls if place < len(run)):
        return Step("handler may not commit and is run again", True, state._replace(run=None))
    for place, (lane, number, row) in calls:
        if place < len(run):
            final = row if row.state == UNKNOWN else row._replace(state=row.answer or row.state, answer="")
            if run[place].outcome == DONE:
                store = store._replace(applied=(*store.applied, row.payload))
        else:
            final = _unused(config, row)
        store = with_row(store, lane, number, final)
    return Step("handler commits", True, state._replace(caller=store._replace(handled=True), run=None))


def _may_use(config: Config, store: CallerStore, row: CallerRow, seen: Seen) -> bool:
    """Return whether the outcome that the run was told still stands.

    That the row is answered is not enough: the replier may have been restored and have answered anew, otherwise,
    since the run was told. The answer must be the same, of the same epoch of the replier.
    """
    if config.handler_commit_checks == "nothing":
        return True
    if seen.outcome == UNKNOWN:
        return row.state == UNKNOWN
    if row.state != ANSWERED:
        return False
    return config.handler_commit_checks == "still answered" or (
        seen.outcome == row.answer and seen.peer_epoch == store.peer_epoch
    )


def _unused(config: Config, row: CallerRow) -> CallerRow:
    """Return what becomes of a call that an earlier run made and the committing run did not."""
    if row.state == OPEN:
        return row._replace(state=CANCEL_WANTED if config.unused_decided_by_replier else NOT_DONE)
    if row.state == ANSWERED:
        return row._replace(state=NOT_DONE if row.answer == NOT_DONE else DONE, answer="")
    return row
