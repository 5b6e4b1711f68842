"""The steps that let go of what an instance has claimed and does not run: it is dead, or does not know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from posthouse.contracts.store import Deceased
from posthouse.errors import DeadlyError
from posthouse.protocol.inbox import DEATHS, RequestState
from posthouse.runtime.steps.damage import sound
from posthouse.runtime.steps.deciding import PutBack, put_back

if TYPE_CHECKING:
    from collections.abc import Container

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books
    from posthouse.protocol.inbox import Request
    from posthouse.runtime.steps.here import Here


class TakenOver(NamedTuple):
    """What dead instances have left.

    Attributes:
        operations: those that have work by that.
        damaged: a sentence for each request that cannot be read.
        parked: those that run no more by themselves, as too many instances died while they ran.
    """

    operations: set[str]
    damaged: list[str]
    parked: list[Deceased]


def take_over(books: Books, here: Here) -> TakenOver:
    """Let go of what dead instances ran.

    One of them may have killed its instance. Those that were suspects already are charged with the death;
    where none was, all become suspects, which run one at a time from then on: so the guilty one is found,
    and the others of its instance go on.
    """
    taken = TakenOver(set(), [], [])
    now = here.now()
    for instance in books.dead(now):
        if instance == here.instance:
            continue
        held = sound(lambda instance=instance: books.held_by(instance), books, taken.damaged, now=now)
        charged = [request for request in held if request.deaths]
        for request in held:
            deaths = request.deaths + 1 if request in charged or not charged else request.deaths or 1
            row = received_again(request, due=now, deaths=deaths)
            if deaths >= DEATHS:
                row.state = RequestState.PARKED
                row.letter = _poison(books, request, here)
                taken.parked.append(row.letter)
            put_back(books, (row,), instance=instance, now=now)
            taken.operations.add(request.operation)
        books.leave(instance)
    return taken


def let_go_of_unknown(books: Books, running: Container[int], here: Here) -> set[str]:
    """Put back what the books say that we run, and nobody does; return the operations that have work by that.

    Such a row was claimed in a step whose flush has failed.
    """
    unknown = [row for row in books.held_by(here.instance) if row.place not in running]
    back = [received_again(row, due=row.due, deaths=row.deaths) for row in unknown]
    put_back(books, back, instance=here.instance, now=here.now())
    return {row.operation for row in unknown}


def received_again(request: Request, *, due: Instant, deaths: int) -> PutBack:
    """Return what puts a request back that nobody has begun with, or will go on with."""
    return PutBack(
        request.operation,
        request.place,
        request.attempt,
        RequestState.RECEIVED,
        due=due,
        failures=request.failures,
        deaths=deaths,
    )


def _poison(books: Books, request: Request, here: Here) -> Deceased:
    whole = books.remains(request.place)
    return Deceased(
        place=request.place,
        id=request.id,
        operation=request.operation,
        frame=b"" if whole is None else whole.frame,
        state="parked",
        code=DeadlyError.code,
        reason=f"{DEATHS} instances of {here.service} died while it ran",
        detail="",
        attempts=request.attempt,
        cause=DeadlyError.code,
        at=here.now(),
    )
