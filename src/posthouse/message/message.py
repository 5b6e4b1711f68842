"""The message: attributes and data. It never changes.

The attributes are those of CloudEvents 1.0 (id, source, type, time, subject, datacontenttype) and
our own; `data` is bytes for the handler, JSON unless `content_type` says otherwise. The order of
the fields is the order on the wire (see codec.py), so a field is never moved or removed: what comes
later goes to `extensions` first, which every version keeps and passes on.

Some attributes are reserved: their place on the wire stands, and journaled delivery, signing and
tracing fill them.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from posthouse.clock import Instant

JSON: Final = "application/json"


class Kind(enum.IntEnum):
    """What a message is to its receiver."""

    REQUEST = 0
    REPLY = 1
    ACK = 2
    EVENT = 3
    CONTROL = 4


class Mode(enum.IntEnum):
    """What a delivery promises; a larger one promises more."""

    VOLATILE = 0
    QUEUED = 1
    JOURNALED = 2


class Priority(enum.IntEnum):
    """Which messages of a queue go first; a smaller one goes sooner."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Refusal(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Why a reply holds no data: the error, as it travels.

    Attributes:
        code: of the error.
        message: its text.
        status: the HTTP status that it asks for; 0 for that of its code.
        hint: what to do; empty for that of its code.
        details: the values of a Reject, as a JSON object; empty for none.
    """

    code: str
    message: str
    status: int = 0
    hint: str = ""
    details: bytes = b""


class Lane(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The stamps of journaled delivery: which lives of both stores are meant, whose lane, which number in it.

    Attributes:
        caller_store: the id of the caller's store.
        caller_epoch: its present life; echoed in what comes back.
        replier_store: the id of the replier's store; empty where it is not known yet.
        replier_epoch: its life, as the sender knows it.
        number: of the request.
        floor: all below it are over, at the sender.
        digest: of operation and data.
        opened: the life of the caller's store in which the lane was opened.
        waited_for: whether somebody waits for the outcome.
    """

    caller_store: str = ""
    caller_epoch: int = 0
    replier_store: str = ""
    replier_epoch: int = 0
    number: int = -1
    floor: int = 0
    digest: bytes = b""
    opened: int = 0
    waited_for: bool = False


class Seal(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Reserved for signing: the session whose key was used, the code over the frame, who asked first."""

    session: str = ""
    mac: bytes = b""
    principal: bytes = b""


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Attributes and data.

    Attributes:
        kind: request, reply, ack, event or control.
        id: 128 random bits in hex. A reply bears the id of its request.
        type: the operation that is asked, or the event that is told: "prices.quote".
        source: the service that sent it.
        time: when it was sent; the same on every attempt.
        data: the bytes for the handler.
        mode: what its contract promises.
        reply_to: the instance that waits for the reply; empty when nobody does.
        deadline: the instant after which the sender no longer cares; 0 for none.
        content_type: of the data; empty for JSON.
        subject: CloudEvents' subject; ours to pass on, not to read.
        key: the ordering key; empty for none.
        priority: which messages of the queue go first.
        trace: W3C traceparent.
        work: the id of the delivery whose handler sent it; empty outside a handler.
        refusal: in a reply, why there is no data.
        lane: the stamps of journaled delivery; None in the cheaper modes.
        seal: reserved for signing.
        tenant: on whose behalf; never part of an address.
        extensions: attributes that this version does not know; kept, and passed on.
    """

    kind: Kind
    id: str
    type: str
    source: str
    time: Instant
    data: bytes = b""
    mode: Mode = Mode.QUEUED
    reply_to: str = ""
    deadline: Instant = 0.0
    content_type: str = ""
    subject: str = ""
    key: str = ""
    priority: Priority = Priority.NORMAL
    trace: str = ""
    work: str = ""
    refusal: Refusal | None = None
    lane: Lane | None = None
    seal: Seal | None = None
    tenant: str = ""
    extensions: dict[str, str | int | bool] = {}
