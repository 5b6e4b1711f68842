"""Dead letters: what was rejected is kept with the reason, until someone replays or drops it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from posthouse.contracts.transport import QueueSpec, Rejected, Released, Transport
from posthouse.errors import QueueUnknownError
from posthouse.testing.conformance.engine import OnOneEngine, PassTime, every_test_needs, frames_of, to, tries_of

if TYPE_CHECKING:
    from posthouse.testing.clock import ManualClock

HELLO = "greeter.hello"
BYE = "greeter.bye"
PARKED = Rejected("parked", "handler.failed", "no tea", "Traceback: ...\nbrew()")
FAILED = Rejected("failed", "deadline.expired", "too late")


@every_test_needs("dead_letters")
class LetterTests(OnOneEngine):
    """Dead letters."""

    async def reject(self, transport: Transport, queue: str, *frames: bytes, outcome: Rejected = PARKED):
        """Send, receive and reject these."""
        await transport.send(to(queue, *frames))
        deliveries = await self.take(transport, queue, len(frames))
        assert await transport.settle([(delivery, outcome) for delivery in deliveries]) == []

    async def test_a_rejected_message_is_kept_with_the_reason_and_never_delivered_again(
        self, transport: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))

        await self.reject(transport, HELLO, b"tea")

        [letter] = await transport.dead()
        assert (letter.queue, letter.frame, letter.outcome) == (HELLO, b"tea", PARKED)
        await pass_time(2 * transport.lease)
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_dead_letter_says_how_often_it_was_tried_and_when_it_ended(
        self, transport: Transport, pass_time: PassTime, clock: ManualClock
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, Released())])
        await pass_time(10.0)

        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, FAILED)])

        [letter] = await transport.dead()
        assert (letter.attempts, letter.outcome.state) == (2, "failed")
        assert letter.at == pytest.approx(clock.now(), abs=1.0)

    async def test_dead_letters_are_listed_oldest_first_whoever_asks(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE))
        await self.reject(transport, HELLO, b"1")
        await self.reject(transport, BYE, b"2")
        await self.reject(transport, HELLO, b"3")

        letters = await other.dead()

        assert [letter.frame for letter in letters] == [b"1", b"2", b"3"]

    async def test_the_dead_letters_of_one_queue_are_listed_without_the_others(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE))
        await self.reject(transport, HELLO, b"1")
        await self.reject(transport, BYE, b"2")

        letters = await transport.dead(queue=BYE)

        assert [letter.frame for letter in letters] == [b"2"]

    async def test_pages_of_dead_letters_hold_each_of_them_once(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        frames = [b"%d" % number for number in range(12)]
        await self.reject(transport, HELLO, *frames)

        pages: list[list[bytes]] = []
        after = ""
        while page := await transport.dead(after=after, limit=5):
            pages.append([letter.frame for letter in page])
            after = page[-1].id

        assert pages == [frames[:5], frames[5:10], frames[10:]]

    async def test_a_replayed_message_starts_anew(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, Released())])
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, PARKED)])
        [letter] = await transport.dead()

        replayed = await other.replay([letter.id])

        assert replayed == [letter.id]
        assert await transport.dead() == []
        assert tries_of(await self.take(transport, HELLO, 1)) == [(b"tea", 1, 0)]

    async def test_only_the_named_ones_are_replayed_each_into_its_own_queue(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE))
        await self.reject(transport, HELLO, b"1", b"2")
        await self.reject(transport, BYE, b"3")
        first, second, third = await transport.dead()

        replayed = await transport.replay([first.id, third.id, "not-there"])

        assert sorted(replayed) == sorted([first.id, third.id])
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"1"]
        assert frames_of(await self.take(transport, BYE, 1)) == [b"3"]
        assert [letter.id for letter in await transport.dead()] == [second.id]

    async def test_replaying_twice_delivers_once(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await self.reject(transport, HELLO, b"tea")
        [letter] = await transport.dead()

        replayed = [*await transport.replay([letter.id, letter.id]), *await transport.replay([letter.id])]

        assert replayed == [letter.id]
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"tea"]
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_replayed_message_that_is_rejected_again_is_a_dead_letter_again(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await self.reject(transport, HELLO, b"tea")
        [first] = await transport.dead()
        await transport.replay([first.id])
        [delivery] = await self.take(transport, HELLO, 1)

        await transport.settle([(delivery, FAILED)])

        [second] = await transport.dead()
        assert (second.frame, second.outcome, second.attempts) == (b"tea", FAILED, 1)

    async def test_dead_letters_are_replayed_into_a_full_queue_too(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=1))
        await self.reject(transport, HELLO, b"1")
        await transport.send(to(HELLO, b"2"))
        [letter] = await transport.dead()

        await transport.replay([letter.id])

        assert frames_of(await self.take(transport, HELLO, 2)) == [b"2", b"1"]

    async def test_none_is_replayed_when_the_queue_of_one_is_gone_and_its_letter_stays(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE))
        await self.reject(transport, HELLO, b"1")
        await self.reject(transport, BYE, b"2")
        await transport.delete(BYE)
        letters = await transport.dead()

        with pytest.raises(QueueUnknownError):
            await transport.replay([letter.id for letter in letters])

        assert [letter.frame for letter in letters] == [b"1", b"2"]
        assert await transport.dead() == letters
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_dropped_dead_letter_is_gone(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await self.reject(transport, HELLO, b"1", b"2")
        first, second = await transport.dead()

        dropped = await transport.drop([first.id, "not-there"])

        assert dropped == [first.id]
        assert [letter.id for letter in await transport.dead()] == [second.id]
        assert await transport.receive(HELLO, credit=10) == []
