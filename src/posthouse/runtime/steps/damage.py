"""The step that sets aside requests whose rows are not as they were written, so that their neighbours go on.

Such a request is parked: it is not run, as nobody knows what was asked, and it is not decided, as that is an operator's
to do. The row stays as it is; what is left of it is kept as a dead letter. Its caller is told that it is parked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.contracts.store import Deceased
from posthouse.errors import StoreDamagedError
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import lane_of, number_of
from posthouse.protocol.stream import is_of_feed
from posthouse.runtime.steps.deciding import events_over

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books
    from posthouse.protocol.inbox import Request


def sound(read: Callable[[], list[Request]], books: Books, damaged: list[str], *, now: Instant) -> list[Request]:
    """Read undecided requests, and set aside the damaged ones among them.

    Args:
        read: reads them; finds none that is parked.
        books: the store's.
        damaged: is given a sentence for each that was set aside.
        now: when.
    """
    while True:
        try:
            return read()
        except StoreDamagedError as error:
            if not _set_aside(books, error, now):
                raise
            damaged.append(str(error))


def acked(books: Books, places: Sequence[int], handlers: Mapping[str, str], *, now: Instant) -> list[Request]:
    """Read requests that their caller is done with, before they go; a damaged one leaves a dead letter.

    It was decided, and its caller has the outcome; but the handler that is to hear of the ack is not run, as nobody
    knows what of. The letter is for people: nothing can be made anew of it.

    Args:
        books: the store's.
        places: of the requests.
        handlers: names of what hears of acks, by operation.
        now: when.
    """
    try:
        return books.requests_at(places)
    except StoreDamagedError as error:
        if len(places) > 1:  # rare, so it may take long to find out which
            return [row for place in places for row in acked(books, (place,), handlers, now=now)]
        row = books.remains(places[0])
        if row is not None and row.state.decided:
            books.add_dead(_letter(row, error, now, operation=handlers.get(row.operation, row.operation)))
        return []


def left_of(books: Books, place: int) -> Request | None:
    """Return a request; of a damaged one what is left, without what it asked, of which nothing may be made anew."""
    try:
        return next(iter(books.requests_at((place,))), None)
    except StoreDamagedError:
        row = books.remains(place)
        if row is not None:
            row.frame = b""
        return row


def _set_aside(books: Books, error: StoreDamagedError, now: Instant) -> bool:
    row = books.remains(error.place)
    if row is None or row.state.decided or row.state is RequestState.PARKED:
        return False
    if row.state is RequestState.RUNNING:
        books.put_back(
            row.place,
            instance=row.instance,
            attempt=row.attempt,
            state=RequestState.PARKED,
            due=row.due,
            failures=row.failures,
            deaths=row.deaths,
        )
    else:
        books.set_requests(((RequestState.PARKED, row.due, b"", row.place),))
    if is_of_feed(lane_of(row.place)):  # the others pass it by
        events_over(books, lane_of(row.place), (number_of(row.place),))
    books.add_dead(_letter(row, error, now))
    return True


def _letter(row: Request, error: StoreDamagedError, now: Instant, *, operation: str = "") -> Deceased:
    return Deceased(
        place=row.place,
        id=row.id,
        operation=operation or row.operation,
        frame=b"" if row.state.decided else row.frame,
        state="failed" if row.state.decided else "parked",
        code=error.code,
        reason=str(error),
        detail="",
        attempts=row.attempt,
        cause=error.code,
        at=now,
    )
