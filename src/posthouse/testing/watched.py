"""A host that can be looked at: what went through its transport, what its stores decided, and whether it rests.

The harness reads its answers here. It sees frames, as an engine does, and nothing of the handlers. Faults that were
ordered are played here too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from posthouse.contracts.transport import Rejected
from posthouse.errors import UnavailableError
from posthouse.message.codec import decode
from posthouse.message.message import Kind
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import Numbers
from posthouse.protocol.outbox import CallState
from posthouse.runtime.caller import Caller
from posthouse.runtime.journal.relay import ACK_AGAIN
from posthouse.runtime.steps.wire import numbers_acked
from posthouse.testing.faulty import FaultyTransport
from posthouse.testing.mortal import MortalHost, MortalStore, MortalTail

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Sequence

    from posthouse.clock import Instant
    from posthouse.contracts.store import Books, Deceased, Store, Tail
    from posthouse.contracts.streams import Told
    from posthouse.contracts.transport import Delivery, Direct, Outcome, Outgoing, Transport
    from posthouse.message.message import Lane, Message
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settings import Settings
    from posthouse.testing.faults import Faults

T = TypeVar("T")

FOREVER: Final = float("inf")


class Record:
    """What was sent, each message once however often it went over, in the order of the first time.

    Attributes:
        messages: by kind and id.
        parked: (queue or operation, why) of each message that was given up undecided.
        runs: the name of what ran, once for each attempt.
    """

    def __init__(self) -> None:
        self.messages: dict[tuple[Kind, str], Message] = {}
        self.parked: list[tuple[str, Rejected | Deceased]] = []
        self.runs: list[str] = []
        self._lanes: dict[tuple[str, int, str], _SeenLane] = {}

    def add(self, message: Message) -> None:
        """Remember a message."""
        self.messages.setdefault((message.kind, message.id), message)
        if message.kind is Kind.REQUEST and (stamps := message.lane) is not None:
            self._lane(stamps, message.type).operations[stamps.number] = message.type

    def arrives(self, message: Message) -> None:
        """Remember what the sender of a message says to be final: it was not lost."""
        stamps = message.lane
        if stamps is None:
            return
        if message.kind is Kind.REQUEST:
            self._lane(stamps, message.type).final.raise_to(stamps.floor)
        elif message.kind is Kind.ACK:
            self._lane(stamps, message.type).final.merge(numbers_acked(message))

    def of(self, kind: Kind, name: str) -> list[Message]:
        """Return the messages of a kind that belong to an operation or event."""
        return [message for message in self.messages.values() if message.kind is kind and message.type == name]

    def acked(self, name: str) -> int:
        """Return how many requests to an operation were told to be final."""
        return sum(
            operation == name and lane.final.holds(number)
            for lane in self._lanes.values()
            for number, operation in lane.operations.items()
        )

    def newly_acked(self, message: Message) -> set[str]:
        """Return the operations of which an ack tells something new."""
        if message.lane is None:
            return set()
        lane, told = self._lane(message.lane, message.type), numbers_acked(message)
        return {
            operation
            for number, operation in lane.operations.items()
            if told.holds(number) and not lane.final.holds(number)
        }

    def _lane(self, stamps: Lane, name: str) -> _SeenLane:
        return self._lanes.setdefault(
            (stamps.caller_store, stamps.opened, name.partition(".")[0]), _SeenLane(operations={}, final=Numbers())
        )


class _SeenLane(msgspec.Struct):
    operations: dict[int, str]
    final: Numbers


class WatchedHost(MortalHost):
    """A host whose messages are recorded.

    Args:
        settings: how it runs.
        seams: time, chance, ids, tasks.
        record: what is told of every message; several hosts may share one.
        faults: what is to go wrong.
        on_crash: called when a fault lets it die; has to see to it that it does.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        seams: Seams,
        record: Record,
        faults: Faults,
        on_crash: Callable[[WatchedHost], None],
    ) -> None:
        super().__init__(settings, seams=seams)
        self._record = record
        self._faults = faults
        self._on_crash = on_crash
        self._line = WatchedTransport(self._wire, record, faults)
        self.transport = self._line

    def make_caller(self) -> Caller:
        """Return one that records what it tells."""
        return _RecordingCaller(self.transport, self.directory, peer=self.peer, seams=self.seams, record=self._record)

    def make_store(self, inner: Store, *, disk: str) -> MortalStore:
        """Return a store that is watched."""
        return WatchedStore(
            inner,
            instance=self.peer,
            disk=disk,
            record=self._record,
            faults=self._faults,
            crash=lambda: self._on_crash(self),
        )

    @property
    def is_busy(self) -> bool:
        """Whether a handler or a store is at work, or a message is here that none has taken yet.

        A handler that waits for a reply is not at work, and what it holds is not waiting.
        """
        return (
            bool(self.settler.held)
            or any(store.is_busy for store in self.stores)
            or any(
                serving.at_work
                or any(runner.held > runner.at_work * runner.batch for runner in serving.runners.values())
                for serving in self._servings.values()
            )
        )

    def ack(self) -> bool:
        """Tell repliers now what is final; return whether there was anything to tell."""
        told = False
        for store in self.stores:
            journal = self.journals.get(store.service)
            told |= journal is not None and journal.relay.ack() is not None
        return told

    def let_overtaken_go(self) -> bool:
        """Send requests that none has overtaken; return whether there were any."""
        return self._line.let_overtaken_go()

    async def next_due(self) -> Instant:
        """Return when something of what its stores hold is to happen; inf for nothing that time alone brings."""
        waits = [await store.read(_next_due) for store in self.stores]
        dues = [due for due, _asked in waits]
        for store in self.stores:
            if (journal := self.journals.get(store.service)) is not None:
                if any(asked for _due, asked in waits):
                    dues += [sent.due for sent in journal.outbox.sent.values()]
                if any(lane.acked < lane.final.floor for lane in journal.outbox.lanes.values()):
                    dues.append(self.seams.clock.now() + ACK_AGAIN)
        return min(dues, default=FOREVER)

    async def hold_on(self) -> None:
        """Renew all leases, as happens by itself where time passes by itself."""
        held = [delivery for serving in self._servings.values() for delivery in serving.deliveries]
        await self.transport.renew([*held, *self.settler.held])
        await self.registry.register(list(self._present.values()))


