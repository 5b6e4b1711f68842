"""The step that drops what nobody can ask for any more: keys, deposits, and settled calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from posthouse.protocol.lane import SELF, number_of
from posthouse.runtime.steps.deposits import DEPOSIT
from posthouse.runtime.steps.here import KEPT_BYTES, KEPT_FOR

if TYPE_CHECKING:
    from posthouse.clock import Instant
    from posthouse.contracts.store import Books


def forget(books: Books, now: Instant) -> int:
    """Drop some of it; return how much that was, since there may be more."""
    dropped = _forget_keys(books, now)
    for lane in books.lanes_out():
        dropped += books.forget_calls(
            lane=lane.lane,
            below=min(lane.acked, lane.final.floor),
            before=now - KEPT_FOR,
            keep_bytes=KEPT_BYTES,
        )
    return dropped


def _forget_keys(books: Books, now: Instant) -> int:
    """Drop keys whose time is over, and with those of deposits the requests, unless they are still undecided."""
    dropped = 0
    for key in books.forget_keys(now):
        dropped += 1
        if key.scope != DEPOSIT:
            continue
        place = int(key.reference)
        for row in books.requests_at((place,)):
            if row.state.decided:
                number = number_of(place)
                books.forget_requests(SELF, below=0, ranges=((number, number),))
            else:
                books.add_key(msgspec.structs.replace(key, until=now + KEPT_FOR))
    return dropped
