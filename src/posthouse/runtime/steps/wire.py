"""Journaled messages: their stamps, and the small words that the two sides say to each other.

Every one names the life of both stores that it is meant for (see protocol/epoch.py). What an outcome is
on the disk stands here too, since it is told as it was stored.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from posthouse.errors import CallCanceledError
from posthouse.message.message import Kind, Lane, Message, Mode, Refusal
from posthouse.protocol.lane import Numbers

if TYPE_CHECKING:
    from posthouse.clock import Instant
    from posthouse.protocol.epoch import Identity

Word: TypeAlias = Literal[
    "pending", "parked", "over", "conflict", "resync", "floor", "cancel", "probe", "tops", "pull", "heads"
]
"""What a control message says; its `type`.

- pending: the request is stored and undecided. parked: the same, and it waits for an operator.
- over: the number was decided, told, acked and forgotten.
- conflict: another request has this number.
- resync: you do not mean this life of mine; its stamps say which it is.
- floor: I have taken your ack; its stamps say up to where.
- cancel: do not do it, if you have not begun.
- probe: I was put back; how far have you received my lanes? Those that I do not name are lost. tops: so far.
- pull: these events I miss. heads: so my streams stand; it comes behind the events (steps/pulling.py).
"""

_DIGEST_SIZE: Final = 16

_REPLY, _JOURNALED = Kind.REPLY, Mode.JOURNALED  # in Python 3.11 a look at one through its class takes 70 ns


class Outcome(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of a request, as both stores keep it.

    Attributes:
        data: the reply's data.
        refusal: why there is none; None when it took effect without a no.
        done: whether it took effect: a Reject that was returned keeps what the handler wrote.
    """

    data: bytes
    refusal: Refusal | None = None
    done: bool = True


_outcome_to_bytes: Final = msgspec.msgpack.Encoder().encode
outcome_of: Final = msgspec.msgpack.Decoder(Outcome).decode
_numbers_of: Final = msgspec.msgpack.Decoder(Numbers).decode


def outcome_bytes(outcome: Outcome) -> bytes:
    """Return an outcome as the stores keep it."""
    return _outcome_to_bytes(outcome)


def digest_of(operation: str, data: bytes) -> bytes:
    """Return what tells two requests apart."""
    return blake2b(data, digest_size=_DIGEST_SIZE, key=operation.encode()[:64]).digest()


CANCELED: Final = outcome_bytes(
    Outcome(b"", Refusal(CallCanceledError.code, "the caller canceled it before it was run"), done=False)
)


def reply_to(request: Message, outcome: Outcome, stamps: Lane | None, *, source: str, now: Instant) -> Message:
    """Return the reply to a request; its stamps are those of the replier, and None to a caller without a store."""
    return Message(
        _REPLY,
        request.id,
        request.type,
        source,
        now,
        outcome.data,
        _JOURNALED,
        refusal=outcome.refusal,
        lane=stamps,
        subject="" if outcome.done else "not done",
    )


def outcome_told(reply: Message) -> Outcome:
    """Return the outcome that a reply tells."""
    return Outcome(reply.data, reply.refusal, done=reply.subject != "not done")


def word(
    said: Word,
    stamps: Lane,
    *,
    id: str,
    about: str,
    source: str,
    now: Instant,
    reply_to: str = "",
    data: bytes = b"",
) -> Message:
    """Return a control message.

    Args:
        said: what it says.
        stamps: whom it is for, and about which number.
        id: of the request.
        about: the operation.
        source: who says it.
        now: when.
        reply_to: the instance that is to be answered; empty for none.
        data: what else is said; of a resync, `floors_to_bytes`.
    """
    return Message(Kind.CONTROL, id, said, source, now, data, Mode.JOURNALED, reply_to, subject=about, lane=stamps)


def ack(
    numbers: Numbers,
    stamps: Lane,
    *,
    service: str,
    source: str,
    now: Instant,
    reply_to: str,
    closes: bool = False,
) -> Message:
    """Return an ack: all numbers of the lane that are final at the caller; `closes` for the last one of a lane."""
    data = msgspec.msgpack.encode(numbers)
    subject = CLOSES if closes else ""
    return Message(Kind.ACK, "", service, source, now, data, Mode.JOURNALED, reply_to, subject=subject, lane=stamps)


CLOSES: Final = "closed"
"""The subject of the last ack of a lane: its caller knows no number at or above its floor."""

IS_CLOSED: Final = b"closed"
"""The data of the word `floor` about a lane that its replier has closed."""

floors_to_bytes: Final = msgspec.msgpack.Encoder().encode
floors_of: Final = msgspec.msgpack.Decoder(dict[int, Numbers]).decode
"""For each lane of a caller, by the epoch that opened it: what was over in it when the replier was put back."""


def numbers_acked(message: Message) -> Numbers:
    """Return what an ack says.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _numbers_of(message.data)


def stamps_back(stamps: Lane, identity: Identity, floor: int) -> Lane:
    """Return the stamps of an answer: the caller's echoed, and the replier's as they are now."""
    return Lane(
        stamps.caller_store,
        stamps.caller_epoch,
        identity.id,
        identity.epoch,
        stamps.number,
        floor,
        b"",
        stamps.opened,
    )


def asked_again(request: Message, *, peer: str, life: int) -> Message:
    """Return a request as its caller asked for it last, so that what it is told is meant for that life of it.

    Args:
        request: as it came first.
        peer: the instance that waits for it now.
        life: of the caller's store, in which it asked last; 0 for an event, which nobody asks for.
    """
    stamps = request.lane
    if stamps is not None and life and stamps.caller_epoch != life:
        stamps = msgspec.structs.replace(stamps, caller_epoch=life)
        return msgspec.structs.replace(request, reply_to=peer, lane=stamps)
    return request if request.reply_to == peer else msgspec.structs.replace(request, reply_to=peer)


def is_waited_for(message: Message) -> bool:
    """Say whether somebody waits for what comes of a request."""
    return message.lane.waited_for if message.lane is not None else bool(message.reply_to)
