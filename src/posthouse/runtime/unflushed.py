"""What its sender is told of a message that was stored, and could not be flushed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.contracts.flushing import NotFlushedError
from posthouse.errors import OutcomeUnknownError

if TYPE_CHECKING:
    from posthouse.contracts.transport import Outgoing, Transport
    from posthouse.message.message import Message


async def send(transport: Transport, outgoing: Outgoing, message: Message) -> None:
    """Store one message.

    Args:
        transport: where to.
        outgoing: the message, as it is stored.
        message: the same, to name it.

    Raises:
        OutcomeUnknownError: it is stored, and whether that outlives a power cut is not known.
        NotStoredError: nothing was stored.
    """
    try:
        await transport.send((outgoing,))
    except NotFlushedError as error:
        raise unsure(message, error) from error


def unsure(message: Message, error: NotFlushedError) -> OutcomeUnknownError:
    """Return the error that tells its sender so."""
    return OutcomeUnknownError(
        f"{message.type} was stored, and whether that outlives a power cut is not known: {error}",
        message_id=message.id,
    )
