"""The lives of stores, as a caller sees them: which life of a replier is asked, and what a restore of ours leaves open.

What is decided, and what is written, is in steps/resending and steps/restoring. When something is sent again is the
relay's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import lane_of
from posthouse.runtime.steps.resending import bind
from posthouse.runtime.steps.restoring import begin_life, probe, settle_waiting, unsure
from posthouse.runtime.steps.wire import floors_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from posthouse.contracts.store import Books, LaneOut, Store
    from posthouse.message.message import Message
    from posthouse.protocol.outbox import Call
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.journal.outbox import Outbox, Sent
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.resending import Bound

_log: Final = logging.getLogger("posthouse.journal")


class Lifelines:
    """What one outbox knows of the lives of stores.

    Args:
        outbox: the calls.
        store: ours.
        here: our place.
        courier: carries words.
        may_rebind: a lane may go over to another store, where nobody can have the old one any more.
        heed: has something done with what a step returns.
        hurry: sends some of what is under way again now.
    """

    def __init__(
        self,
        outbox: Outbox,
        store: Store,
        here: Here,
        courier: Courier,
        *,
        may_rebind: bool,
        heed: Callable[[asyncio.Future[Any], Callable[[Any], None]], None],
        hurry: Callable[[Callable[[Sent], bool]], None],
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._here = here
        self._courier = courier
        self._may_rebind = may_rebind
        self._heed = heed
        self._hurry = hurry
        self._unsure = False

    async def open(self) -> None:
        """Bring what earlier lives have left into this one."""
        await self._store.commit(begin_life, name="begin life", flush=True)
        self._unsure = await self._store.read(lambda books: bool(unsure(books)))

    def outdated(self) -> set[int]:
        """Return the lanes to stores that were put back since: they must hear of us, though nothing is under way."""
        lives = {each.store: each.store_epoch for each in self._here.directory.all_instances if each.store}
        lanes = self._outbox.lanes.values()
        return {lane.lane for lane in lanes if lane.peer.id and lives.get(lane.peer.id, 0) > lane.peer.epoch}

    # --- after a restore of ours ------------------------------------------------------------------------------

    def probe(self) -> None:
        """Ask those who may know more of our lanes than we do."""
        if self._unsure:
            self._heed(self._store.commit(self._probes, name="probe", flush=True), self._send_probes)

    def look(self) -> None:
        """See whether there is somebody to be asked."""
        self._heed(self._store.read(lambda books: bool(unsure(books))), self._looked)

    def _probes(self, books: Books) -> list[tuple[LaneOut, Message]]:
        return [(lane, probe(lane, books, self._here)) for lane in unsure(books)]

    def _looked(self, is_unsure: bool) -> None:
        self._unsure |= is_unsure

    def _send_probes(self, probes: list[tuple[LaneOut, Message]]) -> None:
        self._unsure = bool(probes)
        for lane, message in probes:
            self._courier.tell(lane.service, lane.peer.id, message)

    def tops(self, message: Message) -> None:
        """A replier says how far it has received our lanes: what waits may be numbered, or is unknown for ever."""
        now = self._here.now()
        settled = self._store.commit(lambda books: settle_waiting(books, message, now), name="tops")
        self._heed(settled, self._settled)

    def _settled(self, lost: list[Call]) -> None:
        for call in lost:
            _log.error(
                "%s: what became of %s (%s) is not known: it waited when this store was put back",
                self._here.service,
                call.id,
                call.operation,
            )
            self._outbox.unknown(call)
        self._outbox.waiting = True

    # --- who the replier is -------------------------------------------------------------------------------

    def resync(self, message: Message) -> None:
        """A replier says which store, and which life of it, it is."""
        stamps = message.lane
        if stamps is None or stamps.caller_epoch != self._store.identity.epoch:
            return
        peer = Identity(stamps.replier_store, stamps.replier_epoch)
        lanes = [lane for lane in self._outbox.lanes.values() if lane.service == message.source]
        numbers: list[int] = []
        for lane in lanes:
            if lane.peer.id and lane.peer.id != peer.id and not self._rebinds(lane, peer):
                continue
            if lane.peer.id == peer.id and lane.peer.epoch >= peer.epoch:
                continue
            numbers.append(lane.lane)
        if numbers:
            floors = floors_of(message.data) if message.data else None
            now = self._here.now()
            bound = self._store.commit(lambda books: bind(books, numbers, peer, floors=floors, now=now), name="bind")
            self._heed(bound, self._bound)

    def _rebinds(self, lane: LaneOut, peer: Identity) -> bool:
        """Say whether a lane goes over to another store: only where nobody can have the old one any more."""
        there = {instance.store for instance in self._here.directory.present.get(lane.service, ()) if instance.store}
        if self._may_rebind and lane.peer.id not in there and peer.id in there:
            _log.warning(
                "%s -> %s: its store is another one now; what was asked of the old one is asked of this one",
                self._here.service,
                lane.service,
            )
            return True
        _log.error(
            "%s -> %s: an instance with another store than ours was asked of answered, and was not believed;"
            " `posthouse lanes map` says what is to become of the calls",
            self._here.service,
            lane.service,
        )
        return False

    def _bound(self, bound: Bound) -> None:
        for lane in bound.lanes:
            self._outbox.known_lane(lane)
            self._outbox.told.pop(lane.lane, None)
        for call in bound.taken_back:
            if call.place not in self._outbox.sent:
                self._outbox.remember(call)
        for service, first, last in bound.forgotten:
            _log.error(
                "%s -> %s: its store was put back to before calls %d to %d, which are not kept here any more, and"
                " cannot be asked for again (`posthouse restores`)",
                self._here.service,
                service,
                first,
                last,
            )
        if bound.redriven:
            _log.warning(
                "%s: a store was put back; %d calls that were done are asked for again",
                self._here.service,
                bound.redriven,
            )
        numbers = {lane.lane for lane in bound.lanes}
        self._hurry(lambda sent: lane_of(sent.place) in numbers)
