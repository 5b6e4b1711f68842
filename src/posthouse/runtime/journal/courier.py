"""Where a journaled frame goes: to an instance that is there, or into the operation's queue.

Nothing here is promised: what gets lost is sent again by the outbox, whose books are the promise. A
request for a service of which no instance is there is left in its queue, so that it is found there by
the first one that comes, even when the caller is gone by then.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.contracts.transport import Outgoing
from posthouse.errors import PosthouseError
from posthouse.message.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthouse.clock import Seconds
    from posthouse.contracts.registry import Instance
    from posthouse.contracts.transport import Transport
    from posthouse.message.message import Message
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.steps.receiving import Answer

_log: Final = logging.getLogger("posthouse.journal")

SHUNNED: Final[Seconds] = 1.0
"""How long nothing is sent to a peer that could not be reached: the directory may name it until its lease is over."""


class Courier:
    """Carries the journaled frames of one service in this process."""

    def __init__(self, transport: Transport, directory: Directory) -> None:
        self._transport = transport
        self._direct = transport.direct
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self._turn = 0
        self._shunned: dict[str, float] = {}
        self._deposits: set[asyncio.Future[None]] = set()

    def lost(self, peer: str) -> None:
        """A peer could not be reached: let it be for a while, or what is sent again at once would come back at once."""
        now = self._loop.time()
        self._shunned = {peer: until for peer, until in self._shunned.items() if until > now}
        self._shunned[peer] = now + SHUNNED

    def instances(self, service: str, store: str) -> Sequence[Instance]:
        """Return the instances of a service that take requests: those on the store that is meant, if it is known."""
        instances = self._directory.instances(service)
        if self._shunned:
            now = self._loop.time()
            instances = [instance for instance in instances if self._shunned.get(instance.peer, 0.0) <= now]
        if not store:
            return instances
        return [instance for instance in instances if instance.store in {store, ""}]

    def ask(self, instances: Sequence[Instance], frames: Sequence[bytes]) -> list[str]:
        """Send requests to these instances, an even share to each; return to which peer each went."""
        count = len(instances)
        if count == 1:
            peer = instances[0].peer
            for frame in frames:
                self._direct.send(peer, frame)
            return [peer] * len(frames)
        share = -(-len(frames) // count)
        peers: list[str] = []
        for index, frame in enumerate(frames):
            peer = instances[(self._turn + index // share) % count].peer
            peers.append(peer)
            self._direct.send(peer, frame)
        self._turn += -(-len(frames) // share)
        return peers

    def deposit(self, requests: Sequence[tuple[str, bytes, Callable[[], None]]]) -> None:
        """Leave (operation, frame) in queues of services that nobody serves now; the third is called if that fails."""
        for operation, frame, failed in requests:  # each by itself: one full queue must not hold back the others
            stored = asyncio.ensure_future(self._transport.send((Outgoing(operation, frame),)))
            self._deposits.add(stored)
            stored.add_done_callback(partial(self._deposited, failed))

    def tell(self, service: str, store: str, message: Message) -> None:
        """Send a word or an ack to one instance of a service; to nobody when none is there."""
        instances = self.instances(service, store)
        if instances:
            self._turn += 1
            self._direct.send(instances[self._turn % len(instances)].peer, encode(message))

    def publishers(self, service: str) -> list[str]:
        """Return the processes that can say what a service has published: those that only ask have its store too."""
        now = self._loop.time()
        present = self._directory.present.get(service, ())
        peers = [each.peer for each in present if (each.serving or each.store) and not each.draining]
        return [peer for peer in dict.fromkeys(peers) if self._shunned.get(peer, 0.0) <= now]

    def pull(self, service: str, message: Message) -> None:
        """Send a question about events to one process of their publisher; to nobody when none is there."""
        peers = self.publishers(service)
        if peers:
            self._turn += 1
            self._direct.send(peers[self._turn % len(peers)], encode(message))

    def send(self, peer: str, frames: Sequence[bytes]) -> None:
        """Send frames to one process."""
        for frame in frames:
            self._direct.send(peer, frame)

    def spread(self, services: Sequence[str], frames: Sequence[bytes]) -> None:
        """Send events to one process of each service, and one copy to a process that has several of them."""
        chosen: dict[str, None] = {}
        for service in services:
            peers = [instance.peer for instance in self.instances(service, "")]
            if peers and not any(peer in chosen for peer in peers):
                self._turn += 1
                chosen[peers[self._turn % len(peers)]] = None
        for peer in chosen:
            self.send(peer, frames)

    def answer(self, answers: Sequence[Answer]) -> None:
        """Send answers to the instances that wait for them; where one is not known to live, to a sibling of it too."""
        peers = self._directory.peers
        for answer in answers:
            peer = answer.peer
            frame = encode(answer.message)
            if peer:
                self._direct.send(peer, frame)
            if answer.store and peer not in peers:  # it is dead, or only asks, and was never announced
                siblings = self._directory.of_store(answer.store)
                if siblings:
                    self._direct.send(siblings[0].peer, frame)

    async def close(self) -> None:
        """Wait for what is on its way into queues."""
        if self._deposits:
            await asyncio.wait(self._deposits)

    def _deposited(self, failed: Callable[[], None], stored: asyncio.Future[None]) -> None:
        self._deposits.discard(stored)
        if stored.cancelled():
            return
        error = stored.exception()
        if error is not None:
            failed()
        if isinstance(error, PosthouseError):  # it is in the books, and is sent when somebody is there
            _log.debug("a request could not be left in its queue: %s", error)
        elif error is not None:
            _log.error("leaving a request in its queue failed in a way that it should not", exc_info=error)
