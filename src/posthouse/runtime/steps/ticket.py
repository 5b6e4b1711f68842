"""Who waits for what comes of a call."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec


class Ticket(msgspec.Struct, eq=False):
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

    id: str
    name: str
    done: asyncio.Future[Any]
    for_reply: bool
    stored: bool = False
    place: int = 0
    epoch: int = 0
