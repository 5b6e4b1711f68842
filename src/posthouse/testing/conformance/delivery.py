"""Sending and receiving: what was confirmed is delivered, to one receiver, as it was sent."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.contracts.transport import ACCEPTED, QueueSpec, Transport
from posthouse.errors import QueueUnknownError
from posthouse.testing.conformance.engine import MakeTransport, OnOneEngine, frames_of, to, tries_of

HELLO = "greeter.hello"
BYE = "greeter.bye"


class DeliveryTests(OnOneEngine):
    """Sending and receiving."""

    async def test_a_confirmed_message_is_delivered_as_its_first_attempt(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        await transport.send(to(HELLO, b"tea"))

        [delivery] = await self.take(transport, HELLO, 1)
        assert (delivery.queue, delivery.frame, delivery.attempt, delivery.failures) == (HELLO, b"tea", 1, 0)

    async def test_a_message_from_one_peer_is_delivered_to_another(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))

        await transport.send(to(HELLO, b"tea"))

        assert frames_of(await self.take(other, HELLO, 1)) == [b"tea"]

    async def test_an_empty_queue_delivers_nothing(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        delivered = await transport.receive(HELLO, credit=10)

        assert delivered == []

    async def test_a_message_is_not_delivered_twice_while_its_lease_is_good(
        self, transport: Transport, other: Transport
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))

        await self.take(transport, HELLO, 1)

        assert await transport.receive(HELLO, credit=10) == []
        assert await other.receive(HELLO, credit=10) == []

    async def test_two_receivers_at_once_share_the_messages_and_none_goes_to_both(
        self, transport: Transport, other: Transport
    ):
        await transport.declare(QueueSpec(HELLO))
        sent = [b"%d" % number for number in range(40)]
        await transport.send(to(HELLO, *sent))

        batches = await asyncio.gather(
            *(peer.receive(HELLO, credit=10, wait=self.patience) for peer in (transport, other, transport, other))
        )

        delivered = [frame for batch in batches for frame in frames_of(batch)]
        assert sorted(delivered) == sorted(sent)

    async def test_messages_come_oldest_first(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2"))
        await transport.send(to(HELLO, b"3"))

        delivered = await self.take(transport, HELLO, 3)

        assert frames_of(delivered) == [b"1", b"2", b"3"]

    async def test_sends_of_one_turn_of_the_loop_are_stored_in_the_order_of_the_calls(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        sent = [b"%d" % number for number in range(20)]

        confirmed = [transport.send(to(HELLO, frame)) for frame in sent]
        for confirmation in confirmed:
            await confirmation

        assert frames_of(await self.take(transport, HELLO, 20)) == sent

    async def test_no_more_messages_are_delivered_than_credit_allows(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2", b"3", b"4", b"5"))

        first = await transport.receive(HELLO, credit=2, wait=self.patience)
        second = await transport.receive(HELLO, credit=1, wait=self.patience)
        rest = await self.take(transport, HELLO, 2)

        assert frames_of(first) == [b"1", b"2"]
        assert frames_of(second) == [b"3"]
        assert frames_of(rest) == [b"4", b"5"]

    async def test_a_queue_delivers_only_its_own_messages(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(BYE))

        await transport.send([*to(HELLO, b"1"), *to(BYE, b"2"), *to(HELLO, b"3")])

        assert frames_of(await self.take(transport, HELLO, 2)) == [b"1", b"3"]
        assert frames_of(await self.take(transport, BYE, 1)) == [b"2"]
        assert await transport.receive(HELLO, credit=10) == []

    @pytest.mark.parametrize(
        "frame",
        [b"", bytes(range(256)), b"\x00" * 3, b"\r\n\x00'\";--", bytes(range(256)) * 4096],
        ids=["empty", "every byte", "zeros", "quotes", "1 MiB"],
    )
    async def test_a_frame_arrives_byte_for_byte(self, transport: Transport, other: Transport, frame: bytes):
        await transport.declare(QueueSpec(HELLO))

        await transport.send(to(HELLO, frame))

        [delivery] = await self.take(other, HELLO, 1)
        assert delivery.frame == frame

    async def test_sending_to_a_queue_that_nobody_declared_is_an_error_and_stores_nothing(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        with pytest.raises(QueueUnknownError):
            await transport.send([*to(HELLO, b"1"), *to("greeter.unheard", b"2")])

        assert await transport.receive(HELLO, credit=10) == []

    async def test_receiving_from_a_queue_that_nobody_declared_is_an_error(self, transport: Transport):
        with pytest.raises(QueueUnknownError):
            await transport.receive("greeter.unheard", credit=1)

    async def test_a_send_of_no_message_is_done_at_once(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        await transport.send([])

        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_message_is_on_its_way_once_send_was_called_whoever_stops_waiting(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        async def sender() -> None:
            await transport.send(to(HELLO, b"tea"))

        waiting = asyncio.create_task(sender())
        await asyncio.sleep(0)  # it has called, and waits for the confirmation
        waiting.cancel()
        await asyncio.wait([waiting])

        assert frames_of(await self.take(transport, HELLO, 1)) == [b"tea"]

    async def test_declaring_a_queue_again_keeps_what_it_holds(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))

        await other.declare(QueueSpec(HELLO, capacity=7))

        assert frames_of(await self.take(transport, HELLO, 1)) == [b"tea"]

    async def test_a_deleted_queue_is_gone_with_all_that_it_held(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))

        await transport.delete(HELLO)

        with pytest.raises(QueueUnknownError):
            await transport.send(to(HELLO, b"milk"))
        await transport.declare(QueueSpec(HELLO))
        assert await transport.receive(HELLO, credit=10) == []

    async def test_deleting_a_queue_that_is_not_there_is_no_error(self, transport: Transport):
        await transport.delete("greeter.unheard")

        assert await transport.queues() == []

    async def test_what_was_accepted_makes_room_for_the_same_bytes_again(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [first] = await self.take(transport, HELLO, 1)
        await transport.settle([(first, ACCEPTED)])

        await transport.send(to(HELLO, b"tea"))

        assert tries_of(await self.take(transport, HELLO, 1)) == [(b"tea", 1, 0)]

    @pytest.mark.needs("durable")
    async def test_a_confirmed_message_outlives_everybody_who_had_the_engine_open(
        self, transport: Transport, make_transport: MakeTransport
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        await transport.close()

        later = make_transport("three")
        await later.open()
        delivered = await self.take(later, HELLO, 1)
        await later.close()

        assert tries_of(delivered) == [(b"tea", 1, 0)]

    @pytest.mark.parametrize("owner", ["two", "two-1"], ids=["its peer", "an instance"])
    async def test_an_ephemeral_queue_goes_with_the_peer_that_declared_it(
        self, transport: Transport, other: Transport, owner: str
    ):
        await other.declare(QueueSpec(HELLO, ephemeral=owner))
        await transport.declare(QueueSpec(BYE))

        await other.close()

        with pytest.raises(QueueUnknownError):
            await transport.send(to(HELLO, b"tea"))
        assert [info.spec.name for info in await transport.queues()] == [BYE]

    async def test_an_ephemeral_queue_stays_while_its_peer_is_there(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO, ephemeral="one"))
        await transport.send(to(HELLO, b"tea"))

        await other.close()

        assert frames_of(await self.take(transport, HELLO, 1)) == [b"tea"]
