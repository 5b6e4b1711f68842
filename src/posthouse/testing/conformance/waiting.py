"""Waiting for a message: who waits is woken, and who gives up takes nothing with him."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.contracts.transport import QueueSpec, Released, Transport
from posthouse.errors import PosthouseError
from posthouse.testing.conformance.engine import OnOneEngine, PassTime, frames_of, to

HELLO = "greeter.hello"
SOME_TURNS = 5


async def turns(count: int) -> None:
    """Let the loop go round, so that whoever can begin to wait does."""
    for _ in range(count):
        await asyncio.sleep(0)


class WaitingTests(OnOneEngine):
    """Waiting, and giving up."""

    async def test_a_wait_without_a_message_ends_with_nothing(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        async with asyncio.timeout(self.patience):
            delivered = await transport.receive(HELLO, credit=1, wait=0.01)

        assert delivered == []

    @pytest.mark.parametrize("sender", ["the same peer", "another peer"])
    async def test_a_message_wakes_who_waits_for_it(self, transport: Transport, other: Transport, sender: str):
        await transport.declare(QueueSpec(HELLO))
        waiting = asyncio.create_task(self.take(transport, HELLO, 1))
        await turns(SOME_TURNS)

        await (transport if sender == "the same peer" else other).send(to(HELLO, b"tea"))

        assert frames_of(await waiting) == [b"tea"]

    async def test_who_waits_is_given_no_more_than_its_credit(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        waiting = asyncio.create_task(transport.receive(HELLO, credit=2, wait=self.patience))
        await turns(SOME_TURNS)

        await transport.send(to(HELLO, b"1", b"2", b"3"))

        assert frames_of(await waiting) == [b"1", b"2"]
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"3"]

    async def test_each_of_two_who_wait_is_woken(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        waiting = [asyncio.create_task(self.take(peer, HELLO, 1)) for peer in (transport, other)]
        await turns(SOME_TURNS)

        await transport.send(to(HELLO, b"1"))
        await transport.send(to(HELLO, b"2"))

        batches = await asyncio.gather(*waiting)
        assert sorted(frame for batch in batches for frame in frames_of(batch)) == [b"1", b"2"]

    async def test_messages_of_one_send_wake_as_many_as_they_need(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        waiting = [asyncio.create_task(self.take(peer, HELLO, 1)) for peer in (transport, other, transport)]
        await turns(SOME_TURNS)

        await transport.send(to(HELLO, b"1", b"2", b"3"))

        batches = await asyncio.gather(*waiting)
        assert sorted(frame for batch in batches for frame in frames_of(batch)) == [b"1", b"2", b"3"]

    async def test_a_wait_that_is_canceled_takes_no_message(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        waiting = asyncio.create_task(transport.receive(HELLO, credit=1, wait=self.patience))
        await turns(SOME_TURNS)

        waiting.cancel()
        await asyncio.wait([waiting])
        await transport.send(to(HELLO, b"tea"))

        assert waiting.cancelled()
        assert frames_of(await self.take(other, HELLO, 1)) == [b"tea"]

    @pytest.mark.parametrize("late", range(6))
    async def test_a_wait_that_is_canceled_just_as_its_message_comes_loses_nothing(
        self, transport: Transport, other: Transport, late: int
    ):
        await transport.declare(QueueSpec(HELLO))
        waiting = asyncio.create_task(transport.receive(HELLO, credit=1, wait=self.patience))
        await turns(SOME_TURNS)

        sent = asyncio.ensure_future(transport.send(to(HELLO, b"tea")))
        await turns(late)
        waiting.cancel()
        await asyncio.wait([waiting])
        await sent

        given = [] if waiting.cancelled() else frames_of(waiting.result())
        left = [] if given else frames_of(await self.take(other, HELLO, 1))
        assert given + left == [b"tea"]

    @pytest.mark.parametrize("late", range(4))
    async def test_a_wait_that_is_canceled_does_not_keep_its_message_from_the_next_who_waits(
        self, transport: Transport, late: int
    ):
        await transport.declare(QueueSpec(HELLO))
        first = asyncio.create_task(transport.receive(HELLO, credit=1, wait=self.patience))
        await turns(SOME_TURNS)
        second = asyncio.create_task(self.take(transport, HELLO, 1))
        await turns(SOME_TURNS)

        sent = asyncio.ensure_future(transport.send(to(HELLO, b"tea")))
        await turns(late)
        first.cancel()
        await asyncio.wait([first])
        await sent

        given = [] if first.cancelled() else frames_of(first.result())
        if given:
            second.cancel()
            await asyncio.wait([second])
        left = [] if given else frames_of(await second)
        assert given + left == [b"tea"]

    async def test_a_release_wakes_who_waits(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)
        waiting = asyncio.create_task(self.take(other, HELLO, 1))
        await turns(SOME_TURNS)

        await transport.settle([(delivery, Released())])

        assert frames_of(await waiting) == [b"tea"]

    @pytest.mark.needs("delay")
    async def test_a_message_that_falls_due_wakes_who_waits(self, transport: Transport, pass_time: PassTime):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, Released(after=5.0))])
        waiting = asyncio.create_task(self.take(transport, HELLO, 1))
        await turns(SOME_TURNS)

        await pass_time(6.0)

        assert frames_of(await waiting) == [b"tea"]

    @pytest.mark.needs("delay")
    async def test_a_message_that_is_delayed_while_somebody_waits_wakes_him_when_it_falls_due(
        self, transport: Transport, other: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)
        waiting = asyncio.create_task(self.take(other, HELLO, 1))
        await turns(SOME_TURNS)

        await transport.settle([(delivery, Released(after=5.0))])
        await pass_time(6.0)

        assert frames_of(await waiting) == [b"tea"]

    async def test_a_lease_that_runs_out_wakes_who_waits(
        self, transport: Transport, other: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        await self.take(transport, HELLO, 1)
        waiting = asyncio.create_task(self.take(other, HELLO, 1))
        await turns(SOME_TURNS)

        await pass_time(transport.lease + 1.0)

        assert frames_of(await waiting) == [b"tea"]

    async def test_closing_ends_the_waits_of_this_peer(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        waiting = asyncio.create_task(other.receive(HELLO, credit=1, wait=10 * self.patience))
        await turns(SOME_TURNS)

        await other.close()

        ended, _ = await asyncio.wait([waiting], timeout=self.patience)
        assert ended == {waiting}
        error = waiting.exception()
        assert isinstance(error, PosthouseError) or waiting.result() == []
