"""From an operation and data to bytes, and from a reply to a value or an error.

What is the same for every message to one operation is worked out once, and again only when the
directory has changed: that the operation exists, that caller and service mean the same mode, the
encoder, the decoder of the reply.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from posthouse.clock import seconds
from posthouse.contracts.transport import Outgoing
from posthouse.declare.operation import Event, Operation
from posthouse.declare.schema_of import encode as encode_data
from posthouse.errors import ContractError, InvalidDataError, OutcomeUnknownError, UsageError, told
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Message
from posthouse.message.names import service_of
from posthouse.runtime.caller import FRAME_LIMIT, too_large

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.clock import Clock, Duration, Instant
    from posthouse.errors import PosthouseError, Reject
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.steps.wire import Outcome


_details: Final = msgspec.json.Decoder(dict[str, Any]).decode


def _knows_nobody(service: str) -> bool:
    del service
    return False


class Outbound:
    """What it takes to send to one operation, or to tell one event.

    Attributes:
        name: of the operation or event.
        mode: that of its contract.
        is_event: whether it is told to subscriptions, not asked.
        generation: of the directory, when it was last compared with the service's contract.
    """

    __slots__ = ("_contract", "_decode", "_rejects", "_type", "generation", "is_event", "mode", "name", "service")

    def __init__(self, contract: Operation[Any, Any] | Event[Any]) -> None:
        self.name = contract.name
        self.service = service_of(contract.name)
        self.mode = contract.promise
        self.generation = -1
        self._contract = contract
        if isinstance(contract, Operation):
            self.is_event = False
            data = contract.request
            self._decode: Callable[[bytes], Any] | None = contract.decode_reply
            self._rejects = contract.rejects
        else:
            self.is_event = True
            data = contract.data
            self._decode = None
            self._rejects = ()
        self._type: type | None = data if isinstance(data, type) else None

    async def check(self, directory: Directory, knows: Callable[[str], bool] = _knows_nobody) -> None:
        """Compare an operation with what its service announced; an event is its publisher's own.

        Args:
            directory: what is known of the registry.
            knows: whether a service was known to the caller's store before; then nobody need be there now.

        Raises:
            UnknownServiceError: nobody announced it.
            ContractError: caller and service do not mean the same mode.
        """
        if self.is_event:
            return
        if self.name not in directory.operations and knows(self.service):
            return  # it is compared as soon as it can be
        record = await directory.operation(self.name)
        if record.mode is not self.mode:
            its, ours = record.mode.name.lower(), self.mode.name.lower()
            raise ContractError(f"{self.name} is {its} for its service, and {ours} for this caller")
        self.generation = directory.generation

    def encode(self, data: Any) -> bytes:
        """Return the bytes of the data.

        Raises:
            InvalidDataError: it is not of the type that the contract names, or cannot be written as JSON.
            TooLargeError: a message does not take so much.
        """
        expected = self._type
        if expected is not None and type(data) is not expected and not _is_instance(data, expected):
            raise InvalidDataError(f"{self.name} takes {expected.__name__}, and was given {type(data).__name__}")
        try:
            encoded = encode_data(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidDataError(f"the data for {self.name} cannot be written as JSON: {error}") from error
        if len(encoded) > FRAME_LIMIT:
            raise too_large(self.name, len(encoded))
        return encoded

    def result(self, reply: Message) -> Any:
        """Return the data of a reply.

        Raises:
            PosthouseError: what it holds instead: a Reject as the class that the contract lists, or one of ours.
            ContractError: the data is not of the type that this caller's contract names.
        """
        if reply.refusal is not None:
            raise refused(reply, self._rejects)
        return self._value(reply.data, reply.id)

    def result_of(self, outcome: Outcome, id: str) -> Any:
        """Return the data of a stored outcome; raises as `result`."""
        if outcome.refusal is None:
            return self._value(outcome.data, id)
        return self.result(Message(Kind.REPLY, id, self.name, self.service, 0.0, outcome.data, refusal=outcome.refusal))

    def _value(self, data: bytes, id: str) -> Any:
        try:
            return self._decode(data) if self._decode is not None else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ContractError(
                f"the reply of {self.name} does not fit this caller's contract: {error}", message_id=id
            ) from error

    def unknown(self, id: str) -> OutcomeUnknownError:
        """Return the error for a call of which nobody can say what became of it."""
        return OutcomeUnknownError(f"what became of {self.name} is not known: a store was restored", message_id=id)

    def key_of(self, data: Any) -> str:
        """Return the ordering key of a request; empty for none.

        Raises:
            InvalidDataError: what stands in its field can be none.
        """
        contract = self._contract
        return contract.key_of(data) if isinstance(contract, Operation) and contract.key is not None else ""

    def outgoing(self, message: Message) -> Outgoing:
        """Return the message as the transport takes it."""
        return Outgoing(self.name, encode(message), self.is_event)


def refused(reply: Message, rejects: tuple[type[Reject], ...] = ()) -> PosthouseError:
    """Return the error that a reply holds instead of data."""
    refusal = reply.refusal
    if refusal is None:
        raise UsageError("the reply holds data, not a refusal")
    try:
        details = _details(refusal.details) if refusal.details else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        details = None  # whatever wrote there, it is no reason to lose the refusal itself
    return told(
        refusal.code,
        refusal.message,
        status=refusal.status,
        details=details,
        hint=refusal.hint,
        message_id=reply.id,
        rejects=rejects,
    )


def instant_of(deadline: Duration | datetime | None, *, clock: Clock, inherited: Instant = 0.0) -> Instant:
    """Return a deadline as an instant: the sooner of the user's and the inherited one; 0 for none.

    Raises:
        UsageError: it is neither a duration nor a datetime with a time zone.
    """
    if deadline is None:
        return inherited
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise UsageError("a deadline needs a time zone: use datetime.now(UTC) + ...")
        own = deadline.astimezone(UTC).timestamp()
    else:
        try:
            own = clock.now() + seconds(deadline)
        except ValueError as error:
            raise UsageError(str(error)) from error
    return min(own, inherited) if inherited else own


def _is_instance(data: Any, kind: type) -> bool:
    try:
        return isinstance(data, kind)
    except TypeError:  # TypedDict and the like: the receiver checks
        return True
