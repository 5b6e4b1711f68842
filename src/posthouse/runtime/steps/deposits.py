"""What is kept of deposits, beside the requests that they become: the keys by which one is known when it comes again.

A key stands for one request with one content. What comes under it with another content is refused, and never
taken for the earlier one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.contracts.store import Deceased, Key
from posthouse.errors import IdReusedError
from posthouse.message.message import Refusal
from posthouse.protocol.lane import SELF, place_of
from posthouse.runtime.steps.here import KEPT_FOR
from posthouse.runtime.steps.wire import Outcome, digest_of

if TYPE_CHECKING:
    from posthouse.clock import Instant
    from posthouse.contracts.store import Books
    from posthouse.message.message import Message

DEPOSIT: Final = "deposit"
"""The scope of the keys of deposits: the ids of their messages."""

_REFUSED: Final = "refused deposit"
"""The scope of those for which there is a dead letter: their id, and what they asked."""


def key_of(id: str, digest: bytes, place: int, *, now: Instant) -> Key:
    """Return the key of a deposit.

    Args:
        id: of its message.
        digest: of what it asks.
        place: of the request that it has become.
        now: when.
    """
    return Key(DEPOSIT, id, digest, str(place), now + KEPT_FOR)


def reused(id: str) -> Outcome:
    """Return what the caller of a deposit is told whose id stands for another one."""
    return Outcome(b"", Refusal(IdReusedError.code, _why(id)), done=False)


def keep_refused(books: Books, message: Message, frame: bytes, *, now: Instant) -> None:
    """Make a deposit that nobody waits for, and whose id stands for another one, a dead letter.

    It has a place of its own, so that no request is taken for what the letter is about. The same one again leaves no
    other letter.
    """
    digest = digest_of(message.type, message.data)
    id = f"{message.id} {digest.hex()}"
    own = books.lane_in(SELF)
    if own is None or books.key(_REFUSED, id) is not None:
        return
    place = place_of(SELF, own.next)
    own.next += 1
    books.save_lane_in(own)
    books.add_key(Key(_REFUSED, id, digest, str(place), now + KEPT_FOR))
    books.add_dead(
        Deceased(
            place=place,
            id=message.id,
            operation=message.type,
            frame=frame,
            state="failed",
            code=IdReusedError.code,
            reason=_why(message.id),
            detail="",
            attempts=0,
            cause=IdReusedError.code,
            at=now,
        )
    )


def _why(id: str) -> str:
    return f"id {id!r} stands for another request already; nothing was stored"
