"""What a handler is given, and what it records.

A Context belongs to one attempt of one delivery. `call` asks and waits; what `send` and `publish`
record leaves when the handler ends well, and is forgotten when it raises. The work itself is done
by the Door that the receiver puts behind it; here is only the face, which imports nothing heavy,
because a program's annotations name it at import.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from posthouse.declare.marks import AwaitedContext, BlockingContext
from posthouse.errors import NotBuiltError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import Literal, TypeAlias

    from posthouse.clock import Duration, Instant
    from posthouse.declare.operation import Event, Operation
    from posthouse.declare.values import Principal

    Priority: TypeAlias = Literal["high", "normal", "low"]

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")


class Door(Protocol):
    """What does the work behind a Context; the receiver has one for each attempt."""

    async def call(
        self, op: Operation[Any, Any], data: Any, /, *, timeout: Duration | None, deadline: Duration | datetime | None
    ) -> Any:
        """Ask, and wait for the reply without holding a slot."""
        ...

    def send(self, op: Operation[Any, Any], data: Any, /, *, deadline: Duration | datetime | None) -> str:
        """Record a request, to leave when the handler ends well."""
        ...

    def publish(self, event: Event[Any], data: Any, /) -> None:
        """Record an event, to leave when the handler ends well."""
        ...

    async def cancel(self, id: str, /) -> None:
        """Ask that a request that was sent earlier is not done."""
        ...

    async def transaction(self, kind: type[Any] | None, /) -> Any:
        """Open the transaction that commits when the handler returns."""
        ...

    def reading(self, kind: type[Any] | None, /) -> AbstractAsyncContextManager[Any]:
        """Read the store."""
        ...

    def run_in_loop(self, coroutine: Any) -> Any:
        """From a handler's thread: run a coroutine in the loop, and return its result."""
        ...


class _Delivered:
    """What both contexts know of the delivery."""

    __slots__ = ("_deadline", "_door", "_sent", "attempt", "caller", "id", "principal")

    id: str
    """Of the request or event; the same on every attempt: pass it on as idempotency key."""
    attempt: int
    """1, 2, ..."""
    caller: str
    """The service that sent it."""
    principal: Principal | None
    """The person or program behind the first HTTP request; None without authentication."""

    def __init__(self, door: Door, *, id: str, attempt: int, caller: str, sent: Instant, deadline: Instant) -> None:
        self._door = door
        self.id = id
        self.attempt = attempt
        self.caller = caller
        self.principal = None
        self._sent = sent
        self._deadline = deadline

    @property
    def sent(self) -> datetime:
        """When it was sent; the same on every attempt: use it instead of now()."""
        return datetime.fromtimestamp(self._sent, UTC)

    @property
    def deadline(self) -> datetime | None:
        """The instant after which its sender no longer cares; calls made here inherit it."""
        return datetime.fromtimestamp(self._deadline, UTC) if self._deadline else None


class Context(_Delivered, AwaitedContext):
    """Inside an `async def` handler. What it records (send, publish) leaves when the handler ends well."""

    __slots__ = ()

    async def call(
        self,
        op: Operation[_Req, _Rep],
        data: _Req,
        /,
        *,
        timeout: Duration | None = None,
        deadline: Duration | datetime | None = None,
        priority: Priority = "normal",
    ) -> _Rep:
        """Ask a service and return its reply; the handler holds no slot while it waits.

        Args:
            op: what to ask.
            data: of the operation's request type.
            timeout: how long to wait here; None waits until the deadline, or for 30 s without one.
            deadline: after which it need not be done; never later than this delivery's own, which it inherits.
            priority: only "normal" in this version.

        Raises:
            Reject: the handler's own no, as the class that the contract lists.
            NotDoneError: it is decided that it is not done (FailedError, ExpiredError).
            NotStoredError: nothing was stored: nobody serves it, queue full, contract or transport at fault.
            OutcomeUnknownError: `timeout` ran out; it may yet be done.
        """
        if priority != "normal":
            raise _no_priorities()
        return await self._door.call(op, data, timeout=timeout, deadline=deadline)

    async def send(
        self,
        op: Operation[_Req, Any],
        data: _Req,
        /,
        *,
        deadline: Duration | datetime | None = None,
        delay: Duration = 0,
        at: datetime | None = None,
        priority: Priority = "normal",
    ) -> str:
        """Record a request that nobody waits for, and return its id; it leaves when the handler ends well.

        Args:
            op: what to ask.
            data: of the operation's request type.
            deadline: after which it need not be done.
            delay: only 0 in this version.
            at: only None in this version.
            priority: only "normal" in this version.
        """
        if priority != "normal":
            raise _no_priorities()
        if delay or at is not None:
            raise _no_delays()
        return self._door.send(op, data, deadline=deadline)

    async def publish(self, event: Event[_T], data: _T, /) -> None:
        """Record an event of this service; it leaves when the handler ends well.

        Raises:
            UsageError: the event belongs to another service.
        """
        self._door.publish(event, data)

    async def cancel(self, id: str, /) -> None:
        """Ask that a request that this service sent earlier is not done; see Client.cancel.

        What this handler has sent itself is simply not sent.

        Raises:
            CallUnknownError: this service has sent no such request.
            UsageError: the handler is not journaled.
        """
        await self._door.cancel(id)

    @overload
    async def transaction(self, /) -> Transaction: ...
    @overload
    async def transaction(self, kind: type[_T], /) -> _T: ...
    async def transaction(self, kind: type[Any] | None = None, /) -> Any:
        """Open the transaction that commits when the handler returns, together with the reply and all that it sends.

        It is opened once, last, and never closed by hand: an error that leaves the handler rolls it back. It holds
        the store's one write slot, so `call` is refused from then on, and who holds it for more than a second is
        rolled back and tried again.

        Args:
            kind: of a session of the user's own; only None in this version.

        Raises:
            UsageError: the handler is not journaled.
            UnavailableError: the store cannot be used.
        """
        return await self._door.transaction(kind)

    @overload
    def reading(self, /) -> AbstractAsyncContextManager[Transaction]: ...
    @overload
    def reading(self, kind: type[_T], /) -> AbstractAsyncContextManager[_T]: ...
    def reading(self, kind: type[Any] | None = None, /) -> AbstractAsyncContextManager[Any]:
        """Read the service's own tables as they are at one moment; it holds nothing, so calls may follow.

        Raises:
            UsageError: the handler is not journaled.
        """
        return self._door.reading(kind)


