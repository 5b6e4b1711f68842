"""What happens to a send when there is no room: all of it is stored, or none."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.contracts.transport import ACCEPTED, Overflow, QueueSpec, Rejected, Released, Transport
from posthouse.errors import QueueFullError
from posthouse.testing.conformance.engine import OnOneEngine, PassTime, every_test_needs, frames_of, tell, to
from posthouse.testing.conformance.waiting import SOME_TURNS, turns

HELLO = "greeter.hello"
BYE = "greeter.bye"
NEVER = Rejected("parked", "handler.failed", "no tea")


@every_test_needs("capacity")
class CapacityTests(OnOneEngine):
    """Capacity in messages and bytes; reject, wait, drop-oldest."""

    # --- reject --------------------------------------------------------------------------------------

    async def test_a_full_queue_refuses_a_message_and_says_what_it_may_hold(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=2))
        await transport.send(to(HELLO, b"1", b"2"))

        with pytest.raises(QueueFullError) as refused:
            await transport.send(to(HELLO, b"3"))

        assert (refused.value.queue, refused.value.capacity) == (HELLO, 2)
        assert frames_of(await self.take(transport, HELLO, 2)) == [b"1", b"2"]
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_queue_that_is_full_of_bytes_refuses_a_message(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity_bytes=10))
        await transport.send(to(HELLO, b"1234", b"56789"))

        with pytest.raises(QueueFullError) as refused:
            await transport.send(to(HELLO, b"xy"))
        await transport.send(to(HELLO, b"x"))

        assert refused.value.capacity == 10
        assert frames_of(await self.take(transport, HELLO, 3)) == [b"1234", b"56789", b"x"]

    async def test_a_send_that_does_not_fit_as_a_whole_stores_nothing(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=2))

        with pytest.raises(QueueFullError):
            await transport.send(to(HELLO, b"1", b"2", b"3"))

        assert await transport.receive(HELLO, credit=10) == []

    async def test_one_full_queue_refuses_a_send_to_several(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE, capacity=1))
        await transport.send(to(BYE, b"1"))

        with pytest.raises(QueueFullError):
            await transport.send([*to(HELLO, b"2"), *to(BYE, b"3")])

        assert await transport.receive(HELLO, credit=10) == []

    async def test_one_full_queue_refuses_what_is_told_to_its_topic(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE, capacity=1))
        await transport.bind("greeter.met", HELLO)
        await transport.bind("greeter.met", BYE)
        await transport.send(to(BYE, b"1"))

        with pytest.raises(QueueFullError):
            await transport.send(tell("greeter.met", b"2"))

        assert await transport.receive(HELLO, credit=10) == []

    async def test_sends_of_one_turn_fail_each_for_itself(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=2))

        sends = [transport.send(to(HELLO, *frames)) for frames in ((b"1",), (b"2", b"3"), (b"4",))]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [type(None), QueueFullError, type(None)]
        assert frames_of(await self.take(transport, HELLO, 2)) == [b"1", b"4"]

    async def test_a_delivered_message_takes_room_until_it_is_settled(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=1))
        await transport.send(to(HELLO, b"1"))
        [delivery] = await self.take(transport, HELLO, 1)
        with pytest.raises(QueueFullError):
            await transport.send(to(HELLO, b"2"))

        await transport.settle([(delivery, ACCEPTED)])

        await transport.send(to(HELLO, b"3"))
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"3"]

    async def test_a_delayed_message_takes_room(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=1))
        await transport.send(to(HELLO, b"1"))
        [delivery] = await self.take(transport, HELLO, 1)

        await transport.settle([(delivery, Released(after=60.0))])

        with pytest.raises(QueueFullError):
            await transport.send(to(HELLO, b"2"))

    @pytest.mark.needs("dead_letters")
    async def test_a_dead_letter_takes_no_room(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=1, capacity_bytes=5))
        await transport.send(to(HELLO, b"12345"))
        [delivery] = await self.take(transport, HELLO, 1)

        await transport.settle([(delivery, NEVER)])

        await transport.send(to(HELLO, b"67890"))
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"67890"]

    @pytest.mark.parametrize("overflow", ["reject", "wait", "drop-oldest"])
    async def test_a_message_larger_than_the_queue_is_refused_at_once(self, transport: Transport, overflow: Overflow):
        await transport.declare(QueueSpec(HELLO, capacity_bytes=3, overflow=overflow))
        await transport.send(to(HELLO, b"1"))

        async with asyncio.timeout(min(self.patience, self.overflow_wait / 2)):
            with pytest.raises(QueueFullError):
                await transport.send(to(HELLO, b"2345"))

        assert frames_of(await self.take(transport, HELLO, 1)) == [b"1"]

    async def test_new_limits_count_from_now_on_and_drop_nothing(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=3))
        await transport.send(to(HELLO, b"1", b"2", b"3"))

        await other.declare(QueueSpec(HELLO, capacity=2))
        with pytest.raises(QueueFullError):
            await transport.send(to(HELLO, b"4"))
        await other.declare(QueueSpec(HELLO, capacity=4))
        await transport.send(to(HELLO, b"5"))

        assert frames_of(await self.take(transport, HELLO, 4)) == [b"1", b"2", b"3", b"5"]

    # --- wait ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("settler", ["the same peer", "another peer"])
    async def test_a_sender_is_held_back_until_there_is_room(
        self, transport: Transport, other: Transport, settler: str
    ):
        await transport.declare(QueueSpec(HELLO, capacity=1, overflow="wait"))
        await transport.send(to(HELLO, b"1"))
        receiver = transport if settler == "the same peer" else other
        [delivery] = await self.take(receiver, HELLO, 1)
        sending = asyncio.ensure_future(transport.send(to(HELLO, b"2")))
        await turns(SOME_TURNS)
        assert not sending.done()

        await receiver.settle([(delivery, ACCEPTED)])

        async with asyncio.timeout(self.patience):
            await sending
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"2"]

    async def test_a_sender_that_is_held_back_is_let_in_when_the_queue_may_hold_more(
        self, transport: Transport, other: Transport
    ):
        await transport.declare(QueueSpec(HELLO, capacity=1, overflow="wait"))
        await transport.send(to(HELLO, b"1"))
        sending = asyncio.ensure_future(transport.send(to(HELLO, b"2")))
        await turns(SOME_TURNS)

        await other.declare(QueueSpec(HELLO, capacity=2, overflow="wait"))

        async with asyncio.timeout(self.patience):
            await sending
        assert frames_of(await self.take(transport, HELLO, 2)) == [b"1", b"2"]

    async def test_a_sender_that_was_held_back_long_enough_is_refused_and_nothing_is_stored(
        self, transport: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO, capacity=1, overflow="wait"))
        await transport.send(to(HELLO, b"1"))
        sending = asyncio.ensure_future(transport.send(to(HELLO, b"2")))
        await turns(SOME_TURNS)

        await pass_time(self.overflow_wait + 1.0)

        async with asyncio.timeout(self.patience + self.overflow_wait):
            with pytest.raises(QueueFullError):
                await sending
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, ACCEPTED)])
        assert await transport.receive(HELLO, credit=10) == []

    async def test_senders_that_were_held_back_are_served_in_their_order(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=1, overflow="wait"))
        await transport.send(to(HELLO, b"1"))
        sends = [asyncio.ensure_future(transport.send(to(HELLO, frame))) for frame in (b"2", b"3", b"4")]
        await turns(SOME_TURNS)

        served: list[bytes] = []
        for _ in range(4):
            [delivery] = await self.take(transport, HELLO, 1)
            served.append(delivery.frame)
            await transport.settle([(delivery, ACCEPTED)])

        async with asyncio.timeout(self.patience):
            await asyncio.gather(*sends)
        assert served == [b"1", b"2", b"3", b"4"]

    async def test_a_sender_that_stops_waiting_for_room_takes_nothing_back(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=1, overflow="wait"))
        await transport.send(to(HELLO, b"1"))

        async def sender() -> None:
            await transport.send(to(HELLO, b"2"))

        sending = asyncio.create_task(sender())
        await turns(SOME_TURNS)
        sending.cancel()
        await asyncio.wait([sending])
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, ACCEPTED)])

        assert frames_of(await self.take(transport, HELLO, 1)) == [b"2"]

    # --- drop-oldest ---------------------------------------------------------------------------------

    async def test_a_queue_that_drops_keeps_its_youngest_messages(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=3, overflow="drop-oldest"))
        await transport.send(to(HELLO, b"1", b"2", b"3"))

        await transport.send(to(HELLO, b"4"))
        await transport.send(to(HELLO, b"5"))

        assert frames_of(await self.take(transport, HELLO, 3)) == [b"3", b"4", b"5"]
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_queue_that_drops_makes_room_in_bytes(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity_bytes=10, overflow="drop-oldest"))
        await transport.send(to(HELLO, b"1234", b"567", b"890"))

        await transport.send(to(HELLO, b"abcde"))

        assert frames_of(await self.take(transport, HELLO, 2)) == [b"890", b"abcde"]
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_queue_that_drops_does_not_drop_what_is_delivered(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=2, overflow="drop-oldest"))
        await transport.send(to(HELLO, b"1", b"2"))
        [delivery] = await self.take(transport, HELLO, 1)

        await transport.send(to(HELLO, b"3"))

        assert await transport.settle([(delivery, ACCEPTED)]) == []
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"3"]
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_queue_that_drops_has_room_again_for_what_was_settled(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO, capacity=2, capacity_bytes=10, overflow="drop-oldest"))

        for number in range(5):
            await transport.send(to(HELLO, b"%08d" % number))
            [delivery] = await self.take(transport, HELLO, 1)
            assert await transport.settle([(delivery, ACCEPTED)]) == []

        await transport.send(to(HELLO, b"12345", b"67890"))
        assert frames_of(await self.take(transport, HELLO, 2)) == [b"12345", b"67890"]
