"""The publisher's side of events: stores them, pushes them to whoever hears them, answers those who missed some.

What was pushed is not looked after: a subscription knows what it has had, and asks for the rest.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from posthouse.errors import PosthouseError, UnavailableError
from posthouse.message.codec import encode
from posthouse.message.message import Mode
from posthouse.message.names import service_of
from posthouse.runtime.steps.pulling import answer
from posthouse.runtime.steps.telling import Pushed, drop_old, tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.store import Store
    from posthouse.message.message import Message
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.telling import Telling
    from posthouse.runtime.timers import Timer, Timers

_log: Final = logging.getLogger("posthouse.journal")

FORGET: Final[Seconds] = 60.0
"""How often events whose time is over are looked for."""

AT_ONCE: Final = 128
"""The most events of one step."""


class Publisher:
    """All that one service tells, as far as this process has to do with it."""

    def __init__(self, store: Store, here: Here, courier: Courier, *, timers: Timers) -> None:
        self._store = store
        self._here = here
        self._courier = courier
        self._timers = timers
        self._loop = asyncio.get_running_loop()
        self._telling: list[tuple[Telling, asyncio.Future[None]]] = []
        self._timer: Timer | None = None
        self._closed = False

    def open(self) -> None:
        """Begin to forget what is old."""
        self._timer = self._timers.call_later(FORGET, self._forget)

    def close(self) -> None:
        """Tell nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    # --- telling --------------------------------------------------------------------------------------------

    def tell(self, telling: Telling) -> asyncio.Future[None]:
        """Store an event, and push it once it is on the disk; the future is done when it is there.

        Raises (when awaited):
            IdReusedError: its id stands for another event.
            NotStoredError: it could not be stored.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        if self._closed:
            done.set_exception(UnavailableError("the journal was closed"))
            return done
        if not self._telling:
            self._loop.call_soon(self._tell_all)
        self._telling.append((telling, done))
        return done

    def push(self, pushed: Iterable[Pushed | PosthouseError]) -> None:
        """Send events that are on the disk, one copy to each process that hears them."""
        topics: dict[str, list[bytes]] = {}
        for each in pushed:
            if isinstance(each, Pushed) and each.frame:
                topics.setdefault(each.topic, []).append(each.frame)
        for topic, frames in topics.items():
            self._courier.spread(self._hearers(topic), frames)

    def _tell_all(self) -> None:
        everything, self._telling = self._telling, []
        for first in range(0, len(everything), AT_ONCE):
            self._tell_some(everything[first : first + AT_ONCE])

    def _tell_some(self, some: Sequence[tuple[Telling, asyncio.Future[None]]]) -> None:
        batch = [telling for telling, _done in some]
        stored = self._store.commit(
            lambda books: tell(books, batch, self._here), name="tell", flush=True, weight=len(batch)
        )
        stored.add_done_callback(lambda stored: self._told(some, stored))

    def _told(
        self,
        some: Sequence[tuple[Telling, asyncio.Future[None]]],
        stored: asyncio.Future[list[Pushed | PosthouseError]],
    ) -> None:
        if stored.cancelled():  # the store was closed under it
            error: BaseException | None = UnavailableError("the journal was closed")
        else:
            error = stored.exception()
        results = [error] * len(some) if error is not None else stored.result()
        for (_telling, done), result in zip(some, results, strict=True):
            if done.done():
                continue
            if isinstance(result, BaseException):
                done.set_exception(result)
            else:
                done.set_result(None)
        if error is None:
            self.push(stored.result())

    def _hearers(self, topic: str) -> list[str]:
        """Return the services that hear a topic, each once."""
        records = self._here.directory.subscriptions.get(topic, ())
        return list(dict.fromkeys(service_of(each.name) for each in records if each.mode is Mode.JOURNALED))

    # --- questions ------------------------------------------------------------------------------------------

    def asked(self, question: Message) -> None:
        """Answer a subscriber that asks for what it misses."""
        answered = self._store.commit(
            lambda books: answer(books, question, self._here), name="answer pull", flush=True, weight=8
        )

        def send(done: asyncio.Future[tuple[list[bytes], Message]]) -> None:
            if done.cancelled() or self._closed:
                return
            if (error := done.exception()) is not None:  # it asks again
                _say("a subscriber could not be answered", self._here.service, error)
                return
            frames, heads = done.result()
            self._courier.send(question.reply_to, [*frames, encode(heads)])

        answered.add_done_callback(send)

    # --- retention ------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._timer = self._timers.call_later(FORGET, self._forget)
        self._forget_some()

    def _forget_some(self) -> None:
        def then(done: asyncio.Future[int]) -> None:
            if done.cancelled() or self._closed:
                return
            if (error := done.exception()) is not None:  # the next look tries again
                _say("old events could not be dropped", self._here.service, error)
            elif done.result():  # only so many go in one step
                self._forget_some()

        self._store.commit(lambda books: drop_old(books, self._here.now()), name="drop events").add_done_callback(then)


def _say(what: str, service: str, error: BaseException) -> None:
    if isinstance(error, PosthouseError):
        _log.warning("%s: %s: %s", service, what, error)
    else:
        _log.error("%s: %s, in a way that it should not", service, what, exc_info=error)
