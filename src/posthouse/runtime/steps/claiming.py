"""The step that claims requests for an instance, and what a claimed row is as a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.message.codec import decode
from posthouse.message.message import Kind, Message, Mode
from posthouse.protocol.lane import SELF, lane_of
from posthouse.runtime.steps.applying import run_of
from posthouse.runtime.steps.damage import sound
from posthouse.runtime.steps.wire import asked_again

if TYPE_CHECKING:
    from posthouse.clock import Instant
    from posthouse.contracts.store import Books
    from posthouse.protocol.inbox import Request
    from posthouse.runtime.steps.here import Here


_OWN_RUNS: Final = frozenset({"on_reply", "on_ack", "on_gap"})


class Claimed:
    """What claiming came to.

    Attributes:
        requests: those that are ours to run now.
        due: when the next one is; None for none that is known of, or for one that waits for a suspect.
        damaged: a sentence for each that was set aside.
    """

    __slots__ = ("damaged", "due", "requests")

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.due: Instant | None = None
        self.damaged: list[str] = []


def claim(books: Books, name: str, wanted: int, here: Here, *, suspects: bool) -> Claimed:
    """Claim requests that are due.

    Args:
        books: the store's.
        name: of what runs them.
        wanted: the most of them.
        here: our place.
        suspects: one of those at which an instance may have died may be among them.
    """
    now = here.now()
    result = Claimed()

    def read() -> list[Request]:
        found = books.claimable(name, now, 1, suspects=True) if suspects else []
        return found + (books.claimable(name, now, wanted - len(found)) if len(found) < wanted else [])

    result.requests = sound(read, books, result.damaged, now=now)
    if result.requests:
        books.claim(here.instance, [request.place for request in result.requests])
    due = books.next_due(name)
    if due is not None and due > now:  # else beyond what was wanted, or a suspect: the end of one that runs looks again
        result.due = due
    for request in result.requests:
        request.attempt += 1
    return result


def message_of(request: Request, here: Here) -> Message:
    """Return what a handler is run for."""
    if lane_of(request.place) == SELF and (kind := request.operation.split(".")[1]) in _OWN_RUNS:
        return _gap(request, here) if kind == "on_gap" else _reply(request, here)
    return asked_again(decode(request.frame), peer=request.reply_to, life=request.asker)


def _gap(request: Request, here: Here) -> Message:
    return Message(Kind.EVENT, request.id, request.operation, here.service, here.now(), request.frame, Mode.JOURNALED)


def _reply(request: Request, here: Here) -> Message:
    run = run_of(request.frame)
    of = decode(run.request) if run.request else None
    source, at = (here.service, here.now()) if of is None else (of.source, of.time)
    return Message(Kind.REPLY, request.id, request.operation, source, at, request.frame, Mode.JOURNALED)
