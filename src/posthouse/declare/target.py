"""What is run for a message: a handler, a subscription, or what hears of a request's outcome or of its ack.

All are Targets, and run alike. They are what a Service has collected, for the runtime to read; a
program's author never makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from posthouse.clock import Seconds
from posthouse.declare.operation import Event, Operation

ContextKind: TypeAlias = Literal["none", "async", "sync"]
"""Whether the function takes a second argument: no; a Context; a SyncContext."""


class RunOptions(Struct, frozen=True):
    """How a target runs, as far as the program says so; None where it does not.

    Attributes:
        timeout: for one attempt; above 0.
        attempts: how often it is tried; 1 or more.
        backoff: the wait after the first failure, and the longest one.
        exhausted: what the last failure means: undecided (park) or decided (fail).
        concurrency: how many of it run at once in an instance; 1 or more.
    """

    timeout: Seconds | None = None
    attempts: int | None = None
    backoff: tuple[Seconds, Seconds] | None = None
    exhausted: Literal["park", "fail"] | None = None
    concurrency: int | None = None


class Target(Struct, frozen=True, kw_only=True, eq=False):
    """A function, and how to run it.

    Attributes:
        name: in full: "prices.quote", "audit.note"; also the address of its queue.
        function: as the user wrote it; given the data, and a context where `context` says so.
        is_async: whether its result is awaited; otherwise it runs in a thread.
        context: which second argument it takes.
        batch: it takes lists of at most so many; 0 for one at a time.
        linger: how long a batch waits to fill.
        run: how it runs.
        place: "app.py:12", where it is written.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    context: ContextKind
    batch: int = 0
    linger: Seconds = 0.0
    run: RunOptions = RunOptions()
    place: str = ""


class Handler(Target, frozen=True, kw_only=True, eq=False):
    """What runs for a request.

    Attributes:
        operation: the contract, whose `function` is this one.
        http: its route, "POST /orders/{id}"; empty for none.
        status: of a good HTTP answer; 0 for 200, or 204 without data.
        rate: most requests in a time, "100/s"; empty for no limit. See `options.rate_of`.
    """

    operation: Operation[Any, Any]
    http: str = ""
    status: int = 0
    rate: str = ""


class Subscription(Target, frozen=True, kw_only=True, eq=False):
    """What runs for an event.

    Attributes:
        event: the contract.
        start: where a new subscription begins: with what is published from now on, or with the first kept.
    """

    event: Event[Any]
    start: Literal["new", "first"] = "new"


class ReplyHandler(Target, frozen=True, kw_only=True, eq=False):
    """What runs when the outcome of a request is there, or when a caller has applied ours; it is given a Reply.

    Attributes:
        operation: the contract, by whose types the Reply is read.
        what: the outcome of a request that this service sent (reply), or of one that it answered (ack).
    """

    operation: Operation[Any, Any]
    what: Literal["reply", "ack"]


class GapHandler(Target, frozen=True, kw_only=True, eq=False):
    """What runs when events can never be had any more; it is given a Gap.

    Attributes:
        event: the contract.
    """

    event: Event[Any]
