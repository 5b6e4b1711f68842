"""What a service's own database promises, so that a delivery takes effect exactly once.

A store belongs to one service, and all instances of that service share it. What a handler does is
one transaction: the row that says "this message took effect", the user's own rows, and the messages
that it sends are there together or not at all. Nothing leaves a process before the transaction that
says so has committed.

- `Books` is what can be read and written within a transaction. It keeps and finds, and decides
  nothing: states, numbers and floors are rules, and stand in `posthouse.protocol`; the steps that
  put both together stand in `posthouse.runtime.journal`.
- `Store.commit` runs a step in a transaction. Steps of one turn of the loop share one, and one flush.
- `Tail` is the transaction of a handler that asked for one: it is open until the handler has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from posthouse.clock import Instant
from posthouse.contracts.streams import StreamBooks
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import Numbers
from posthouse.protocol.outbox import Call, CallState, Wants

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from posthouse.protocol.inbox import Known, Request

T = TypeVar("T")


class LaneOut(msgspec.Struct, gc=False):
    """The caller's side of a lane.

    Attributes:
        lane: its number in this store, 1 or more.
        service: who is asked.
        epoch: ours, in which it was opened.
        peer: the replier's store and epoch, as far as they are known.
        next: the number that comes next.
        final: which numbers are final.
        pending: numbered, and neither answered nor known to be parked; what the window limits.
        waiting: calls towards this service that have no number yet.
        acked: the floor that the replier was last known to have.
        closed: nothing will be numbered in it any more.
    """

    lane: int
    service: str
    epoch: int
    peer: Identity = Identity()
    next: int = 0
    final: Numbers = msgspec.field(default_factory=Numbers)
    pending: int = 0
    waiting: int = 0
    acked: int = 0
    closed: bool = False


class LaneIn(msgspec.Struct, gc=False):
    """The replier's side of a lane.

    Attributes:
        lane: its number in this store; 0 is the lane of the store to itself.
        caller: the caller's store and epoch.
        service: the caller's name, for people.
        next: one above the highest number that was ever received; in lane 0 the number that comes next, first 1:
            the place of its number 0 would stand for no delivery.
        over: which numbers were acked, and are forgotten.
        closed: its caller has closed it: nothing is taken from it any more.
    """

    lane: int
    caller: Identity
    service: str = ""
    next: int = 0
    over: Numbers = msgspec.field(default_factory=Numbers)
    closed: bool = False


class Standing(msgspec.Struct, array_like=True, gc=False):
    """As much of a stored call as it takes to say what a reply means to it."""

    place: int
    state: CallState
    wants: Wants
    work: int
    parked: bool
    outcome_epoch: int = 0


class Deceased(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A dead letter of a store: a request that was given up, with the reason.

    Attributes:
        number: its handle, rising.
        place: of the request.
        id: of the request.
        operation: what was asked.
        frame: as it came.
        state: parked (undecided, an operator may replay it) or failed (decided, the caller was told).
        code: of the error that ended it.
        reason: its text, one line.
        detail: the traceback.
        attempts: how often it was run.
        cause: a fingerprint of the cause: letters with the same one are one group.
        at: when.
    """

    place: int
    id: str
    operation: str
    frame: bytes
    state: Literal["parked", "failed"]
    code: str
    reason: str
    detail: str
    attempts: int
    cause: str
    at: Instant
    number: int = 0


class Member(msgspec.Struct, frozen=True, gc=False):
    """An instance that has the store open.

    Attributes:
        instance: its id: what rows name as their owner.
        until: the end of its lease, unless it is renewed.
    """

    instance: str
    until: Instant


class Key(msgspec.Struct, frozen=True, gc=False):
    """An idempotency key, and what it stands for.

    Attributes:
        scope: where it is unique: an operation at the gateway, "deposit" for adopted ones.
        key: the key.
        digest: of what was asked under it.
        reference: the id of the call, or the place of the request.
        until: when it may be forgotten.
    """

    scope: str
    key: str
    digest: bytes
    reference: str
    until: Instant


