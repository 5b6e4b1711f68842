"""Every error that posthouse raises: one tree, and a stable code on each leaf.

The code is what travels on the wire, stands in logs and in HTTP problem details, and is what
`posthouse explain CODE` explains: the docstring of the class, its hint, whether the same call may
succeed later, and the HTTP status. Rules: a name ends in Error (but for the two that a handler
raises); the docstring says what is true now; an error carries values, not only text. What a
handler's end means is decided elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta


class Retry(Exception):  # noqa: N818 - an order to the runtime, not a failure
    """Raised by a handler: roll back, and try this delivery again.

    Args:
        reason: why, for the log and the dead letter.
        after: how long to hold off, in seconds, "5s" or a timedelta; the handler's backoff without it.
    """

    def __init__(self, reason: str = "", *, after: float | str | timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class PosthouseError(Exception):
    """Something that posthouse has to say; the leaves below say what."""

    code: str = "posthouse.error"
    hint: str = ""
    transient: bool = False
    status: int = 500
    message_id: str | None = None

    def __init__(self, message: str = "", *, hint: str | None = None, message_id: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint
        if message_id is not None:
            self.message_id = message_id


# --- the responder has decided: safe to compensate ---------------------------------------------------


class NotDoneError(PosthouseError):
    """The responder decided that it is not done: no effect now, and none later. Safe to compensate."""

    code = "not_done"


class Reject(NotDoneError):  # noqa: N818 - the user's own no, declared beside the handler
    """A handler's own no. Raised, its messages are dropped; returned, they are kept and leave.

    Subclass it with a `code` and a `status`, and list the subclass in `rejects=` of the contract: the
    caller then catches the same class, on every engine. At the gateway it is problem details.

    Args:
        message: one sentence for a person.
        code: a stable code, when no subclass carries one.
        status: the HTTP status at the gateway, 400 to 599; 422 without it.
        details: JSON-able values that travel with it.

    Raises:
        ValueError: the status is no error's.
    """

    code = "rejected"
    status = 422
    details: dict[str, Any]

    def __init__(
        self, message: str = "", *, code: str | None = None, status: int | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if status is not None:
            if not 400 <= status <= 599:
                raise ValueError(f"status={status} is no error's: a Reject has an HTTP status of 400 to 599")
            self.status = status
        self.details = details


class FailedError(NotDoneError):
    """The handler failed as often as it may; the request was given up, and what the handler sent was dropped."""

    code = "handler.failed"
    hint = "Look at the dead letter (`posthouse dead show ID`): it holds the cause and the data."


class ExpiredError(NotDoneError):
    """The deadline passed before the request was run, so it was not run."""

    code = "deadline.expired"
    hint = "Allow more time with `deadline=`, or look why the service is behind (`posthouse queues`)."
    status = 504


class CallCanceledError(NotDoneError):
    """The caller canceled the request before it was run. This is not asyncio.CancelledError."""

    code = "call.canceled"
    status = 409


# --- nobody knows yet --------------------------------------------------------------------------------


class PendingError(PosthouseError, TimeoutError):
    """`timeout` ran out; the request lives on, and its reply is kept. `client.reply(op, error.id)` waits again."""

    code = "call.pending"
    transient = True
    status = 504
    id: str = ""

    def __init__(self, message: str = "", *, id: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint, message_id=id or None)
        self.id = id


class OutcomeUnknownError(PosthouseError):
    """Nobody can say whether the request took effect; look at the other service before you ask again."""

    code = "outcome.unknown"
    hint = "The request may have been done, may still be done, or never be: check before you repeat it."
    status = 504


# --- nothing was stored, nothing will happen ---------------------------------------------------------


class NotStoredError(PosthouseError):
    """Nothing was stored, and nothing will happen."""

    code = "not_stored"
    status = 503


class QueueFullError(NotStoredError):
    """The queue holds as many messages, or bytes, as it may; this one was not stored."""

    code = "queue.full"
    hint = "Try again later, raise `capacity=` of the service, or start more instances of it."
    transient = True
    queue: str = ""
    capacity: int = 0

    def __init__(self, queue: str = "", capacity: int = 0, unit: str = "messages") -> None:
        super().__init__(f"queue {queue!r} is at its capacity of {capacity:,} {unit}")
        self.queue = queue
        self.capacity = capacity


class NotServedError(NotStoredError):
    """Nobody serves this operation now; a volatile request is not kept for later."""

    code = "service.not_served"
    hint = "Start the service (`posthouse services` lists who is there), then ask again."
    transient = True


class UnknownServiceError(NotStoredError):
    """Nobody has announced a service, operation or event of this name here; nothing was stored."""

    code = "service.unknown"
    hint = "Is the name right, and was the service started once on this data directory? See `posthouse services`."
    status = 404


class QueueUnknownError(NotStoredError):
    """There is no queue by this name on the transport; nothing was stored."""

    code = "queue.unknown"
    hint = "`posthouse queues` lists the queues; a service makes its own when it is first started."
    status = 404


class DeniedError(NotStoredError):
    """The one who asks may not; nothing was stored."""

    code = "access.denied"
    status = 403


class ContractError(NotStoredError):
    """The two sides do not agree on the operation; nothing was stored."""

    code = "contract.mismatch"
    hint = "Bring the caller's contract up to the service's (`posthouse services NAME` shows it)."
    status = 422


class InvalidDataError(ContractError):
    """The data does not fit the type of the operation; the message says which field. It was not run."""

    code = "data.invalid"
    hint = "Send what the operation's schema asks for (`posthouse services NAME` shows it)."


class TooLargeError(NotStoredError):
    """The message is larger than it may be; it was not stored."""

    code = "message.too_large"
    hint = "Keep large data elsewhere and send a reference to it."
    status = 413


class UnavailableError(NotStoredError):
    """The store or the transport cannot be reached or written; this message was not stored."""

    code = "transport.unavailable"
    hint = "`posthouse doctor` looks at the engine and the data directory."
    transient = True


class DiskFullError(UnavailableError):
    """The disk, or the file's size limit, is full: this message was not stored, and none that was is lost."""

    code = "disk.full"
    hint = "Make room on the disk that holds the data directory; sending works again at once."
    status = 507


