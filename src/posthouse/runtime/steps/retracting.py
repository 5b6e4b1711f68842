"""The step that drops the runs for replies that were taken back.

A restored replier may answer otherwise. The call is open again, and when it is answered anew that answer is heard by
a run of its own; the one for the old answer could commit nothing any more. A run that is under way loses its row, and
so whatever it is about to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.message.codec import decode
from posthouse.protocol.lane import SELF, number_of
from posthouse.protocol.outbox import Wants
from posthouse.runtime.steps.applying import name_of_hearing
from posthouse.runtime.steps.deciding import end_calls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from posthouse.contracts.store import Books
    from posthouse.protocol.outbox import Call

_ALL: Final = 1 << 40


def retract_runs(books: Books, taken_back: Iterable[Call]) -> None:
    """Drop the runs in which handlers were to hear of these answers, with what they asked and what was said of them.

    Args:
        books: the store's.
        taken_back: the calls whose answers do not stand any more.
    """
    heard: dict[str, set[str]] = {}
    for call in taken_back:
        if call.wants is Wants.REPLY_HANDLER:
            name = name_of_hearing(decode(call.frame).source, call.operation)
            heard.setdefault(name, set()).add(call.id)
    for name, ids in heard.items():
        for run in books.requests_listed(operation=name, decided=False, lane=SELF, limit=_ALL):
            if run.id not in ids:
                continue
            if (letter := books.dead_at(run.place)) is not None:
                books.drop_dead((letter.number,))
            end_calls(books, books.calls_of(run.place), [], [])
            number = number_of(run.place)
            books.forget_requests(SELF, below=0, ranges=((number, number),))
