"""Who waits for what comes of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Ticket:
    """Somebody who waits for a call: to be stored, or to be answered.

    Attributes:
        id: of the call; of one that was asked before under the same idempotency key, that one's.
        name: of the operation.
        done: holds the outcome; None as soon as it is stored, where nobody waits for that.
        for_reply: whether it waits for the outcome.
        stored: whether the call is known to be in the books.
        place: of the call; 0 until it has a number.
        epoch: of the replier, in which the outcome was given.
    """

    __slots__ = ("done", "epoch", "for_reply", "id", "name", "place", "stored")

    def __init__(self, id: str, name: str, done: asyncio.Future[Any], *, for_reply: bool) -> None:
        self.id = id
        self.name = name
        self.done = done
        self.for_reply = for_reply
        self.stored = False
        self.place = 0
        self.epoch = 0
