"""What a type checker is told of Service's decorators; nothing here runs.

Overloads are tried in order, and the order matters: `async def` before plain `def`, else a reply is
taken to be a coroutine; the usual shape last where the types are known, since checkers explain the
last one that fails. A context is told by its base (see marks.py), as the contexts stand a floor above.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar, overload

from posthouse.declare.marks import AwaitedContext, BlockingContext

if TYPE_CHECKING:
    from posthouse.clock import Duration
    from posthouse.declare.operation import Mode, Operation
    from posthouse.errors import Reject

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")
_Ctx = TypeVar("_Ctx", bound=AwaitedContext)
_SyncCtx = TypeVar("_SyncCtx", bound=BlockingContext)


class Run(TypedDict, total=False):
    """How a handler or a subscription runs; posthouse.toml beats each of them.

    Attributes:
        timeout: for one attempt.
        attempts: how often it is tried; 1 or more.
        backoff: the wait after the first failure and the longest one, "1s..5m", with full jitter.
        exhausted: after the last attempt: undecided, for an operator (park), or decided, and the caller told (fail).
        concurrency: how many run at once in one instance.
    """

    timeout: Duration
    attempts: int
    backoff: str
    exhausted: Literal["park", "fail"]
    concurrency: int


class OfOperation(Run, total=False):
    """What a handler may say, a shared contract or not.

    Attributes:
        name: of the operation; the function's name without it.
        http: its route, "POST /orders/{id}".
        status: of a good HTTP answer, 200 to 299; 200 without it, or 204 without data.
        rate: most requests in a time, "100/s".
    """

    name: str
    http: str
    status: int
    rate: str


class OfContract(OfOperation, total=False):
    """What a handler may say when it declares the contract too.

    Attributes:
        mode: what a delivery promises; GET routes are volatile without it.
        key: the request's field that is the ordering key; for journaled delivery only.
        rejects: the Reject classes that callers catch as such.
    """

    mode: Mode
    key: str
    rejects: tuple[type[Reject], ...]


class OfSubscription(Run, total=False):
    """What a subscription may say.

    Attributes:
        name: its lasting name; the function's name without it.
        start: where a new subscription begins.
    """

    name: str
    start: Literal["new", "first"]


class AsyncHandlerTakesContext:
    """What an `async def` handler with a SyncContext comes to: nothing that can be called. Import refuses it."""


class Declares(Protocol):
    """Makes an operation of a function."""

    @overload
    def __call__(self, f: Callable[[_Req], Awaitable[_Rep | Reject]], /) -> Operation[_Req, _Rep]: ...
    @overload
    def __call__(self, f: Callable[[_Req, _Ctx], Awaitable[_Rep | Reject]], /) -> Operation[_Req, _Rep]: ...
    @overload
    def __call__(self, f: Callable[[_Req, _SyncCtx], Coroutine[Any, Any, Any]], /) -> AsyncHandlerTakesContext: ...
    @overload
    def __call__(self, f: Callable[[_Req], _Rep | Reject], /) -> Operation[_Req, _Rep]: ...
    @overload
    def __call__(self, f: Callable[[_Req, _SyncCtx], _Rep | Reject], /) -> Operation[_Req, _Rep]: ...


class DeclaresBatch(Protocol):
    """Makes an operation of a function that takes a list."""

    @overload
    def __call__(self, f: Callable[[list[_Req]], Awaitable[None]], /) -> Operation[_Req, None]: ...
    @overload
    def __call__(self, f: Callable[[list[_Req], _Ctx], Awaitable[None]], /) -> Operation[_Req, None]: ...
    @overload
    def __call__(self, f: Callable[[list[_Req]], None], /) -> Operation[_Req, None]: ...
    @overload
    def __call__(self, f: Callable[[list[_Req], _SyncCtx], None], /) -> Operation[_Req, None]: ...


class Implements(Protocol[_Req, _Rep]):
    """Takes a function as the handler of a contract."""

    @overload
    def __call__(self, f: Callable[[_Req], _Rep | Reject], /) -> Operation[_Req, _Rep]: ...
    @overload
    def __call__(self, f: Callable[[_Req, _SyncCtx], _Rep | Reject], /) -> Operation[_Req, _Rep]: ...
    @overload
    def __call__(self, f: Callable[[_Req], Awaitable[_Rep | Reject]], /) -> Operation[_Req, _Rep]: ...
    @overload
    def __call__(self, f: Callable[[_Req, _Ctx], Awaitable[_Rep | Reject]], /) -> Operation[_Req, _Rep]: ...


class Hears(Protocol[_T]):
    """Takes a function as a subscription, and gives it back unchanged."""

    @overload
    def __call__(self, f: Callable[[_T], None], /) -> Callable[[_T], None]: ...
    @overload
    def __call__(self, f: Callable[[_T, _SyncCtx], None], /) -> Callable[[_T, _SyncCtx], None]: ...
    @overload
    def __call__(
        self, f: Callable[[_T], Coroutine[Any, Any, None]], /
    ) -> Callable[[_T], Coroutine[Any, Any, None]]: ...
    @overload
    def __call__(
        self, f: Callable[[_T, _Ctx], Coroutine[Any, Any, None]], /
    ) -> Callable[[_T, _Ctx], Coroutine[Any, Any, None]]: ...
