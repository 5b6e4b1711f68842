"""Replies, on their way back: to the instance that asked, once, by the direct path."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.errors import Reject
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Message, Refusal

if TYPE_CHECKING:
    from posthouse.clock import Instant
    from posthouse.contracts.transport import Direct
    from posthouse.errors import PosthouseError

_log: Final = logging.getLogger("posthouse.service")


def answer(
    direct: Direct, request: Message, data: bytes, refusal: Refusal | None, *, source: str, now: Instant
) -> None:
    """Answer a request; what nobody waits for is answered to nobody."""
    if not request.reply_to:
        return
    reply = Message(Kind.REPLY, request.id, request.type, source, now, data, request.mode, refusal=refusal)
    direct.send(request.reply_to, encode(reply))


def refuse(direct: Direct, request: Message, error: PosthouseError, *, source: str, now: Instant) -> None:
    """Answer a request with an error."""
    answer(direct, request, b"", refusal_of(error), source=source, now=now)


def refusal_of(error: PosthouseError) -> Refusal:
    """Return an error as it travels."""
    details, status = b"", 0
    if isinstance(error, Reject):
        status = error.status
        try:
            details = msgspec.json.encode(error.details) if error.details else b""
        except (TypeError, ValueError, RecursionError) as wrong:
            _log.warning("the details of %s cannot be written as JSON and stay behind: %s", error.code, wrong)
    return Refusal(error.code, str(error), status, error.hint, details)
