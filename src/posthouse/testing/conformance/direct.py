"""The direct path: frames to one peer, in order, kept nowhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from posthouse.testing.conformance.engine import MakeTransport, OnOneEngine, every_test_needs

if TYPE_CHECKING:
    from posthouse.clock import Seconds
    from posthouse.contracts.transport import Transport

Batch = tuple[str, bytes]


class Ear:
    """Listens on a peer's direct path, and notes what it hears.

    Attributes:
        heard: (peer, frame) of each that arrived.
        lost: (peer, frame) of each that could not be delivered.
        batches: how many frames came together, each time.
    """

    def __init__(self, transport: Transport, patience: Seconds) -> None:
        self.heard: list[Batch] = []
        self.lost: list[Batch] = []
        self.batches: list[int] = []
        self._news = asyncio.Event()
        self._patience = patience
        transport.direct.listen(self._hear, self._lose)

    def _hear(self, peer: str, frames: list[bytes]) -> None:
        self.batches.append(len(frames))
        self.heard += [(peer, frame) for frame in frames]
        self._news.set()

    def _lose(self, peer: str, frames: list[bytes]) -> None:
        self.lost += [(peer, frame) for frame in frames]
        self._news.set()

    async def until(self, *, heard: int = 0, lost: int = 0) -> None:
        """Wait until there is so much news."""
        async with asyncio.timeout(self._patience):
            while len(self.heard) < heard or len(self.lost) < lost:
                self._news.clear()
                await self._news.wait()


@every_test_needs("direct")
class DirectTests(OnOneEngine):
    """The direct path."""

    async def test_frames_arrive_in_order_from_the_peer_that_sent_them(self, transport: Transport, other: Transport):
        one, two = Ear(transport, self.patience), Ear(other, self.patience)
        sent = [b"%d" % number for number in range(100)]

        for frame in sent:
            transport.direct.send(other.direct.peer, frame)

        await two.until(heard=100)
        assert two.heard == [(transport.direct.peer, frame) for frame in sent]
        assert (one.heard, one.lost) == ([], [])

    async def test_frames_of_several_turns_arrive_in_order(self, transport: Transport, other: Transport):
        Ear(transport, self.patience)
        two = Ear(other, self.patience)
        sent = [b"%d" % number for number in range(10)]

        for frame in sent:
            transport.direct.send(other.direct.peer, frame)
            await asyncio.sleep(0)

        await two.until(heard=10)
        assert [frame for _, frame in two.heard] == sent

    async def test_frames_of_one_turn_are_handed_over_in_fewer_calls(self, transport: Transport, other: Transport):
        Ear(transport, self.patience)
        two = Ear(other, self.patience)

        for _ in range(50):
            transport.direct.send(other.direct.peer, b"tea")

        await two.until(heard=50)
        assert len(two.batches) < 50

    async def test_the_peer_that_a_frame_came_from_can_be_answered(self, transport: Transport, other: Transport):
        one, two = Ear(transport, self.patience), Ear(other, self.patience)
        transport.direct.send(other.direct.peer, b"ask")
        await two.until(heard=1)
        [(asker, _)] = two.heard

        other.direct.send(asker, b"answer")

        await one.until(heard=1)
        assert one.heard == [(other.direct.peer, b"answer")]

    async def test_a_peer_can_send_to_itself(self, transport: Transport):
        one = Ear(transport, self.patience)

        transport.direct.send(transport.direct.peer, b"tea")

        await one.until(heard=1)
        assert one.heard == [(transport.direct.peer, b"tea")]

    @pytest.mark.parametrize(
        "frame", [b"", bytes(range(256)), bytes(range(256)) * 4096], ids=["empty", "every byte", "1 MiB"]
    )
    async def test_a_direct_frame_arrives_byte_for_byte(self, transport: Transport, other: Transport, frame: bytes):
        Ear(transport, self.patience)
        two = Ear(other, self.patience)

        transport.direct.send(other.direct.peer, frame)
        transport.direct.send(other.direct.peer, b"after it")

        await two.until(heard=2)
        assert [frame for _, frame in two.heard] == [frame, b"after it"]

    async def test_frames_to_a_peer_that_is_not_there_are_reported_lost(self, transport: Transport):
        one = Ear(transport, self.patience)

        transport.direct.send("nobody", b"1")
        transport.direct.send("nobody", b"2")

        await one.until(lost=2)
        assert one.lost == [("nobody", b"1"), ("nobody", b"2")]

    async def test_frames_to_a_peer_that_has_closed_are_reported_lost(self, transport: Transport, other: Transport):
        one, two = Ear(transport, self.patience), Ear(other, self.patience)
        transport.direct.send(other.direct.peer, b"1")
        await two.until(heard=1)

        await other.close()
        transport.direct.send(other.direct.peer, b"2")

        await one.until(lost=1)
        assert one.lost == [(other.direct.peer, b"2")]
        assert len(two.heard) == 1

    async def test_nothing_is_kept_for_a_peer_that_comes_later(
        self, transport: Transport, make_transport: MakeTransport
    ):
        one = Ear(transport, self.patience)
        later = make_transport("three")
        transport.direct.send(later.direct.peer, b"too soon")
        await one.until(lost=1)

        three = Ear(later, self.patience)
        await later.open()
        transport.direct.send(later.direct.peer, b"in time")
        await three.until(heard=1)
        await later.close()

        assert [frame for _, frame in three.heard] == [b"in time"]

    async def test_a_lost_peer_does_not_keep_frames_from_the_others(self, transport: Transport, other: Transport):
        one, two = Ear(transport, self.patience), Ear(other, self.patience)

        transport.direct.send("nobody", b"1")
        transport.direct.send(other.direct.peer, b"2")

        await one.until(lost=1)
        await two.until(heard=1)
        assert two.heard == [(transport.direct.peer, b"2")]
