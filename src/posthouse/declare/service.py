"""A service as a program declares it: its name, its handlers, its events, its subscriptions.

It holds declarations and nothing else: no connection, no loop, no configuration. A host takes it and
runs it, and two hosts may. What is wrong with a declaration is said at import, where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from posthouse.declare.entry import gap_handler_of, handler_of, reply_handler_of, short_of, subscription_of
from posthouse.declare.operation import DEFAULT_EVENT_MODE, Event, Mode, Operation
from posthouse.declare.options import count
from posthouse.declare.wrong import wrong
from posthouse.errors import NotBuiltError, Reject
from posthouse.message.message import Mode as Promise
from posthouse.message.names import check_part, service_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from typing import Unpack

    from typing_extensions import TypeForm

    from posthouse.clock import Duration
    from posthouse.declare import shapes
    from posthouse.declare.marks import AwaitedContext, BlockingContext
    from posthouse.declare.target import GapHandler, Handler, ReplyHandler, Subscription, Target
    from posthouse.declare.values import Gap, Reply

    _Ctx = TypeVar("_Ctx", bound=AwaitedContext)
    _SyncCtx = TypeVar("_SyncCtx", bound=BlockingContext)

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")


class Service:
    """A named part of the system, as its program declares it.

    Args:
        name: one part: letters, digits, '_' and '-', beginning with a letter.
        capacity: most messages in each of its queues; 1 or more.
        overflow: what a full queue does: refuse the message, hold the sender back, or drop its oldest message.
        concurrency: how many of its handlers run at once in one instance; 1 or more.
        lifespan: an async context manager around its handlers, in the loop that runs them.
        schema: SQL scripts for the built-in store, each of which is run once, in order: add, never change.

    Attributes:
        operations: what runs for requests, by the short name.
        subscriptions: what runs for events, by the short name.
        events: what it publishes, by the short name.
        reply_handlers: what runs for the outcomes of requests that it sent, by the operation's full name.
        ack_handlers: what runs when callers have applied its replies, by the operation's full name.
        gap_handlers: what runs when events are lost to its subscriptions, by the event's full name.

    Raises:
        IllegalNameError: the name breaks the grammar.
        DeclarationError: an argument is out of its bounds.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int = 100_000,
        overflow: Literal["reject", "wait", "drop-oldest"] = "reject",
        concurrency: int = 64,
        lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None,
        schema: Sequence[str] = (),
    ) -> None:
        self.name = check_part(name, "service")
        of = f"service {name!r}"
        self.capacity = count(capacity, "capacity", of)
        if overflow not in {"reject", "wait", "drop-oldest"}:
            raise wrong(f"overflow= of {of} is {overflow!r}", "write 'reject', 'wait' or 'drop-oldest'")
        self.overflow: Literal["reject", "wait", "drop-oldest"] = overflow
        self.concurrency = count(concurrency, "concurrency", of)
        if lifespan is not None and not callable(lifespan):
            raise wrong(f"lifespan= of {of} is {lifespan!r}", "give it an @asynccontextmanager function")
        self.lifespan = lifespan
        self.schema = _scripts(schema, of)
        self.operations: dict[str, Handler] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.events: dict[str, Event[Any]] = {}
        self.reply_handlers: dict[str, ReplyHandler] = {}
        self.ack_handlers: dict[str, ReplyHandler] = {}
        self.gap_handlers: dict[str, GapHandler] = {}

    def __repr__(self) -> str:
        return f"Service({self.name!r})"

    @overload
    def handler(
        self, contract: Operation[_Req, _Rep], /, **how: Unpack[shapes.OfOperation]
    ) -> shapes.Implements[_Req, _Rep]: ...
    @overload
    def handler(
        self, *, batch: int, linger: Duration = "50ms", **how: Unpack[shapes.OfContract]
    ) -> shapes.DeclaresBatch: ...
    @overload
    def handler(self, **how: Unpack[shapes.OfContract]) -> shapes.Declares: ...
    @overload
    def handler(self, f: Callable[[_Req], Awaitable[_Rep | Reject]], /) -> Operation[_Req, _Rep]: ...
    @overload
    def handler(self, f: Callable[[_Req, _Ctx], Awaitable[_Rep | Reject]], /) -> Operation[_Req, _Rep]: ...
    # Wrong: import refuses it, and this keeps a checker from taking the coroutine for the reply.
    @overload
    def handler(
        self, f: Callable[[_Req, _SyncCtx], Coroutine[Any, Any, Any]], /
    ) -> shapes.AsyncHandlerTakesContext: ...
    @overload
    def handler(self, f: Callable[[_Req], _Rep | Reject], /) -> Operation[_Req, _Rep]: ...
    @overload
    def handler(  # pyright: ignore[reportOverlappingOverload] - on purpose, see above
        self, f: Callable[[_Req, _SyncCtx], _Rep | Reject], /
    ) -> Operation[_Req, _Rep]: ...
    def handler(self, *given: Any, **how: Any) -> Any:
        """Make an operation of a function: bare, with options, or as the handler of a shared contract.

        The options are those of `shapes.OfContract`; with a contract, those of `shapes.OfOperation`; and

            batch: the function takes a list of at most so many; 1 or more.
            linger: how long a batch waits to fill.

        Raises:
            DeclarationError: the function has no annotations, or not of the right kind; the name is taken;
                an option cannot be read.
            IllegalNameError: the name breaks the grammar.
            NotBuiltError: an option is not in this version.
        """
        if len(given) > 1:
            raise wrong(f"{self.name}.handler() was given {len(given)} things", "give it one contract, or none")
        function: Any = next(iter(given), None)
        contract: Operation[Any, Any] | None = None
        if isinstance(function, Operation):
            contract, function = cast("Operation[Any, Any]", function), None
            self._own(contract.name, "operation")

        def enter(function: Callable[..., Any]) -> Operation[Any, Any]:
            handler = handler_of(self.name, function, how, contract, taken=self._targets())
            self.operations[short_of(handler.name)] = handler
            return handler.operation

        return enter if function is None else enter(function)

    @overload
    def event(
        self,
        name: str,
        data: TypeForm[_T],
        /,
        *,
        mode: Mode = DEFAULT_EVENT_MODE,
        key: str | None = None,
        retain: Duration = "7d",
    ) -> Event[_T]: ...
    @overload
    def event(self, contract: Event[_T], /) -> Event[_T]: ...
    def event(self, given: str | Event[Any], data: Any = None, /, **how: Any) -> Event[Any]:
        """Declare an event that this service publishes, by its short name, or as a shared contract.

        Raises:
            DeclarationError: the contract is another service's; there is one of this name; or see Event.
        """
        if isinstance(given, Event):
            self._own(given.name, "event")
            event = given
        else:
            event = Event[Any](f"{self.name}.{given}", data, **how)
        short = short_of(event.name)
        if short in self.events:
            raise wrong(f"service {self.name!r} has two events named {short!r}", "give one of them another name")
        self.events[short] = event
        return event

    @overload
    def on(
        self, event: Event[_T], /, *, batch: int, linger: Duration = "50ms", **how: Unpack[shapes.OfSubscription]
    ) -> shapes.Hears[list[_T]]: ...
    @overload
    def on(self, event: Event[_T], /, **how: Unpack[shapes.OfSubscription]) -> shapes.Hears[_T]: ...
    def on(self, event: Event[Any], /, **how: Any) -> Any:
        """Make a lasting subscription of a function, which is given back unchanged.

        The options are those of `shapes.OfSubscription`, and `batch` and `linger` as for `handler`.

        Raises:
            DeclarationError: as for `handler`; or `event` is no Event, or start="first" and it is not kept.
        """
        if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"{self.name}.on() was given {event!r}", "give it an Event, as in @audit.on(quoted)")

        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            subscription = subscription_of(self.name, function, how, event, taken=self._targets())
            self.subscriptions[short_of(subscription.name)] = subscription
            return function

        return enter

    def on_gap(self, event: Event[Any], /, **how: Unpack[shapes.Run]) -> shapes.Hears[Gap]:
        """Say what runs when events can never be had any more; gives the function back unchanged.

        It is given a Gap, once for each run of numbers that a subscription of this service has not had: their
        retention ended before, or their publisher's store was put back from a backup that does not hold them.
        Without such a function a gap is a dead letter. The options are those of `shapes.Run`.

        Raises:
            DeclarationError: as for `handler`; or the event is not journaled, so nobody can tell what is missing.
            IllegalNameError: service and event have too long a name together.
        """
        if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"{self.name}.on_gap() was given {event!r}", "give it an Event, as in @audit.on_gap(quoted)")
        if event.promise is not Promise.JOURNALED:
            raise wrong(
                f"{self.name}.on_gap({event.name!r}): the event has mode={event.mode!r}, and only journaled ones have"
                " numbers",
                "declare it with mode='journaled', or leave on_gap out",
            )

        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            self.gap_handlers[event.name] = gap_handler_of(self.name, function, how, event, taken=self._targets())
            return function

        return cast("Any", enter)

    def on_reply(self, op: Operation[_Req, _Rep], /, **how: Unpack[shapes.Run]) -> shapes.Hears[Reply[_Req, _Rep]]:
        """Say what runs when the outcome of an earlier `send` is there; gives the function back unchanged.

        It is given a Reply, good or bad, and takes effect once for each request. Returning commits what it
        did, and then the other service is told that its reply was applied. The options are those of `shapes.Run`.

        Raises:
            DeclarationError: as for `handler`; or the operation is not journaled, so no reply is kept.
            IllegalNameError: service and operation have too long a name together.
        """
        return self._on("reply", op, how, self.reply_handlers)

    def on_ack(self, op: Operation[_Req, _Rep], /, **how: Unpack[shapes.Run]) -> shapes.Hears[Reply[_Req, _Rep]]:
        """Say what runs when a caller has applied our reply; gives the function back unchanged.

        It is given a Reply: what was asked, and what was answered; it takes effect once for each request.
        The options are those of `shapes.Run`. That the operation has a handler here is checked at start.

        Raises:
            DeclarationError: as for `on_reply`; or the operation is another service's.
            IllegalNameError: service and operation have too long a name together.
        """
        return self._on("ack", op, how, self.ack_handlers)

    def schedule(
        self, when: str, /, *, tz: str = "UTC", **how: Unpack[shapes.Run]
    ) -> shapes.Implements[datetime, None]:
        """Say what runs at certain times; not in this version."""
        raise NotBuiltError(f"schedule({when!r}): this version has no schedules")

    def _on(
        self, what: Literal["reply", "ack"], op: Operation[Any, Any], how: Any, into: dict[str, ReplyHandler]
    ) -> Any:
        verb = f"{self.name}.on_{what}"
        if not isinstance(op, Operation):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"{verb}() was given {op!r}", f"give it an Operation, as in @shop.on_{what}(charge)")
        if op.promise is not Promise.JOURNALED:
            raise wrong(
                f"{verb}({op.name!r}): the operation has mode={op.mode!r}, and only journaled delivery keeps replies",
                f"declare it with mode='journaled', or leave on_{what} out",
            )
        if what == "ack" and service_of(op.name) != self.name:
            raise wrong(
                f"{verb}({op.name!r}): an ack goes to the service that answered, {service_of(op.name)!r}",
                f"take it up in Service({service_of(op.name)!r}), or hear of the outcome with on_reply",
            )

        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            into[op.name] = reply_handler_of(self.name, function, how, op, what=what, taken=self._targets())
            return function

        return enter

    def _targets(self) -> list[Target]:
        return [
            *self.operations.values(),
            *self.subscriptions.values(),
            *self.reply_handlers.values(),
            *self.ack_handlers.values(),
            *self.gap_handlers.values(),
        ]

    def _own(self, name: str, what: str) -> None:
        if service_of(name) != self.name:
            raise wrong(
                f"{what} {name!r} belongs to service {service_of(name)!r}, not to {self.name!r}",
                f"take it up in Service({service_of(name)!r}), or name the contract '{self.name}.{short_of(name)}'",
            )


def _scripts(schema: Any, of: str) -> tuple[str, ...]:
    if isinstance(schema, str | bytes) or not isinstance(schema, Sequence):
        raise wrong(f"schema= of {of} is {schema!r}", 'give a list of SQL scripts, as in schema=["CREATE TABLE ..."]')
    scripts = tuple(cast("Sequence[Any]", schema))
    for script in scripts:
        if not isinstance(script, str) or not script.strip():
            raise wrong(f"schema= of {of} holds {script!r}", "list SQL scripts, none of them empty")
    return scripts
