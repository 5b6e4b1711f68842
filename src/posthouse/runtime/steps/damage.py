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
    from collections.abc import Callable

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
    letter = Deceased(
        place=row.place,
        id=row.id,
        operation=row.operation,
        frame=row.frame,
        state="parked",
        code=error.code,
        reason=str(error),
        detail="",
        attempts=row.attempt,
        cause=error.code,
        at=now,
    )
    books.add_dead(letter)
    return True
