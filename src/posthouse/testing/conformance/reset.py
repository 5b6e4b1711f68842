"""An engine whose data is wiped while it is used: it says so, is empty, and goes on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from posthouse.contracts.transport import ACCEPTED, QueueSpec, Rejected, Transport
from posthouse.errors import QueueUnknownError, UnavailableError
from posthouse.testing.conformance.engine import OnOneEngine, WipeEngine, frames_of, to

HELLO = "greeter.hello"
MET = "people.met"


class ResetTests(OnOneEngine):
    """What is gone, and that nothing must be restarted."""

    async def wipe(self, wipe_engine: WipeEngine, *peers: Transport) -> None:
        """Wipe the engine, and wait until these peers are told."""
        told = [asyncio.Event() for _ in peers]
        for peer, event in zip(peers, told, strict=True):
            peer.on_reset(event.set)
        await wipe_engine()
        async with asyncio.timeout(self.patience):
            for event in told:
                await event.wait()

    async def test_a_wiped_engine_holds_nothing(self, wipe_engine: WipeEngine, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.bind(MET, HELLO)
        await transport.send(to(HELLO, b"1", b"2"))
        [delivery] = await transport.receive(HELLO, credit=1)
        await transport.settle([(delivery, Rejected("parked", "code", "reason"))])

        await self.wipe(wipe_engine, transport, other)

        assert [(await peer.bindings(), await peer.dead()) for peer in (transport, other)] == [([], []), ([], [])]

    async def test_what_was_held_is_lost(self, wipe_engine: WipeEngine, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2"))
        held = await transport.receive(HELLO, credit=2)

        await self.wipe(wipe_engine, transport)
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"3", b"4"))
        new = await transport.receive(HELLO, credit=2)

        assert frames_of(await transport.renew(held)) == [b"1", b"2"]
        assert frames_of(await transport.settle([(delivery, ACCEPTED) for delivery in held])) == [b"1", b"2"]
        assert await transport.settle([(delivery, ACCEPTED) for delivery in new]) == []

    async def test_a_send_to_a_queue_that_is_gone_is_not_confirmed(self, wipe_engine: WipeEngine, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        await self.wipe(wipe_engine, transport)

        with pytest.raises((QueueUnknownError, UnavailableError)):
            await transport.send(to(HELLO, b"tea"))

    async def test_queues_that_are_made_again_deliver(
        self, wipe_engine: WipeEngine, transport: Transport, other: Transport
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"lost"))

        await self.wipe(wipe_engine, transport, other)
        await other.declare(QueueSpec(HELLO))
        await other.send(to(HELLO, b"tea"))

        assert frames_of(await self.take(transport, HELLO, 1)) == [b"tea"]

    async def test_who_waits_is_told_that_the_queue_is_gone_or_waits_on(
        self, wipe_engine: WipeEngine, transport: Transport
    ):
        await transport.declare(QueueSpec(HELLO))
        waiting = asyncio.create_task(self.take(transport, HELLO, 1))
        await transport.queues()  # its own turn has passed, so it waits by now

        await self.wipe(wipe_engine, transport)
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))

        with suppress(QueueUnknownError):
            assert frames_of(await waiting) == [b"tea"]

    @pytest.mark.needs("direct")
    async def test_the_direct_path_goes_on(self, wipe_engine: WipeEngine, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        arrived = asyncio.Event()
        transport.direct.listen(lambda _, __: None, lambda _, __: None)
        other.direct.listen(lambda _, __: arrived.set(), lambda _, __: None)

        await self.wipe(wipe_engine, transport, other)
        transport.direct.send("two", b"tea")

        async with asyncio.timeout(self.patience):
            await arrived.wait()

    async def test_every_peer_is_told_that_all_is_gone(
        self, wipe_engine: WipeEngine, transport: Transport, other: Transport
    ):
        await transport.declare(QueueSpec(HELLO))

        await self.wipe(wipe_engine, transport, other)

        assert (await transport.queues(), await other.queues()) == ([], [])
