"""The subscriber's side of events: takes them in, and asks their publishers for what is missing.

A question is asked when a subscription is made, when a process of the publisher comes, soon after something
is seen to be missing, and every few seconds, since the last events of all can be missed without a sign.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.errors import PosthouseError
from posthouse.message.names import service_of
from posthouse.runtime.steps.feeding import Feeding, are_ready, subscribe, take_heads
from posthouse.runtime.steps.pulling import PORTION, heads_of, pull, want

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet
    from random import Random

    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books, Store
    from posthouse.declare.target import Subscription
    from posthouse.message.message import Message
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.journal.inbox import Inbox
    from posthouse.runtime.steps.feeding import Fed
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.pulling import Want
    from posthouse.runtime.timers import Timer, Timers

_log: Final = logging.getLogger("posthouse.journal")

PULL: Final[Seconds] = 5.0
"""How often every publisher is asked, whether or not anything is known to be missing."""

SOON: Final[Seconds] = 0.2
"""How long after something was seen to be missing its publisher is asked: it may only be late."""

UNANSWERED: Final[Seconds] = 2.0
"""After which a question counts as lost."""

FIRST_HEADS: Final[Seconds] = 2.0
"""How long the start of a service waits to hear where its new subscriptions begin."""

AT_ONCE: Final = 128
"""The most events of one step."""


class Source:
    """A service whose events are heard here.

    Attributes:
        service: its name.
        subscriptions: those that hear it.
        fresh: names of those that are being made now.
        asked: when it was asked a question that was not answered yet; 0 for none.
        timer: set for the next question.
        left: names of subscriptions that were not asked for, or did not take all, since they have no room to run it.
        moved: something that was new here came of it since it was asked.
        heard: is set when it has answered for the first time.
        peers: its processes, as they were when it was asked last.
    """

    __slots__ = ("asked", "fresh", "heard", "left", "moved", "peers", "service", "subscriptions", "timer")

    def __init__(self, service: str) -> None:
        self.service = service
        self.subscriptions: list[Subscription] = []
        self.fresh: set[str] = set()
        self.asked = 0.0
        self.timer: Timer | None = None
        self.left: set[str] = set()
        self.moved = False
        self.heard = asyncio.Event()
        self.peers: frozenset[str] = frozenset()


class Subscriber:
    """All that one service hears, as far as this process has to do with it."""

    def __init__(
        self, store: Store, here: Here, courier: Courier, inbox: Inbox, *, timers: Timers, rng: Random
    ) -> None:
        self._store = store
        self._here = here
        self._courier = courier
        self._inbox = inbox
        self._timers = timers
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._sources: dict[str, Source] = {}
        self._arrived: list[tuple[Message, bytes]] = []
        self._pulling = False
        self._watches = False
        inbox.on_room = self._has_room

    # --- life ---------------------------------------------------------------------------------------------

    async def declare(self, subscriptions: Sequence[Subscription]) -> None:
        """Enter subscriptions in the store; from now on their events are taken in.

        Raises:
            UnavailableError: the store cannot be used now.
        """
        names = [(each.name, each.event.name) for each in subscriptions]

        fresh = set[str]()
        if names:
            fresh = await self._store.commit(
                lambda books: subscribe(books, names, self._here.now()), name="subscribe", flush=True
            )
        topics: dict[str, list[str]] = {}
        self._sources = {}
        for each in subscriptions:
            topics.setdefault(each.event.name, []).append(each.name)
            service = service_of(each.event.name)
            source = self._sources.setdefault(service, Source(service))
            source.subscriptions.append(each)
            if each.name in fresh:
                source.fresh.add(each.name)
        self._here.subscriptions = topics

    async def begin(self) -> None:
        """Ask all publishers; wait a little for those that are there to say where new subscriptions begin.

        Raises:
            UnavailableError: the store cannot be used now.
        """
        self._pulling = True
        if not self._watches:
            self._watches = True
            self._here.directory.on_change(self._somebody_came)
        for source in self._sources.values():
            self._ask(source)
        waiting = [source for source in self._sources.values() if source.fresh and source.asked]
        try:
            async with asyncio.timeout(FIRST_HEADS):
                for source in waiting:
                    await source.heard.wait()
        except TimeoutError:
            _log.warning(
                "%s: %s did not say in time where new subscriptions begin; they begin with what it told since a minute"
                " before they were made",
                self._here.service,
                ", ".join(source.service for source in waiting if not source.heard.is_set()),
            )
        made = sorted({name for source in self._sources.values() for name in source.fresh})
        if made:  # from now on they miss nothing, also where another instance of ours is still waiting for heads
            await self._store.commit(lambda books: are_ready(books, made), name="subscriptions ready", flush=True)
        for source in self._sources.values():
            source.fresh.clear()
        for source in waiting:
            if not source.heard.is_set():
                source.asked = 0.0
                self._ask(source)

    def stop(self) -> None:
        """Ask for nothing more."""
        self._pulling = False
        for source in self._sources.values():
            if source.timer is not None:
                source.timer.cancel()

    # --- what arrives -------------------------------------------------------------------------------------

    def arrive(self, events: Iterable[tuple[Message, bytes]]) -> None:
        """Take in events."""
        if not self._arrived:
            self._loop.call_soon(self._take_all)
        self._arrived.extend(events)

    def told(self, message: Message) -> None:
        """A publisher says how its streams stand."""
        source = self._sources.get(message.source)
        stamps = message.lane
        if source is None or stamps is None:
            return
        try:
            heads = heads_of(message.data)
        except msgspec.DecodeError as error:
            _log.error("%s: what %s says of its events cannot be read: %s", self._here.service, source.service, error)
            return
        source.asked = 0.0
        fresh = frozenset(source.fresh)
        if self._arrived:  # what came before this word is taken before it, or it would be asked for again
            self._take_all()
        self._inbox.feed(
            lambda books, _room: take_heads(books, heads, stamps, self._here, fresh),
            lambda fed: self._heads_taken(source, fed),
            name="heads",
        )

    def _take_all(self) -> None:
        everything, self._arrived = self._arrived, []
        for first in range(0, len(everything), AT_ONCE):
            some = everything[first : first + AT_ONCE]
            self._inbox.feed(
                lambda books, room, some=some: Feeding(books, self._here, room).take(some),
                self._taken,
                name="hear",
                weight=len(some),
            )

    def _has_room(self, name: str) -> None:
        """Something could be run again: ask for what was left."""
        for source in self._sources.values():
            if name in source.left:
                source.left.discard(name)
                if not source.asked:  # else its answer is looked at anyway
                    self._ask(source)

    def _taken(self, fed: Fed) -> None:
        for service in fed.took:
            if (source := self._sources.get(service)) is not None:
                source.moved = True
        for name, service in fed.left:
            if (source := self._sources.get(service)) is None:
                continue
            if not self._inbox.has_room(name):
                source.left.add(name)
            elif not source.asked:  # there is again by now
                self._ask_in(source, 0.0)
        for service in fed.asks:
            if (source := self._sources.get(service)) is not None and not source.asked:
                self._ask_in(source, SOON)

    def _heads_taken(self, source: Source, fed: Fed) -> None:
        for gap in fed.gaps:
            _log.error(
                "%s: events %d to %d of %s are lost to it: %s does not keep them any more",
                self._here.service,
                gap.first,
                gap.last,
                gap.event,
                gap.publisher,
            )
        for publisher in fed.new_lives:
            _log.warning(
                "%s: the store of %s was put back or copied; events that it has forgotten, and that were not heard"
                " here, are lost",
                self._here.service,
                publisher,
            )
        source.moved |= fed.moved
        if fed.asks or fed.behind - source.left:  # there is more, and what was asked for has come before this word
            self._ask_in(source, 0.0 if source.moved else SOON)  # where nothing comes, it is not asked for at once
        source.heard.set()

    # --- questions ------------------------------------------------------------------------------------------

    def _somebody_came(self) -> None:
        if not self._pulling:
            return
        for source in self._sources.values():
            peers = self._peers(source)
            if peers - source.peers:
                source.asked = 0.0
                self._ask(source)
            source.peers = peers

    def _peers(self, source: Source) -> frozenset[str]:
        return frozenset(self._courier.publishers(source.service))

    def _ask_in(self, source: Source, wait: Seconds) -> None:
        if not self._pulling:
            return
        if source.timer is not None:
            source.timer.cancel()
        source.timer = self._timers.call_later(wait, self._ask, source)

    def _ask(self, source: Source) -> None:
        """Ask a publisher for what is missing, unless a question is under way."""
        now = self._timers.time()
        self._ask_in(source, PULL * self._rng.uniform(0.5, 1.0))
        if not self._pulling or (source.asked and now < source.asked + UNANSWERED):
            return
        source.peers = self._peers(source)
        if not source.peers:
            return
        source.asked = now or 1e-9
        source.moved = False
        source.left = {each.name for each in source.subscriptions if not self._inbox.has_room(each.name)}
        full = frozenset(source.left)
        done = self._store.read(lambda books: self._wants(books, source, full))
        done.add_done_callback(lambda done: self._asked(source, done))

    def _wants(self, books: Books, source: Source, full: AbstractSet[str]) -> list[Want]:
        created = {each.name: each.created for each in books.subscribed()}
        return [
            want(
                books,
                each.name,
                each.event.name,
                created=created.get(each.name, 0.0),
                fresh=each.name in source.fresh,
                first=each.start == "first",
                limit=0 if each.name in full else PORTION,
                here=self._here,
            )
            for each in source.subscriptions
        ]

    def _asked(self, source: Source, done: asyncio.Future[list[Want]]) -> None:
        if done.cancelled() or not self._pulling:
            return
        if (error := done.exception()) is None:
            self._courier.pull(source.service, pull(done.result(), service=source.service, here=self._here))
        elif isinstance(error, PosthouseError):  # the timer asks again
            _log.warning("%s: what is missing of %s is not known yet: %s", self._here.service, source.service, error)
        else:
            _log.error("%s: asking for events failed in a way that it should not", self._here.service, exc_info=error)