class Life(msgspec.Struct, frozen=True, gc=False):
    """One life of a store.

    Attributes:
        epoch: its number.
        reason: why it began, in one word.
        at: when.
    """

    epoch: int
    reason: str
    at: Instant


class CallTally(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many calls towards a service are in one state.

    Attributes:
        service: who is asked.
        state: of the calls.
        parked: whether the replier said that they wait for an operator there.
        count: how many.
        oldest: when the oldest of them was stored.
    """

    service: str
    state: CallState
    parked: bool
    count: int
    oldest: Instant


class RequestTally(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many requests of an operation in one lane are in one state.

    Attributes:
        operation: what is asked.
        state: of the requests.
        lane: by which they came.
        count: how many.
        first: the place of the one with the lowest number.
        due: when the first of them may be claimed.
    """

    operation: str
    state: RequestState
    lane: int
    count: int
    first: int
    due: Instant


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds, for people and for tests; counted, not kept."""

    calls: dict[str, dict[str, int]]
    """by service asked, by state"""
    requests: dict[str, dict[str, int]]
    """by operation, by state"""
    lanes_out: int
    lanes_in: int
    dead: int
    bytes: int


class Books(StreamBooks, Protocol):
    """What a step reads and writes, inside its transaction. Each method may raise UnavailableError.

    Rows are found by place; what is asked for several at once is one question to the engine. A row that is not as it
    was written is a StoreDamagedError for whoever reads it whole, and never a wrong result; what is listed for people,
    and lists of lanes, feeds and streams, are without it, and it is logged.
    """

    identity: Identity

    # --- who is here ----------------------------------------------------------------------------------

    def beat(self, instance: str, until: Instant) -> None:
        """Enter an instance, or renew its lease."""
        ...

    def leave(self, instance: str) -> None:
        """Take an instance out; what it owns or runs is for others from now on."""
        ...

    def members(self) -> list[Member]:
        """Return who has the store open."""
        ...

    def dead(self, now: Instant) -> list[str]:
        """Return the instances that are gone: lease over, process seen to be dead, or left with rows of theirs."""
        ...

    # --- the caller's side ------------------------------------------------------------------------------

    def lane_to(self, service: str) -> LaneOut | None:
        """Return the lane of our present epoch towards a service."""
        ...

    def lane_out(self, lane: int) -> LaneOut | None:
        """Return a lane by its number."""
        ...

    def lanes_out(self) -> list[LaneOut]:
        """Return all of them."""
        ...

    def open_lane_out(self, service: str) -> LaneOut:
        """Make the lane of our present epoch towards a service."""
        ...

    def save_lane_out(self, lane: LaneOut) -> None:
        """Write a lane as it is now."""
        ...

    def add_calls(self, calls: Sequence[Call]) -> None:
        """Store calls that have a number."""
        ...

    def standings(self, lane: int, first: int, last: int) -> dict[int, Standing]:
        """Return, by number, how the calls first..last of a lane stand."""
        ...

    def set_calls(self, rows: Iterable[tuple[CallState, bytes, int, bool, int]]) -> None:
        """Write (state, outcome, outcome_epoch, parked, place) of calls; the digest and the rest stay."""
        ...

    def set_frames(self, rows: Iterable[tuple[bytes, str, int]]) -> None:
        """Write (frame, owner, place) of calls that are sent anew."""
        ...

    def redrive(self, lane: int, first: int, last: int) -> list[int]:
        """Make the calls first..last of a lane that are done re-driving ones; return their numbers, rising."""
        ...

    def first_call(self, lane: int) -> int | None:
        """Return the lowest number of a lane that is kept; None for none."""
        ...

    def calls_at(self, places: Sequence[int]) -> list[Call]:
        """Return the calls at these places, in order; those that are not there are left out."""
        ...

    def unsettled(self, lane: LaneOut, *, after: int = -1, limit: int = 1000) -> list[Call]:
        """Return calls of a lane that are not final, those behind the number `after`, in order."""
        ...

    def call(self, id: str) -> Call | None:
        """Return a call by its id, numbered or waiting."""
        ...

    def calls_of(self, work: int) -> list[Call]:
        """Return the calls that were made for a delivery, in the order in which they were made; final ones too."""
        ...

    def calls_listed(
        self, *, service: str = "", final: bool | None = None, state: CallState | None = None, limit: int = 100
    ) -> list[Call]:
        """Return calls for people, newest first."""
        ...

    def add_waiting(self, calls: Sequence[Call]) -> None:
        """Store calls that have no number yet, in this order."""
        ...

    def take_waiting(self, service: str, limit: int) -> list[Call]:
        """Take out the oldest that may be numbered: those without a key, and the first of each key that is free.

        A key is free when no call of that key towards that service is numbered and neither answered nor final.
        """
        ...

    def drop_waiting(self, id: str) -> None:
        """Forget one that waits."""
        ...

    def key_is_free(self, service: str, key: str) -> bool:
        """Say whether no call of this key towards a service waits, or is numbered and neither answered nor final."""
        ...

    def key_holder(self, service: str, key: str) -> Call | None:
        """Return the call that others of its key towards a service wait for; None when the key is free.

        It is the one with the lowest place of those that are numbered and neither answered nor final: after a restore
        of the replier there may be several. Else it is the oldest that waits.
        """
        ...

    def forget_calls(self, *, lane: int, below: int, before: Instant, keep_bytes: int) -> int:
        """Drop final calls below a number of a lane that are older than `before`, or beyond the newest `keep_bytes`.

        Calls of a delivery that is not decided stay. Returns how many went.
        """
        ...

    # --- the replier's side -----------------------------------------------------------------------------

    def lane_from(self, caller: Identity) -> LaneIn | None:
        """Return the lane of a caller's store and epoch."""
        ...

    def lane_in(self, lane: int) -> LaneIn | None:
        """Return a lane by its number."""
        ...

    def lanes_in(self) -> list[LaneIn]:
        """Return all of them, the one of the store to itself too, which is always there."""
        ...

    def newest_epoch(self, store: str) -> int:
        """Return the newest epoch of a caller's store that was heard of; 0 for none."""
        ...

    def hear_epoch(self, store: str, epoch: int) -> None:
        """Remember that a caller's store lives in this epoch now; an older one than is known changes nothing."""
        ...

    def open_lane_in(self, caller: Identity, service: str) -> LaneIn:
        """Make the lane of a caller's store and epoch."""
        ...

    def save_lane_in(self, lane: LaneIn) -> None:
        """Write a lane as it is now."""
        ...

    def floors_at(self, epoch: int) -> dict[int, Numbers]:
        """Return, by lane in, which numbers were known to be over when a life of ours began; nothing for the first."""
        ...

    def known(self, lane: int, first: int, last: int) -> dict[int, Known]:
        """Return, by number, what is known of the requests first..last of a lane."""
        ...

    def add_requests(self, requests: Sequence[Request]) -> None:
        """Store requests; a place that is taken is a slip, and raises UsageError."""
        ...

    def requests_at(self, places: Sequence[int]) -> list[Request]:
        """Return the requests at these places, in order; those that are not there are left out."""
        ...

    def remains(self, place: int) -> Request | None:
        """Return a request as it lies there, damaged or not; only to set it aside, and for people."""
        ...

    def request(self, id: str) -> Request | None:
        """Return a request by its id; not hot."""
        ...

    def claimable(self, operation: str, now: Instant, limit: int, *, suspects: bool = False) -> list[Request]:
        """Return received and suspended requests of an operation that are due, the one that is due first first.

        Args:
            operation: what is asked.
            now: what is due.
            limit: at most so many.
            suspects: those at which an instance has died, and only those; else only the others.
        """
        ...

    def next_due(self, operation: str) -> Instant | None:
        """Return when the next received or suspended request of an operation is due; None when there is none."""
        ...

    def waiting_requests(self) -> dict[str, int]:
        """Return how many received and suspended requests there are, by operation; not hot."""
        ...

    def claim(self, instance: str, places: Sequence[int]) -> None:
        """Make received or suspended requests running ones of an instance, each with one attempt more."""
        ...

    def decide(
        self, place: int, *, instance: str, attempt: int, state: RequestState, outcome: bytes, frame: bytes | None
    ) -> bool:
        """Decide a request that runs, if this attempt of this instance still holds it; return whether it did.

        Args:
            place: of the request.
            instance: who runs it.
            attempt: of the claim.
            state: DONE or NOT_DONE.
            outcome: what the caller is told.
            frame: what is kept of the request; None keeps it as it is, b"" drops it.
        """
        ...

    def put_back(
        self, place: int, *, instance: str, attempt: int, state: RequestState, due: Instant, failures: int, deaths: int
    ) -> bool:
        """Take a request from running to RECEIVED, SUSPENDED or PARKED, if this attempt still holds it."""
        ...

    def set_requests(self, rows: Iterable[tuple[RequestState, Instant, bytes, int]]) -> None:
        """Write (state, due, outcome, place) of requests that do not run."""
        ...

    def ask_again(self, rows: Iterable[tuple[int, int, str, int]], now: Instant) -> None:
        """Write (asked, asker, reply_to, place) of requests that their caller asked for again.

        Those received or suspended ones that were last asked for in an earlier life of ours, and have waited for that
        since, are received ones from now on, due now.
        """
        ...

    def hold(self, lane: int) -> None:
        """Let the undecided requests of a lane wait until they are asked for again; the claims on them are void."""
        ...

    def held_by(self, instance: str) -> list[Request]:
        """Return the requests that an instance runs, without their frames."""
        ...

    def forget_requests(self, lane: int, *, below: int, ranges: Sequence[tuple[int, int]] = ()) -> None:
        """Drop the rows of a lane below a number, and those in ranges."""
        ...

    def requests_listed(
        self,
        *,
        operation: str = "",
        decided: bool | None = None,
        state: RequestState | None = None,
        lane: int | None = None,
        limit: int = 100,
    ) -> list[Request]:
        """Return requests for people, the newest of each lane first; those of one lane, or of all."""
        ...

    def revive(self, places: Sequence[int], due: Instant) -> list[int]:
        """Make parked requests received again, with all their attempts before them; return which were.

        Nothing happens to others, nor to those that their caller has not asked for in our present life.
        One at which instances have died stays a suspect, with one death.
        """
        ...

    # --- dead letters -------------------------------------------------------------------------------------

    def add_dead(self, letter: Deceased) -> None:
        """Keep a dead letter; it gets the next number."""
        ...

    def dead_letters(self, *, operation: str = "", cause: str = "", after: int = 0, limit: int = 100) -> list[Deceased]:
        """Return dead letters, oldest first, those behind the number `after`."""
        ...

    def dead_letter(self, number: int) -> Deceased | None:
        """Return one."""
        ...

    def drop_dead(self, numbers: Sequence[int]) -> None:
        """Forget dead letters."""
        ...

    def dead_at(self, place: int) -> Deceased | None:
        """Return the newest dead letter of a request."""
        ...

    # --- keys -----------------------------------------------------------------------------------------------

    def key(self, scope: str, key: str) -> Key | None:
        """Return what a key stands for."""
        ...

    def add_key(self, key: Key) -> None:
        """Keep a key; one that is there is replaced."""
        ...

    def forget_keys(self, before: Instant) -> list[Key]:
        """Drop the keys whose time is over, at most 1,000 at once, and return them."""
        ...

    def drop_key(self, scope: str, key: str) -> None:
        """Forget a key."""
        ...

    # --- for people: not hot --------------------------------------------------------------------------------

    def counts(self) -> Counts:
        """Count what is there."""
        ...

    def ids(self, prefix: str, limit: int) -> list[str]:
        """Return ids that begin so: of calls, requests, events, dead letters, adopted deposits; each once, in order."""
        ...

    def requests_named(self, id: str) -> list[Request]:
        """Return all requests with an id: a request, and what was run here for its reply or its ack."""
        ...

    def call_tallies(self) -> list[CallTally]:
        """Count the calls by service, state and whether they are parked there."""
        ...

    def request_tallies(self) -> list[RequestTally]:
        """Count the undecided requests by operation, state and lane."""
        ...

    def lives(self) -> list[Life]:
        """Return the lives of this store, oldest first."""
        ...

    def kept_since(self) -> Instant | None:
        """Return when the oldest final call that is kept was stored; None when there is none."""
        ...

    def damage(self) -> list[str]:
        """Return what is damaged in the whole store, as sentences; it takes as long as to read all of it."""
        ...


class Rows(Protocol):
    """SQL on the user's own tables, which lie in the same database; ours begin with posthouse_ and are closed."""

    async def execute(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = (), /) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows.

        Raises:
            SqlError: the statement is wrong, breaks a constraint, or touches what is not the user's.
            UsageError: the transaction is over.
        """
        ...

    async def executemany(self, sql: str, values: Sequence[Mapping[str, Any]] | Sequence[tuple[Any, ...]], /) -> None:
        """Run one statement for each set of values."""
        ...


class Tail(Rows, Protocol):
    """A handler's transaction, from its first statement to the handler's end.

    It holds the store's single write slot. Who holds it for more than `Store.hold_limit` is rolled back.
    """

    def end(self, step: Callable[[Books], T]) -> Future[T]:
        """Run the step that ends the delivery in this transaction, and let it commit with the others of its group.

        Everything is rolled back when the step raises. The future is done when it is committed and flushed.

        Raises (when awaited):
            StoreHeldError: it took too long, and was rolled back before.
            GroupLostError: the commit failed, for no fault of this one; run the handler again.
            PosthouseError: what the step raised.
        """
        ...

    def give_up(self) -> None:
        """Roll back; after the end it does nothing."""
        ...


class Store(Protocol):
    """A service's own database.

    Attributes:
        identity: which store it is; known once it is open.
        service: whose it is.
        hold_limit: how long a handler may hold the write slot, in seconds.
        is_elsewhere: it was only looked at, and lies where it did not lie before: opened, it begins a new life.
    """

    identity: Identity
    service: str
    hold_limit: float
    is_elsewhere: bool

    async def open(self, *, schema: Sequence[str] = ()) -> None:
        """Connect, create what is not there, and find out who it is.

        Args:
            schema: the user's own SQL scripts; each is run once, in order.

        Raises:
            UnsafeEngineError: the engine is of a version that can lose data.
            StorageError: the place for the data cannot be used, or a script failed, or one that ran was changed.
        """
        ...

    async def look(self) -> None:
        """Connect only to read, instead of `open`: nothing is made, no script is run, and no life begins.

        Raises:
            UnsafeEngineError: the engine is of a version that can lose data.
            StorageError: there is no store, or it cannot be read by this version.
            UsageError: it is open; or only one process can have it open.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; what was committed stays."""
        ...

    def commit(self, step: Callable[[Books], T], *, name: str, flush: bool = False, weight: int = 1) -> Future[T]:
        """Run a step in the next transaction, in the order of these calls; the future holds what it returns.

        The future is done when it is committed, and flushed if `flush` is set. A step may be run again when a
        transaction is repeated without those that made it fail, so it changes nothing but the books; if it raises
        a PosthouseError, what it wrote is rolled back, and the others of its transaction are not touched.

        Args:
            step: what to do; must not block, and not await.
            name: of the step, for traces and for tests that crash around it.
            flush: something leaves this process because of it, on which another store acts.
            weight: how many rows it is about; a transaction is not made heavier than pays.

        Raises (when awaited):
            UnavailableError: the engine failed, or is not open; nothing happened.
            PosthouseError: what the step raised.
        """
        ...

    def read(self, step: Callable[[Books], T], *, name: str = "read") -> Future[T]:
        """Run a step that only reads."""
        ...

    async def tail(self) -> Tail:
        """Wait for the store's write slot, and open a handler's transaction. First come, first served."""
        ...

    def reading(self) -> AbstractAsyncContextManager[Rows]:
        """Read the user's tables as they are at one moment; it holds no slot."""
        ...