def _next_due(books: Books) -> tuple[Instant, bool]:
    """Return when the next request is due, and whether a replier is still to be asked for a call."""
    requests = books.requests_listed(decided=False, limit=10_000)
    due = [row.due for row in requests if row.state in {RequestState.RECEIVED, RequestState.SUSPENDED}]
    asked = any(
        (call.state.asked and not call.parked) or call.state is CallState.WAITING
        for call in books.calls_listed(final=False, limit=10_000)
    )
    return min(due, default=FOREVER), asked


class WatchedStore(MortalStore):
    """A store of which it is known what it decided, and which may let its instance die around a commit."""

    def __init__(
        self,
        inner: Store,
        *,
        instance: str,
        disk: str,
        record: Record,
        faults: Faults,
        crash: Callable[[], None],
    ) -> None:
        super().__init__(inner, instance=instance, disk=disk)
        self._record = record
        self._faults = faults
        self._crash = crash
        self._is_doomed = False

    def commit(self, step: Callable[[Books], T], *, name: str, **how: Any) -> Future[T]:
        """Run a step in the next transaction."""
        seen = _Seen()
        return self.heeded(super().commit(self.watched(step, seen), name=name, **how), seen)

    async def tail(self) -> Tail:
        """Wait for the write slot."""
        return _WatchedTail(await super().tail(), self)

    def watched(self, step: Callable[[Books], T], seen: _Seen) -> Callable[[Books], T]:
        """Return a step that does the same, tells what it has seen, and dies where that was ordered."""

        def watched_step(books: Books) -> T:
            seen.__init__()  # it may be run again
            result = step(cast("Books", _SeenBooks(books, seen)))
            if self._is_doomed or any(self._faults.strikes(name, "crash before commit") for name in seen.decided):
                if not self._is_doomed:
                    self._is_doomed = True
                    asyncio.get_running_loop().call_soon(self._crash)
                raise UnavailableError("this instance dies before it has committed")
            return result

        return watched_step

    def heeded(self, inner: Future[T], seen: _Seen) -> Future[T]:
        """Return a future that tells the same, unless the instance dies in the moment in which it would."""
        outer: Future[T] = asyncio.get_running_loop().create_future()

        def over(inner: Future[T]) -> None:
            error = None if inner.cancelled() else inner.exception()
            if outer.done():
                return
            if inner.cancelled():
                outer.cancel()
            elif error is not None:
                outer.set_exception(error)
            else:
                self._record.parked += [(letter.operation, letter) for letter in seen.letters]
                for message in seen.told:
                    self._record.add(message)
                if any(self._faults.strikes(name, "crash after commit") for name in seen.decided):
                    self._crash()  # which sends away who waits for the outer one
                else:
                    outer.set_result(inner.result())

        inner.add_done_callback(over)
        return self.tracked(outer)


class _WatchedTail(MortalTail):
    def __init__(self, inner: Tail, store: WatchedStore) -> None:
        super().__init__(inner, store)
        self._watched = store

    def end(self, step: Callable[[Books], T]) -> Future[T]:
        """Run the step that ends the delivery, and commit."""
        seen = _Seen()
        return self._watched.heeded(super().end(self._watched.watched(step, seen)), seen)


class _Seen:
    """What a step has done: the operations of the requests that it decided, what it parked, the events it told."""

    def __init__(self) -> None:
        self.decided: list[str] = []
        self.letters: list[Deceased] = []
        self.told: list[Message] = []


