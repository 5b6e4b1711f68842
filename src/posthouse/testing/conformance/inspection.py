"""Looking into queues: counting and peeking change nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from posthouse.contracts.transport import ACCEPTED, QueueInfo, QueueSpec, Rejected, Released, Transport
from posthouse.testing.conformance.engine import OnOneEngine, PassTime, every_test_needs, frames_of, to, tries_of
from posthouse.testing.conformance.waiting import turns

if TYPE_CHECKING:
    from posthouse.testing.clock import ManualClock

HELLO = "greeter.hello"
BYE = "greeter.bye"


@every_test_needs("inspection")
class InspectionTests(OnOneEngine):
    """Counting and peeking."""

    async def info(self, transport: Transport, queue: str) -> QueueInfo:
        """Return what one queue holds."""
        return {info.spec.name: info for info in await transport.queues()}[queue]

    async def test_a_queue_shows_what_it_may_hold(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE, capacity=5, overflow="wait"))
        spec = QueueSpec(HELLO, capacity=7, capacity_bytes=700, overflow="drop-oldest", owner="greeter")

        await other.declare(spec)

        infos = await transport.queues()
        assert sorted((info.spec for info in infos), key=lambda spec: spec.name) == [
            QueueSpec(BYE, capacity=5, overflow="wait"),
            spec,
        ]

    async def test_an_empty_queue_counts_nothing(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        info = await self.info(transport, HELLO)

        assert (info.stored, info.stored_bytes, info.leased, info.delayed, info.dead) == (0, 0, 0, 0, 0)
        assert info.oldest is None

    async def test_stored_leased_and_delayed_messages_are_counted(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"22", b"333", b"4444"))
        done, later, _ = await self.take(transport, HELLO, 3)
        await transport.settle([(done, ACCEPTED), (later, Released(after=60.0))])

        info = await self.info(other, HELLO)

        assert (info.stored, info.stored_bytes, info.leased, info.delayed) == (3, 9, 1, 1)

    async def test_a_lease_that_ran_out_and_a_delay_that_is_over_are_not_counted(
        self, transport: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2"))
        later, _ = await self.take(transport, HELLO, 2)
        await transport.settle([(later, Released(after=5.0))])

        await pass_time(transport.lease + 1.0)

        info = await self.info(transport, HELLO)
        assert (info.stored, info.leased, info.delayed) == (2, 0, 0)

    @pytest.mark.needs("dead_letters")
    async def test_dead_letters_are_counted_beside_what_is_stored(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE))
        await transport.send(to(HELLO, b"1", b"22"))
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, Rejected("parked", "handler.failed", "no tea"))])

        hello, bye = await self.info(transport, HELLO), await self.info(transport, BYE)

        assert (hello.stored, hello.stored_bytes, hello.dead) == (1, 2, 1)
        assert bye.dead == 0

    async def test_the_oldest_message_says_since_when_it_waits(
        self, transport: Transport, pass_time: PassTime, clock: ManualClock
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1"))
        since = clock.now()
        await pass_time(20.0)
        await transport.send(to(HELLO, b"2"))

        before = await self.info(transport, HELLO)
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, ACCEPTED)])
        after = await self.info(transport, HELLO)

        assert before.oldest == pytest.approx(since, abs=1.0)
        assert after.oldest == pytest.approx(since + 20.0, abs=1.0)

    async def test_those_who_wait_for_messages_are_counted(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        assert (await self.info(transport, HELLO)).receivers == 0
        waiting = [
            asyncio.create_task(peer.receive(HELLO, credit=1, wait=self.patience)) for peer in (transport, other)
        ]

        receivers = 0
        async with asyncio.timeout(self.patience):
            while receivers < 2:  # an engine may need a while to know that somebody waits
                await turns(1)
                receivers = (await self.info(transport, HELLO)).receivers

        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert receivers == 2

    async def test_who_has_closed_is_not_counted_as_a_receiver(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        await self.take(other, HELLO, 1)

        await other.close()

        assert (await self.info(transport, HELLO)).receivers == 0

    async def test_peeking_shows_the_oldest_and_takes_nothing(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2", b"3"))

        seen = await other.peek(HELLO, limit=2)

        assert frames_of(seen) == [b"1", b"2"]
        assert tries_of(await self.take(transport, HELLO, 3)) == [(b"1", 1, 0), (b"2", 1, 0), (b"3", 1, 0)]

    async def test_what_was_peeked_at_cannot_be_settled(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1"))
        seen = await transport.peek(HELLO)

        lost = await transport.settle([(delivery, ACCEPTED) for delivery in seen])

        assert frames_of(lost) == [b"1"]
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"1"]