class UnsafeEngineError(UnavailableError):
    """The engine is of a version that is known to lose or corrupt data; it was not opened."""

    code = "engine.unsafe"
    transient = False


class NotDurableError(UnavailableError):
    """The engine keeps nothing, and this contract promises that a message is kept; it was not started."""

    code = "engine.not_durable"
    hint = 'Use a durable transport, declare `mode="volatile"`, or set `env = "test"` in a test.'
    transient = False


# --- the transport's own -----------------------------------------------------------------------------


class LeaseLostError(PosthouseError):
    """The lease on a delivery ran out, so it was not settled; another receiver may hold the message now."""

    code = "lease.lost"


class FrameError(PosthouseError):
    """The bytes are not a frame of ours; they were put aside as a dead letter."""

    code = "frame.unreadable"
    status = 400


class FrameVersionError(FrameError):
    """The frame is of a version that this posthouse cannot read; it stays in the queue for one that can."""

    code = "frame.version"
    hint = "A newer posthouse sent this message: upgrade the receiver."


# --- the store's own ---------------------------------------------------------------------------------


class SqlError(PosthouseError):
    """A statement of the handler's own was refused by the store; it changed nothing.

    Attributes:
        constraint: it would have broken a constraint (UNIQUE, NOT NULL, CHECK, FOREIGN KEY) of the user's table.
    """

    code = "store.sql"
    constraint: bool = False

    def __init__(self, message: str = "", *, constraint: bool = False, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.constraint = constraint


class StoreHeldError(PosthouseError):
    """A handler held the store's write slot for too long: what it wrote was rolled back, and it is run again."""

    code = "store.held"
    hint = "Open ctx.transaction() last, after calls and other slow work; what waits for the slot waits for you."


class GroupLostError(PosthouseError):
    """The commit that this handler shared with others failed: nothing of it was kept, and it is run again."""

    code = "store.group_lost"
    transient = True


class CallDivergedError(PosthouseError):
    """A handler that was run again asked otherwise than before, where an earlier call of it stands; it was parked."""

    code = "call.diverged"
    hint = (
        "A handler must ask the same, in the same order, on every run of one delivery: use ctx.id and ctx.sent"
        " instead of new ids and now(). After mending it, replay the request (`posthouse dead replay`)."
    )


class DeadlyError(PosthouseError):
    """So many instances of the service died while this request ran that it was parked, undecided."""

    code = "handler.deadly"
    hint = (
        "Look what it does to its process (memory, native code, os._exit, a loop that never awaits); after mending"
        " that, replay the request (`posthouse dead replay`), or give it up (`posthouse dead drop`)."
    )


class CallUnknownError(PosthouseError):
    """No request by this id is known in this store, so there is nothing to cancel or to wait for."""

    code = "call.unknown"
    status = 404


class IdReusedError(NotStoredError):
    """Another request was sent with this `id=` before; nothing was stored."""

    code = "id.reused"
    hint = "An id stands for one request with one content: give another id, or send what was sent before."
    status = 409


# --- the program or its configuration is wrong -------------------------------------------------------


class UsageError(PosthouseError):
    """Posthouse was used in a way that cannot work; nothing was done."""

    code = "usage"


class NotBuiltError(UsageError):
    """This version of posthouse does not have what was asked for; nothing was done."""

    code = "feature.not_built"
    hint = "See docs/ for what this version does; do not rely on this part yet."
    status = 501


class ConfigError(PosthouseError):
    """The configuration is wrong; nothing was started."""

    code = "config.invalid"


class DeclarationError(ConfigError, TypeError):
    """Something that the program declares cannot work: its text says where, and what to write instead."""

    code = "declaration.invalid"
    where: str = ""

    def __init__(self, message: str = "", *, do: str = "", where: str = "") -> None:
        super().__init__(f"{message} ({where}): {do}" if where else message)
        self.where = where


class IllegalNameError(ConfigError):
    """A name breaks the grammar of names, so no engine was given it."""

    code = "name.illegal"
    hint = "Names are made of letters, digits, '_' and '-', and begin with a letter; parts are joined by dots."


class ModeUnsupportedError(ConfigError):
    """The mode that the contract promises cannot be kept here; nothing was started."""

    code = "mode.unsupported"


class AddressInUseError(ConfigError):
    """Another program listens on this address; the gateway was not started."""

    code = "address.in_use"
    hint = "End the other program, or choose another port with `--bind 127.0.0.1:PORT`."


class StorageError(ConfigError):
    """The data directory or a file in it cannot be used as it is; nothing was started."""

    code = "storage.unusable"


class StoreForeignError(StorageError):
    """The instances of one service must share one store, and this one has another; it was not started."""

    code = "store.foreign"
    hint = (
        "Start it with the same data directory as the others. If theirs is gone for good, end them all and start"
        " one anew; `posthouse lanes map` then says what becomes of the requests that were under way."
    )


class StoreDamagedError(StorageError):
    """A row of the store is not as it was written, and is not used; a request like that is parked, undecided.

    Attributes:
        place: of the row.
    """

    code = "store.damaged"
    hint = (
        "The disk, or a program that wrote to the file, has changed it: `posthouse doctor` lists all such rows. Restore"
        " the store from a backup; or give the request up (`posthouse dead drop`), which its caller is told."
    )
    place: int = 0

    def __init__(self, message: str = "", place: int = 0) -> None:
        super().__init__(message)
        self.place = place


class ApplicationError(ConfigError):
    """The program named on the command line cannot be loaded; nothing was started."""

    code = "app.unloadable"
    hint = "Name it as FILE.py, FILE.py:SERVICE or package.module:SERVICE."


# --- the gateway's own: all of them are told to the HTTP client as problem details --------------------


class HttpError(PosthouseError):
    """The gateway refused the HTTP request; nothing was stored."""

    code = "http.refused"
    status = 400


class RouteUnknownError(HttpError):
    """No contract has a route for this path."""

    code = "route.unknown"
    hint = "`posthouse services` lists the routes; one appears when its service is first started."
    status = 404


class MethodNotAllowedError(HttpError):
    """The path has a route, but not for this HTTP method."""

    code = "method.not_allowed"
    status = 405
    allowed: str = ""

    def __init__(self, message: str = "", *, allowed: str = "") -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestUnknownError(HttpError):
    """No request has this id, or it was settled too long ago; what is not journaled only its own gateway knows."""

    code = "request.unknown"
    status = 404


class MalformedBodyError(HttpError):
    """The body is not JSON, or not the kind of JSON that it says it is."""

    code = "body.malformed"


class BodyTooLargeError(HttpError):
    """The body is larger than the gateway takes; it was not read to the end."""

    code = "body.too_large"
    status = 413


class BodyTooDeepError(HttpError):
    """The JSON of the body is nested deeper than the gateway takes."""

    code = "body.too_deep"


class BodyTimeoutError(HttpError):
    """The body did not arrive in time."""

    code = "body.timeout"
    status = 408


class AmbiguousBodyError(HttpError):
    """The HTTP request tells the length of its body in two ways, so nobody can say where it ends."""

    code = "body.ambiguous"


class HeadersTooLargeError(HttpError):
    """The headers are more, or larger, than the gateway takes."""

    code = "headers.too_large"
    status = 431


class MediaTypeError(HttpError):
    """The body is not of a content type that the operation takes."""

    code = "media_type.unsupported"
    hint = "Send `Content-Type: application/json`."
    status = 415


class SignatureError(HttpError):
    """The signature of the webhook is missing or wrong; nothing was stored."""

    code = "signature.invalid"
    hint = "Is the secret the same on both sides? See [routes] in posthouse.toml."
    status = 401


class HostRefusedError(HttpError):
    """The Host or Origin header names a site that this gateway does not serve."""

    code = "host.refused"
    hint = "In dev the gateway answers to its own address only; set `env` and `hosts` in posthouse.toml for others."
    status = 403


class IdempotencyConflictError(HttpError):
    """The idempotency key was used before, with another body."""

    code = "idempotency.conflict"
    status = 422


class IdempotencyRunningError(HttpError):
    """A request with this idempotency key is still running."""

    code = "idempotency.running"
    status = 409


class GatewayError(HttpError):
    """The gateway itself failed at this HTTP request; whether something was stored is not known."""

    code = "gateway.error"
    hint = "The gateway's log has the cause, under the id of this problem."
    status = 500


# --- on the wire -------------------------------------------------------------------------------------


def every_error(root: type[PosthouseError] = PosthouseError) -> Iterator[type[PosthouseError]]:
    """Yield our error classes, parents first; classes that a user derived are left out."""
    if root.__module__ == __name__:
        yield root
        for child in root.__subclasses__():
            yield from every_error(child)


_BY_CODE: Final[Mapping[str, type[PosthouseError]]] = {leaf.code: leaf for leaf in every_error()}


def told(
    code: str,
    message: str,
    *,
    status: int = 0,
    details: Mapping[str, Any] | None = None,
    hint: str = "",
    message_id: str | None = None,
    rejects: tuple[type[Reject], ...] = (),
) -> PosthouseError:
    """Return the error that another service told us of, as the class that it was there.

    Args:
        code: the code that travelled.
        message: its text.
        status: the HTTP status that it asks for; 0 for that of its class.
        details: the values of a Reject.
        hint: what to do; that of its class when empty.
        message_id: the request that it answers.
        rejects: the classes that the contract lists; the first with this code wins over all others.
    """
    declared = next((kind for kind in rejects if kind.code == code), None)
    kind = declared or _BY_CODE.get(code, Reject)
    error = kind.__new__(kind)  # not through its constructor, whose arguments stayed behind
    Exception.__init__(error, message)
    if isinstance(error, Reject):
        error.code = code
        error.details = dict(details or {})
    if isinstance(error, PendingError):
        error.id = message_id or ""
    if status:
        error.status = status
    if hint:
        error.hint = hint
    error.message_id = message_id
    return error