class _SeenBooks:
    """Books that tell what is done with them."""

    def __init__(self, books: Books, seen: _Seen) -> None:
        self._books = books
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)

    def decide(self, place: int, **how: Any) -> bool:
        if not self._books.decide(place, **how):
            return False
        self._seen.decided += [row.operation for row in self._books.requests_at((place,))]
        return True

    def add_events(self, events: Sequence[Told]) -> None:
        self._books.add_events(events)
        self._seen.told += [decode(event.frame) for event in events]

    def add_dead(self, letter: Deceased) -> None:
        self._books.add_dead(letter)
        if letter.state == "parked":
            self._seen.letters.append(letter)


class _RecordingCaller(Caller):
    def __init__(self, transport: Transport, directory: Directory, *, peer: str, seams: Seams, record: Record) -> None:
        super().__init__(transport, directory, peer=peer, seams=seams)
        self._record = record

    async def tell(self, message: Message) -> None:
        """Send a volatile request or event; an event is recorded even if nobody hears it."""
        self._record.add(message)
        await super().tell(message)


class WatchedTransport(FaultyTransport):
    """Does what the transport behind it does, records it, and plays the faults that were ordered.

    Args:
        inner: what really carries the messages.
        record: what is told of them.
        faults: what is to go wrong.
    """

    def __init__(self, inner: Transport, record: Record, faults: Faults) -> None:
        super().__init__(inner)
        self._record = record
        self._faults = faults
        self._overtaken: dict[str, Callable[[], None]] = {}
        self.direct: Direct = _WatchedDirect(self.direct, self)

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these, all or none; they are recorded when they are stored."""
        return self._stored(messages)

    async def _stored(self, messages: Sequence[Outgoing]) -> None:
        going: list[Outgoing] = []
        for outgoing in messages:
            self.pass_on(
                decode(outgoing.frame),
                going=lambda outgoing=outgoing: going.append(outgoing),
                later=lambda outgoing=outgoing: self._store_later(outgoing),
            )
        if going or not messages:
            await super().send(going)
        for outgoing in messages:
            self._record.add(decode(outgoing.frame))

    def _store_later(self, outgoing: Outgoing) -> None:
        stored = asyncio.ensure_future(super().send((outgoing,)))
        stored.add_done_callback(lambda stored: stored.cancelled() or stored.exception())

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries; those that are parked are recorded."""
        for delivery, outcome in outcomes:
            if isinstance(outcome, Rejected) and outcome.state == "parked":
                self._record.parked.append((delivery.queue, outcome))
        return super().settle(outcomes)

    def pass_on(
        self,
        message: Message,
        *,
        going: Callable[[], object],
        later: Callable[[], None],
        unreached: Callable[[], None] | None = None,
        peer: str = "",
    ) -> None:
        """Let a message go once, twice or not at all.

        Args:
            message: it.
            going: sends a copy now.
            later: sends one that was overtaken.
            unreached: is told that it found nobody.
            peer: to which it goes, by the direct path.
        """
        faults, name = self._faults, message.type
        if message.kind is Kind.EVENT and faults.loses_event(message, peer):
            return
        if message.kind is Kind.ACK and faults.loses_ack(self._record.newly_acked(message)):
            return
        if message.kind is Kind.REQUEST:
            if faults.strikes(name, "away"):
                if unreached is not None:
                    unreached()
                return
            if (before := self._overtaken.pop(name, None)) is not None:
                self._go(message, going)
                before()
                return
            if faults.strikes(name, "reorder"):
                self._overtaken[name] = lambda: self._go(message, later)
                return
        self._go(message, going)

    def let_overtaken_go(self) -> bool:
        """Send what none has overtaken; return whether there was anything."""
        overtaken, self._overtaken = self._overtaken, {}
        for go in overtaken.values():
            go()
        return bool(overtaken)

    def _go(self, message: Message, send: Callable[[], object]) -> None:
        copies = self._faults.copies(message)
        if copies:
            self._record.arrives(message)
        for _ in range(copies):
            send()

    def record(self, message: Message) -> None:
        """Remember a message."""
        self._record.add(message)


class _WatchedDirect:
    def __init__(self, inner: Direct, line: WatchedTransport) -> None:
        self.peer = inner.peer
        self._inner = inner
        self._line = line
        self._lost: Callable[[str, list[bytes]], None] = _nobody

    def listen(self, receive: Callable[[str, list[bytes]], None], lost: Callable[[str, list[bytes]], None]) -> None:
        self._lost = lost
        self._inner.listen(receive, lost)

    def send(self, peer: str, frame: bytes) -> None:
        message = decode(frame)
        self._line.record(message)

        def go() -> None:
            self._inner.send(peer, frame)

        def tell() -> None:
            if message.lane is None:  # who has a store asks again by itself
                asyncio.get_running_loop().call_soon(self._lost, peer, [frame])

        self._line.pass_on(message, going=go, later=go, unreached=tell, peer=peer)


def _nobody(_peer: str, _frames: list[bytes]) -> None:
    """Nobody listens yet."""
