"""Sends again what was not answered, tells repliers what is final, and takes over from instances that died.

One timer for all calls: it looks through what is under way, which the window of each lane keeps short.
A floor rides on every request; only where none follows is it sent alone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.contracts.flushing import NotFlushedError
from posthouse.errors import PosthouseError
from posthouse.message.codec import encode
from posthouse.message.message import Lane
from posthouse.protocol.lane import Numbers, lane_of, number_of
from posthouse.protocol.outbox import RESEND_FIRST, CallState
from posthouse.runtime.journal.lifelines import Lifelines
from posthouse.runtime.steps.asking import number_waiting, stamped
from posthouse.runtime.steps.forgetting import forget
from posthouse.runtime.steps.resending import due_of, unsettled
from posthouse.runtime.steps.restoring import is_to_be_closed
from posthouse.runtime.steps.wire import ack, word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books, LaneOut, Store
    from posthouse.message.message import Message
    from posthouse.protocol.epoch import Identity
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.journal.outbox import Outbox, Sent
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.resending import Due
    from posthouse.runtime.timers import Timer, Timers

_log: Final = logging.getLogger("posthouse.journal")

SWEEP: Final[Seconds] = 0.5
"""How often what is due is looked for."""

ACK_IDLE: Final[Seconds] = 0.05
"""How long a floor waits for a request to ride on."""

ACK_AGAIN: Final[Seconds] = 5.0
"""How often a floor is told that the replier does not seem to have."""

TAKE_OVER: Final[Seconds] = 2.0
"""How often dead instances are looked for."""

FORGET: Final[Seconds] = 60.0
"""How often settled calls, and keys, that nobody needs any more are looked for."""


class Relay:
    """The timers of one outbox."""

    def __init__(
        self, outbox: Outbox, store: Store, here: Here, courier: Courier, *, may_rebind: bool, timers: Timers
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._here = here
        self._courier = courier
        self._timers = timers
        self._timer: Timer | None = None
        self._ack_timer: Timer | None = None
        self._to_ack: set[int] = set()
        self._floors: dict[int, tuple[Identity, int]] = {}  # of lanes, as they are on the disk, and for whom
        self._ack_again = 0.0
        self._take_over = 0.0
        self._forget = 0.0
        self._adopted = False
        self.lifelines = Lifelines(
            outbox, store, here, courier, may_rebind=may_rebind, heed=self._heed, hurry=self.hurry
        )
        self._closed = False
        outbox.on_floor = self._floors_moved
        outbox.on_moved = self.take_up
        outbox.on_not_flushed = self.take_up

    async def open(self) -> None:
        """Find what an earlier process of ours has left under way, and go on with it."""
        await self.lifelines.open()
        lanes = await self._store.read(lambda books: books.lanes_out())
        for lane in lanes:
            self._outbox.known_lane(lane)
            self._outbox.waiting |= lane.waiting > 0
        self._take_over = self._timers.time() + TAKE_OVER
        self._forget = self._timers.time() + FORGET
        await self._adopt()
        self._here.directory.on_change(self._somebody_came)
        self._timer = self._timers.call_later(SWEEP, self._sweep)

    def close(self) -> None:
        """Send nothing again any more."""
        self._closed = True
        for timer in (self._timer, self._ack_timer):
            if timer is not None:
                timer.cancel()

    # --- what is due --------------------------------------------------------------------------------------

    def hurry(self, which: Callable[[Sent], bool]) -> None:
        """Send some of what is under way again now."""
        due = [sent for sent in self._outbox.sent.values() if which(sent)]
        if due and not self._closed:
            self._send_again(due)

    def deposit_again(self) -> None:
        """The transport was wiped: leave copies in its queues again."""
        for sent in self._outbox.sent.values():
            sent.was_not_deposited()
        self.hurry(lambda sent: not sent.peer)

    def cancel(self, calls: Sequence[Call]) -> None:
        """Ask repliers not to do these."""
        ours: list[Sent] = []
        for call in calls:
            sent = self._outbox.sent.get(call.place)
            if sent is not None:
                sent.unwanted = True
                ours.append(sent)
            elif (lane := self._outbox.lanes.get(lane_of(call.place))) is not None:
                self._tell_canceled(call, lane, self._stamped(call, lane))  # another instance of ours sends it
        if ours:
            self._send_again(ours)

    def _sweep(self) -> None:
        now = self._timers.time()
        self._timer = self._timers.call_later(SWEEP, self._sweep)
        due = [sent for sent in self._outbox.sent.values() if sent.due <= now]
        if due:
            self._send_again(due)
        if self._outbox.waiting:
            self._heed(self._store.commit(self._number, name="number", flush=True), self._numbered)
        self.lifelines.probe()
        if watched := self._outbox.watched():
            self._heed(self._store.read(lambda books: [books.call(id) for id in watched]), self._looked)
        if now >= self._ack_again:
            self._ack_again = now + ACK_AGAIN
            life = self._store.identity.epoch
            behind = self.lifelines.outdated() | {
                number
                for number, lane in self._outbox.lanes.items()
                if lane.acked < lane.final.floor or is_to_be_closed(lane, life)
            }
            for number in behind:
                self._outbox.told.pop(number, None)
            self._to_ack.update(behind)
            if self._to_ack:
                self.ack()
        if now >= self._take_over:
            self._take_over = now + TAKE_OVER
            self.lifelines.look()
            self._heed(self._store.read(lambda books: books.lanes_out()), self._looked_at_lanes)
            adoption = asyncio.ensure_future(self._adopt())
            self._heed(adoption, _nothing)
        if now >= self._forget:
            self._forget = now + FORGET
            self._heed(self._store.commit(self._drop_old, name="forget"), self._dropped)

    def _send_again(self, due: Sequence[Sent]) -> None:
        """Read what is due and send it with the stamps of now."""
        places = [sent.place for sent in due]
        for sent in due:  # until it is read and sent, it is not due once more
            sent.due = self._timers.time() + 5.0
        self._heed(self._store.read(lambda books: due_of(books, places)), self._carry_again)

    def _carry_again(self, due: Due) -> None:
        by_service: dict[str, list[tuple[Sent, bytes]]] = {}
        for call in due.calls:
            sent = self._outbox.sent.get(call.place)
            lane = due.lanes.get(lane_of(call.place))
            if sent is None or lane is None:
                continue
            if not call.state.asked:
                self._outbox.sent.pop(call.place, None)
                self._tell(call)
                continue
            message = self._stamped(call, lane)
            if sent.unwanted or call.state is CallState.CANCEL_WANTED:
                sent.unwanted = True
                self._tell_canceled(call, lane, message)
            if call.place in due.behind:
                sent.due = self._timers.time() + RESEND_FIRST
                continue
            by_service.setdefault(call.service, []).append((sent, encode(message)))
        for service, some in by_service.items():
            self._outbox.carry(service, some)

    def _stamped(self, call: Call, lane: LaneOut) -> Message:
        """Return a request as it is now, with a floor that is on the disk: answers are applied without a flush."""
        peer, floor = self._floors.get(lane.lane, (lane.peer, 0))
        floor = min(lane.final.floor, floor) if peer == lane.peer else 0
        flushed = msgspec.structs.replace(lane, final=Numbers(floor))
        if call.state is CallState.REDRIVING:  # it was in time once
            message = stamped(call, flushed, identity=self._store.identity, peer=self._here.peer)
            return msgspec.structs.replace(message, deadline=0.0)
        return stamped(call, flushed, identity=self._store.identity, peer=self._here.peer)

    def _tell_canceled(self, call: Call, lane: LaneOut, request: Message) -> None:
        assert request.lane is not None  # noqa: S101 - _stamped put it there
        told = word(
            "cancel",
            request.lane,
            id=call.id,
            about=call.operation,
            source=self._here.service,
            now=self._here.now(),
            reply_to=self._here.peer,
        )
        self._courier.tell(call.service, lane.peer.id, told)

    def _somebody_came(self) -> None:
        """The directory has changed: what found nobody may find somebody now."""
        if self._closed:
            return
        instances = self._here.directory.instances
        peers = self._here.directory.peers
        self.hurry(lambda sent: (not sent.peer or sent.peer not in peers) and bool(instances(sent.service)))
        for lane in self.lifelines.outdated():
            self._outbox.told.pop(lane, None)
            self._to_ack.add(lane)
        if self._to_ack:
            self.ack()

    # --- numbers for what waits ---------------------------------------------------------------------------

    def _number(self, books: Books) -> tuple[list[Call], list[LaneOut]]:
        calls: list[Call] = []
        lanes: list[LaneOut] = []
        for lane in books.lanes_out():
            if lane.waiting and lane.epoch == books.identity.epoch:
                calls += number_waiting(books, lane, self._here)
                books.save_lane_out(lane)
            lanes.append(lane)
        return calls, lanes

    def _numbered(self, result: tuple[list[Call], list[LaneOut]]) -> None:
        calls, lanes = result
        for lane in lanes:
            self._outbox.known_lane(lane)
        self._outbox.waiting = any(lane.waiting for lane in lanes)
        self._outbox.send(calls)

    # --- acks -----------------------------------------------------------------------------------------------

    def _floors_moved(self, lanes: Iterable[LaneOut]) -> None:
        for lane in lanes:
            self._to_ack.add(lane.lane)
        if self._to_ack and self._ack_timer is None and not self._closed:
            self._ack_timer = self._timers.call_later(ACK_IDLE, self.ack)

    def ack(self) -> asyncio.Future[list[LaneOut]] | None:
        """Tell repliers now what is final; return what is done when they were told, or None for nothing to tell."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        lanes, self._to_ack = self._to_ack, set()
        if not lanes:
            return None
        seen = self._store.commit(
            lambda books: [lane for number in lanes if (lane := books.lane_out(number)) is not None],
            name="ack",
            flush=True,
        )
        self._heed(seen, self._send_acks)
        return seen

    def _send_acks(self, lanes: list[LaneOut]) -> None:
        identity = self._store.identity
        outdated = self.lifelines.outdated()
        for lane in lanes:
            self._floors[lane.lane] = lane.peer, lane.final.floor
            now = (lane.peer.epoch, lane.final.floor, _weight(lane.final))
            if (
                (lane.closed and lane.lane not in outdated)
                or not lane.peer.id
                or self._outbox.told.get(lane.lane) == now
            ):
                continue
            self._outbox.told[lane.lane] = now
            stamps = Lane(
                identity.id,
                identity.epoch,
                lane.peer.id,
                lane.peer.epoch,
                -1,
                lane.final.floor,
                b"",
                lane.epoch,
            )
            told = ack(
                lane.final,
                stamps,
                closes=is_to_be_closed(lane, identity.epoch),
                service=lane.service,
                source=self._here.service,
                now=self._here.now(),
                reply_to=self._here.peer,
            )
            self._courier.tell(lane.service, lane.peer.id, told)

    def take_up(self) -> None:
        """The books may hold calls of ours that nobody here sends: the flush has failed, or answers were taken back."""
        self._adopted = False
        self._take_over = self._timers.time()

    # --- taking over ----------------------------------------------------------------------------------------

    async def _adopt(self) -> None:
        """Take over the calls of instances that are gone."""
        of_ours, self._adopted = not self._adopted, True  # meanwhile there may be more: then we look once more
        try:
            gone, found = await self._store.read(lambda books: self._orphans(books, of_ours=of_ours))
            if gone or found:
                await self._take_over_calls(gone, found)
        except PosthouseError:
            self._adopted = False
            raise

    async def _take_over_calls(self, gone: Sequence[str], found: Sequence[Call]) -> None:
        here = self._here
        frames = [(call.frame, here.instance, call.place) for call in found]

        def adopt(books: Books) -> None:
            books.set_frames(frames)
            for instance in gone:  # what it ran is found by the rows that name it
                books.leave(instance)

        # Flushed, as they are sent now: who stored them may have died before it did that.
        await self._store.commit(adopt, name="adopt", flush=True)
        for call in found:
            if call.place not in self._outbox.sent:  # it may have been sent meanwhile
                self._outbox.remember(call)
        adopted = {call.place for call in found}
        self.hurry(lambda sent: sent.place in adopted)

    def _orphans(self, books: Books, *, of_ours: bool) -> tuple[list[str], list[Call]]:
        """Return the members that are gone, and the calls that nobody sends; those of ours too, if `of_ours`."""
        gone = set(books.dead(self._here.now()))
        if not gone and not of_ours:
            return [], []
        mine = self._here.instance
        sent = self._outbox.sent
        members = [member.instance for member in books.members() if member.instance in gone - {mine}]
        return members, [
            call
            for lane in books.lanes_out()
            for call in unsettled(books, lane)
            if call.state.asked and call.place not in sent and (call.owner in gone or call.owner == mine)
        ]

    def _drop_old(self, books: Books) -> int:
        return forget(books, self._here.now())

    def _dropped(self, count: int) -> None:
        """Only so many go in one step: while there are more, go on at the next sweep."""
        if count:
            self._forget = self._timers.time()

    def _looked(self, calls: list[Call | None]) -> None:
        """Tell those who wait for calls that another instance of ours has sent."""
        for call in calls:
            if call is not None:
                self._tell(call)

    def _tell(self, call: Call) -> None:
        if call.outcome:
            self._outbox.fill(call.id, call.outcome, call.outcome_epoch, place=call.place)
        elif call.state is CallState.UNKNOWN:
            self._outbox.unknown(call)

    def _looked_at_lanes(self, lanes: list[LaneOut]) -> None:
        """Go on with what a sibling, or an operator, has changed: whose store a lane leads to, and what is final."""
        known = self._outbox.lanes
        moved = {lane.lane for lane in lanes if lane.lane in known and known[lane.lane].peer != lane.peer}
        for lane in lanes:
            before = known.get(lane.lane)
            if before is None or before.final.floor < lane.final.floor or before.closed != lane.closed:
                self._outbox.known_lane(lane)  # who raised its floor may have died before it was acked
            elif lane.lane in moved:
                self._outbox.known_lane(lane)
            self._outbox.waiting |= lane.waiting > 0
        final = {lane.lane: lane.final for lane in lanes}

        def concerns(sent: Sent) -> bool:
            lane = lane_of(sent.place)
            return lane in moved or (lane in final and final[lane].holds(number_of(sent.place)))

        self.hurry(concerns)

    def _heed(self, done: asyncio.Future[Any], then: Callable[[Any], None]) -> None:
        done.add_done_callback(lambda done: self._heeded(done, then))

    def _heeded(self, done: asyncio.Future[Any], then: Callable[[Any], None]) -> None:
        if done.cancelled() or self._closed:
            return
        if isinstance(error := done.exception(), NotFlushedError):
            self.take_up()
        if error is None:
            then(done.result())
        elif isinstance(error, PosthouseError):  # the next sweep tries again
            _log.warning("the store of %s could not be used: %s", self._here.service, error)
        else:
            _log.error("the relay of %s failed in a way that it should not", self._here.service, exc_info=error)


def _weight(numbers: Numbers) -> int:
    """Return what changes whenever the ranges above a floor do."""
    return numbers.count - numbers.floor


def _nothing(_: object) -> None:
    """Nothing is to be done then."""
