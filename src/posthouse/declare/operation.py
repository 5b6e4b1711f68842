"""What is named by a call and by a publish: the contracts of one operation and of one event.

A contract says the name, the types, and what a delivery promises (its mode). Both sides hold one:
the service that implements it, and whoever asks or hears. Type arguments are invariant on purpose:
a covariant Event would accept any payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar

from posthouse.clock import seconds
from posthouse.declare.key import check_key, key_reader
from posthouse.declare.schema_of import check_type, decoder
from posthouse.declare.wrong import wrong
from posthouse.errors import NotBuiltError, Reject, UsageError
from posthouse.message.message import Mode as Promise
from posthouse.message.names import check_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import TypeForm

    from posthouse.clock import Duration, Seconds

Mode: TypeAlias = Literal["volatile", "queued", "journaled"]
"""What a delivery promises, as a program writes it."""

Priority: TypeAlias = Literal["high", "normal", "low"]
"""Which messages of a queue go first, as a program writes it."""

DEFAULT_MODE: Final = "journaled"
"""The mode of an operation that does not say one."""

DEFAULT_EVENT_MODE: Final = "journaled"
"""The mode of an event that does not say one."""

PROMISES: Final[Mapping[Mode, Promise]] = {
    "volatile": Promise.VOLATILE,
    "queued": Promise.QUEUED,
    "journaled": Promise.JOURNALED,
}

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")


class Operation(Generic[_Req, _Rep]):
    """The contract of one operation: what a call names. Not callable: write `await ctx.call(quote, order)`.

    Args:
        name: its service, then its own name: "prices.quote".
        request: the type of the data that is sent.
        reply: the type of the data that comes back; None for none.
        mode: what a delivery promises.
        key: the request's field, as it is named in JSON, that is the ordering key: requests of one caller
            with the same value there are handled in the order asked. Journaled delivery alone keeps an order.
        rejects: the Reject classes that its callers catch as such.

    Raises:
        DeclarationError: a type that cannot be read or written, or an argument that is none of the above.
        IllegalNameError: the name breaks the grammar.
    """

    __slots__ = (
        "__weakref__",
        "_decode_reply",
        "_decode_request",
        "_function",
        "_key_of",
        "key",
        "mode",
        "name",
        "promise",
        "rejects",
        "reply",
        "request",
    )

    name: str
    request: Any
    reply: Any
    mode: Mode
    promise: Promise
    key: str | None
    rejects: tuple[type[Reject], ...]

    def __init__(
        self,
        name: str,
        request: TypeForm[_Req],
        reply: TypeForm[_Rep],
        *,
        mode: Mode = DEFAULT_MODE,
        key: str | None = None,
        rejects: tuple[type[Reject], ...] = (),
    ) -> None:
        self.name = check_name(name, "operation")
        self.request = request
        self.reply = reply
        self.mode = mode
        self.promise = promise_of(mode, name)
        self.rejects = rejects
        self.key = key
        self._function: Callable[..., Any] | None = None
        self._decode_request: Callable[[bytes], _Req] | None = None
        self._decode_reply: Callable[[bytes], _Rep] | None = None
        self._key_of: Callable[[_Req], str] | None = None
        check_type(request, f"the request of {name!r}")
        check_type(reply, f"the reply of {name!r}")
        _check_rejects(rejects, name)
        if key is not None:
            check_key(key, request, name)
            if self.promise is not Promise.JOURNALED:
                raise wrong(
                    f"key={key!r} of {name!r} asks for an order, which mode={mode!r} does not keep",
                    "declare mode='journaled', or leave key out",
                )

    @property
    def function(self) -> Callable[..., Any]:
        """The handler, for a test that wants the bare function.

        Raises:
            UsageError: this is a contract only; its handler is in another program.
        """
        if self._function is None:
            raise UsageError(f"{self.name!r} is a contract without a handler here, so there is no function to run")
        return self._function

    @property
    def decode_request(self) -> Callable[[bytes], _Req]:
        """Read the data of a request; msgspec.DecodeError says which field is wrong. Made at first use."""
        decode = self._decode_request
        if decode is None:
            decode = self._decode_request = decoder(self.request, f"the request of {self.name!r}")
        return decode

    @property
    def decode_reply(self) -> Callable[[bytes], _Rep]:
        """Read the data of a reply; msgspec.DecodeError says which field is wrong. Made at first use."""
        decode = self._decode_reply
        if decode is None:
            decode = self._decode_reply = decoder(self.reply, f"the reply of {self.name!r}")
        return decode

    @property
    def key_of(self) -> Callable[[_Req], str]:
        """Read the ordering key of a request, "" for none; InvalidDataError says what is wrong. Made at first use."""
        key_of = self._key_of
        if key_of is None:
            key_of = self._key_of = key_reader(self.key, self.request, self.name)
        return key_of

    def implemented_by(self, function: Callable[..., Any]) -> Operation[_Req, _Rep]:
        """Return the same contract with its handler; this one, which others may share, stays as it is."""
        twin = Operation[_Req, _Rep](
            self.name, self.request, self.reply, mode=self.mode, key=self.key, rejects=self.rejects
        )
        twin._function = function
        return twin

    if not TYPE_CHECKING:  # for a checker there is no such method, so that it flags the call

        def __call__(self, *_: object, **__: object) -> None:
            """Refuse: a plain call would skip the queue and the mode without a word."""
            short = self.name.rpartition(".")[2]
            raise TypeError(
                f"operation {self.name!r} is not called like a function: write `await ctx.call({short}, data)`"
                f" to ask the service, or `{short}.function(...)` to run the bare handler in a test"
            )

    def __repr__(self) -> str:
        return f"Operation({self.name!r}, mode={self.mode!r})"


class Event(Generic[_T]):
    """The contract of one event; its topic is its name.

    Args:
        name: its service, then its own name: "prices.quoted".
        data: the type of what it tells.
        mode: what a delivery promises.
        key: the field that is the ordering key; not in this version.
        retain: how long its publisher keeps it for subscriptions that are away; only journaled events are kept at all.

    Raises:
        DeclarationError: a type that cannot be read or written, or an argument that is none of the above.
        IllegalNameError: the name breaks the grammar.
        NotBuiltError: there is a key.
    """

    __slots__ = ("__weakref__", "_decode", "data", "key", "mode", "name", "promise", "retain")

    name: str
    data: Any
    mode: Mode
    promise: Promise
    key: str | None
    retain: Seconds

    def __init__(
        self,
        name: str,
        data: TypeForm[_T],
        *,
        mode: Mode = DEFAULT_EVENT_MODE,
        key: str | None = None,
        retain: Duration = "7d",
    ) -> None:
        self.name = check_name(name, "event")
        self.data = data
        self.mode = mode
        self.promise = promise_of(mode, name)
        self.key = key
        self._decode: Callable[[bytes], _T] | None = None
        try:
            self.retain = seconds(retain)
        except ValueError as error:
            raise wrong(f"retain= of {name!r} cannot be read: {error}", "write retain='7d'") from error
        check_type(data, f"the data of {name!r}")
        if key is not None:
            check_key(key, data, name)
            raise NotBuiltError(
                f"key={key!r} of {name!r}: this version does not keep the order of events; leave `key` out"
            )

    @property
    def decode(self) -> Callable[[bytes], _T]:
        """Read the data of an event; msgspec.DecodeError says which field is wrong. Made at first use."""
        decode = self._decode
        if decode is None:
            decode = self._decode = decoder(self.data, f"the data of {self.name!r}")
        return decode

    def __repr__(self) -> str:
        return f"Event({self.name!r}, mode={self.mode!r})"


def promise_of(mode: Mode, name: str) -> Promise:
    """Return what a mode promises, as it travels.

    Raises:
        DeclarationError: there is no such mode.
    """
    promise = PROMISES.get(mode)
    if promise is None:
        raise wrong(f"{name!r} has mode={mode!r}", f"write one of {', '.join(map(repr, PROMISES))}")
    return promise


def _check_rejects(rejects: tuple[type[Reject], ...], name: str) -> None:
    for kind in rejects:
        if not (isinstance(kind, type) and issubclass(kind, Reject)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"rejects= of {name!r} holds {kind!r}", "list subclasses of Reject, as in rejects=(Unknown,)")
        if not 400 <= kind.status <= 599:
            raise wrong(f"{kind.__qualname__}.status is {kind.status}", "give it an HTTP status of 400 to 599")
    codes = [kind.code for kind in rejects]
    if len(codes) != len(set(codes)):
        raise wrong(f"two of rejects= of {name!r} have one code", "give each class a code of its own")