class SyncContext(_Delivered, BlockingContext):
    """Inside a plain `def` handler, which runs in a thread: the same verbs, and they block."""

    __slots__ = ()

    def call(
        self,
        op: Operation[_Req, _Rep],
        data: _Req,
        /,
        *,
        timeout: Duration | None = None,
        deadline: Duration | datetime | None = None,
        priority: Priority = "normal",
    ) -> _Rep:
        """Ask a service and return its reply; see Context.call."""
        if priority != "normal":
            raise _no_priorities()
        return self._door.run_in_loop(self._door.call(op, data, timeout=timeout, deadline=deadline))

    def send(
        self,
        op: Operation[_Req, Any],
        data: _Req,
        /,
        *,
        deadline: Duration | datetime | None = None,
        delay: Duration = 0,
        at: datetime | None = None,
        priority: Priority = "normal",
    ) -> str:
        """Record a request that nobody waits for, and return its id; see Context.send."""
        if priority != "normal":
            raise _no_priorities()
        if delay or at is not None:
            raise _no_delays()
        return self._door.send(op, data, deadline=deadline)

    def publish(self, event: Event[_T], data: _T, /) -> None:
        """Record an event of this service; see Context.publish."""
        self._door.publish(event, data)

    def cancel(self, id: str, /) -> None:
        """Ask that a request that this service sent earlier is not done; see Context.cancel."""
        self._door.run_in_loop(self._door.cancel(id))

    @overload
    def transaction(self, /) -> SyncTransaction: ...
    @overload
    def transaction(self, kind: type[_T], /) -> _T: ...
    def transaction(self, kind: type[Any] | None = None, /) -> Any:
        """Open the transaction that commits when the handler returns; see Context.transaction."""
        rows = self._door.run_in_loop(self._door.transaction(kind))
        return BlockingRows(self._door, rows)

    @overload
    def reading(self, /) -> AbstractContextManager[SyncTransaction]: ...
    @overload
    def reading(self, kind: type[_T], /) -> AbstractContextManager[_T]: ...
    def reading(self, kind: type[Any] | None = None, /) -> AbstractContextManager[Any]:
        """Read the service's own tables as they are at one moment; see Context.reading."""
        return blocking_reading(self._door, self._door.reading(kind))


class BlockingRows:
    """The tables of a store, for code in a thread."""

    __slots__ = ("_door", "_rows")

    def __init__(self, door: Door, rows: Transaction) -> None:
        self._door = door
        self._rows = rows

    def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        return self._door.run_in_loop(self._rows.execute(sql, values))

    def executemany(self, sql: str, values: list[Mapping[str, Any]] | list[tuple[Any, ...]]) -> None:
        """Run one statement for each set of values."""
        self._door.run_in_loop(self._rows.executemany(sql, values))


@contextmanager
def blocking_reading(door: Door, reading: AbstractAsyncContextManager[Transaction]) -> Generator[BlockingRows]:
    """Enter and leave a reading from a handler's thread."""
    rows = door.run_in_loop(reading.__aenter__())
    try:
        yield BlockingRows(door, rows)
    finally:
        door.run_in_loop(reading.__aexit__(None, None, None))


class Transaction(Protocol):
    """SQL on the service's own tables in the built-in store; ours in it, posthouse_..., are closed."""

    async def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        ...

    async def executemany(self, sql: str, values: list[Mapping[str, Any]] | list[tuple[Any, ...]]) -> None:
        """Run one statement for each set of values."""
        ...


class SyncTransaction(Protocol):
    """The same for a plain `def` handler."""

    def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        ...

    def executemany(self, sql: str, values: list[Mapping[str, Any]] | list[tuple[Any, ...]]) -> None:
        """Run one statement for each set of values."""
        ...


def _no_priorities() -> NotBuiltError:
    return NotBuiltError("this version has no priorities; leave `priority` out")


def _no_delays() -> NotBuiltError:
    return NotBuiltError("this version cannot send later; leave `delay` and `at` out")
