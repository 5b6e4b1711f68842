"""One service's journal in this process: its store, and the two sides of its journaled calls.

A host opens one for each service that serves or asks here. It is opened before anything is announced,
and closed after everything has drained: what arrives in between is stored, whoever runs it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from posthouse.contracts.flushing import NotFlushedError
from posthouse.contracts.transport import Rejected, Released
from posthouse.errors import (
    ContractError,
    FrameError,
    FrameVersionError,
    OutcomeUnknownError,
    PosthouseError,
    QueueUnknownError,
)
from posthouse.flow.backoff import full_jitter
from posthouse.message.codec import decode_many
from posthouse.message.message import Kind, Mode
from posthouse.protocol.outbox import CallState
from posthouse.runtime.journal.courier import Courier
from posthouse.runtime.journal.inbox import Inbox
from posthouse.runtime.journal.outbox import Outbox
from posthouse.runtime.journal.publisher import Publisher
from posthouse.runtime.journal.relay import Relay
from posthouse.runtime.journal.subscriber import Subscriber
from posthouse.runtime.steps.canceling import cancel
from posthouse.runtime.steps.here import Here
from posthouse.runtime.steps.receiving import Arrived
from posthouse.runtime.timers import timers_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books, Store
    from posthouse.contracts.transport import Delivery, Transport
    from posthouse.message.message import Message
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.runner import Runner
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settler import Settler
    from posthouse.runtime.timers import Timer

_log: Final = logging.getLogger("posthouse.journal")

BEAT: Final[Seconds] = 5.0
LEASE: Final[Seconds] = 15.0
"""An instance of which nothing was heard for so long is dead: others take over what it ran."""

DEPOSITS: Final = 256
"""The most messages of one claim on a queue: they only pass through, into the store."""

PATIENCE: Final[Seconds] = 60.0
FOR_A_NEWER_ONE: Final[Seconds] = 60.0


class Journal:
    """The journal of one service.

    Attributes:
        store: its books.
        here: its place in this process.
        outbox: the caller's side.
        inbox: the replier's side.
        relay: sends again, and acks.
        publisher: what it tells.
        subscriber: what it hears.
    """

    def __init__(
        self,
        store: Store,
        service: str,
        *,
        transport: Transport,
        directory: Directory,
        settler: Settler,
        seams: Seams,
        peer: str,
        may_rebind: bool,
    ) -> None:
        self.store = store
        self.here = Here(service, peer=peer, now=seams.clock.now, directory=directory)
        self._seams = seams
        self._transport = transport
        self._settler = settler
        self._courier = Courier(transport, directory)
        self.outbox = Outbox(store, self.here, self._courier, seams=seams)
        timers = timers_of(seams.clock)
        self.relay = Relay(self.outbox, store, self.here, self._courier, may_rebind=may_rebind, timers=timers)
        self.publisher = Publisher(store, self.here, self._courier, timers=timers)
        self.inbox = Inbox(
            store,
            self.here,
            self._courier,
            self.outbox,
            self.relay,
            publisher=self.publisher,
            settler=settler,
            seams=seams,
        )
        self.subscriber = Subscriber(store, self.here, self._courier, self.inbox, timers=timers, rng=seams.rng)
        self._timers = timers
        self._beating: Timer | None = None
        self._receivers: list[asyncio.Task[None]] = []
        self._open = False

    # --- life ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Enter this instance in the store, and go on with what earlier ones have left under way."""
        await self.store.commit(self._beat_once, name="beat")
        await self.relay.open()
        self.publisher.open()
        self._open = True
        self._beating = self._timers.call_later(BEAT, self._beat)

    def serve(
        self, runners: Sequence[Runner], *, queues: Iterable[str], make_again: Callable[[], Awaitable[None]]
    ) -> None:
        """Begin to run requests, and to take into the store what lies in these queues."""
        self.inbox.serve(runners)
        for queue in queues:
            task = self._seams.spawn(self._adopt_all(queue, make_again), f"posthouse receives {queue}")
            self._receivers.append(task)

    async def stop(self) -> None:
        """Claim nothing more, and take nothing more out of queues."""
        self.subscriber.stop()
        self.inbox.stop()
        receivers, self._receivers = self._receivers, []
        for task in receivers:
            task.cancel()
        await asyncio.gather(*receivers, return_exceptions=True)

    async def close(self) -> None:
        """Close the store; what is under way goes on with the next instance."""
        if self._open:
            await self.inbox.ended()
        self._open = False
        await self.stop()
        if self._beating is not None:
            self._beating.cancel()
        acked = self.relay.ack()  # a program that ends at once would leave rows with its repliers until it is back
        if acked is not None:
            await asyncio.wait([acked])
        self.relay.close()
        self.publisher.close()
        self.inbox.close()
        self.outbox.close()
        await self._courier.close()
        try:
            await self.store.commit(lambda books: books.leave(self.here.instance), name="leave")
        except PosthouseError as error:
            _log.warning("the store of %s could not be told that this instance leaves: %s", self.here.service, error)
        await self.store.close()

    def _beat_once(self, books: Books) -> None:
        books.beat(self.here.instance, self.here.now() + LEASE)

    def _beat(self) -> None:
        self._beating = self._timers.call_later(BEAT, self._beat)
        self.store.commit(self._beat_once, name="beat").add_done_callback(self._has_beaten)

    def _has_beaten(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.warning("the store of %s cannot be told that this instance lives: %s", self.here.service, error)

    # --- what arrives -------------------------------------------------------------------------------------

    def arrived(self, arrived: Iterable[tuple[Message, bytes]]) -> None:
        """Take in journaled messages that came by the direct path."""
        for_inbox: list[Arrived] = []
        for_outbox: list[Message] = []
        events: list[tuple[Message, bytes]] = []
        heads: list[Message] = []
        for message, frame in arrived:
            if message.kind is Kind.EVENT:
                events.append((message, frame))
            elif message.kind is Kind.CONTROL and message.type == "pull":
                self.publisher.asked(message)
            elif message.kind is Kind.CONTROL and message.type == "heads":
                heads.append(message)
            elif message.kind is Kind.REPLY or (
                message.kind is Kind.CONTROL and message.type not in {"cancel", "probe"}
            ):
                if message.kind is Kind.CONTROL and message.type == "resync":
                    self.relay.lifelines.resync(message)
                elif message.kind is Kind.CONTROL and message.type == "tops":
                    self.relay.lifelines.tops(message)
                else:
                    for_outbox.append(message)
            else:
                for_inbox.append(Arrived(message, frame))
        if events:
            self.subscriber.arrive(events)
        for message in heads:  # they come behind the events that they are about
            self.subscriber.told(message)
        if for_inbox:
            self.inbox.arrive(for_inbox)
        if for_outbox:
            self.outbox.heard(for_outbox)

    def lost(self, peer: str) -> None:
        """A peer went away: what was sent to it last goes to another one, or into a queue."""
        self._courier.lost(peer)
        self.relay.hurry(lambda sent: sent.peer == peer)

    def transport_was_wiped(self) -> None:
        """What lay in queues is gone."""
        self.relay.deposit_again()

    async def _adopt_all(self, queue: str, make_again: Callable[[], Awaitable[None]]) -> None:
        """Take what lies in an operation's queue into the store, until canceled."""
        failures = 0
        while True:
            try:
                deliveries = await self._transport.receive(queue, credit=DEPOSITS, wait=PATIENCE)
                failures = 0
            except Exception as error:
                failures += 1
                hold_off = full_jitter(failures, base=0.1, cap=5.0, rng=self._seams.rng)
                _log.warning("%s cannot be received from, again in %.1f s: %s", queue, hold_off, error)
                if not isinstance(error, PosthouseError):  # a slip in a backend; nobody else would hear of it
                    _log.error("receiving failed in a way that it should not", exc_info=error)
                await asyncio.sleep(hold_off)
                if isinstance(error, QueueUnknownError):
                    await self._make_again(queue, make_again)
                continue
            if deliveries:
                self.inbox.arrive(self._opened(deliveries))

    async def _make_again(self, queue: str, make_again: Callable[[], Awaitable[None]]) -> None:
        try:
            await make_again()
        except PosthouseError as error:
            _log.warning("%s cannot be made again yet: %s", queue, error)

    def _opened(self, deliveries: Sequence[Delivery]) -> list[Arrived]:
        arrived: list[Arrived] = []
        messages = decode_many([delivery.frame for delivery in deliveries])
        for delivery, message in zip(deliveries, messages, strict=True):
            if isinstance(message, FrameVersionError):
                self._settler.add(delivery, Released(after=FOR_A_NEWER_ONE, failed=False, untouched=True))
            elif isinstance(message, FrameError):
                _log.error("%s: %s", delivery.queue, message)
                self._settler.add(delivery, Rejected("parked", message.code, str(message)))
            elif message.mode is not Mode.JOURNALED:
                error = ContractError(f"{message.type} is journaled for its service, and less for its caller")
                _log.error("%s: %s, from %s", delivery.queue, error, message.source)
                self._settler.add(delivery, Rejected("parked", error.code, str(error)))
            else:
                arrived.append(Arrived(message, delivery.frame, delivery))
        return arrived

    # --- for those who ask ----------------------------------------------------------------------------------

    @property
    def asks(self) -> Outbox:
        """The caller's side."""
        return self.outbox

    @property
    def tells(self) -> Publisher:
        """The publisher's side."""
        return self.publisher

    def knows(self, service: str) -> bool:
        """Say whether a service was ever known to this store."""
        return any(lane.service == service for lane in self.outbox.lanes.values())

    async def call(self, id: str) -> Call | None:
        """Return a call by its id."""
        return await self.store.read(lambda books: books.call(id))

    async def cancel(self, id: str) -> bool:
        """Ask that a call is not done; return whether there is such a call."""
        try:
            found = await self.store.commit(
                lambda books: cancel(books, id, now=self.here.now()), name="cancel", flush=True
            )
        except NotFlushedError as error:  # it is in the books: what is sent again says so
            text = f"the wish to cancel {id} was stored, and whether that outlives a power cut is not known"
            raise OutcomeUnknownError(text, message_id=id) from error
        if found is None:
            return False
        call, lane = found
        if lane is not None:
            self.outbox.known_lane(lane)
        if call.state is CallState.CANCEL_WANTED:
            self.relay.cancel([call])
        elif call.state is CallState.NOT_DONE:
            self.outbox.fill(id, call.outcome, call.outcome_epoch, place=call.place)
        elif call.state is CallState.UNKNOWN:
            self.outbox.unknown(call)
        return True
