"""The transport that fails to order: each fault strikes as often as it was ordered, and then no more."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.backends.memory import Broker, MemoryTransport
from posthouse.contracts.transport import ACCEPTED, Delivery, Outgoing, QueueSpec
from posthouse.errors import DiskFullError, UnavailableError
from posthouse.testing import FaultyTransport, ManualClock

pytestmark = pytest.mark.anyio

HELLO = "greeter.hello"
TEA = [Outgoing(HELLO, b"tea")]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def transport(clock: ManualClock):
    transport = FaultyTransport(MemoryTransport(Broker(), peer="one", clock=clock))
    await transport.open()
    await transport.declare(QueueSpec(HELLO))
    yield transport
    transport.heal()
    await transport.close()


async def receive(transport: FaultyTransport) -> list[Delivery]:
    return await transport.receive(HELLO, credit=10)


def frames(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.frame for delivery in deliveries]


async def test_a_refused_send_stores_nothing(transport: FaultyTransport):
    transport.fault("refuse send", times=2)

    for _ in range(2):
        with pytest.raises(UnavailableError):
            await transport.send(TEA)
    stored = await receive(transport)
    await transport.send(TEA)

    assert (frames(stored), frames(await receive(transport))) == ([], [b"tea"])


async def test_a_send_whose_confirmation_is_lost_is_stored(transport: FaultyTransport):
    transport.fault("lose confirmation")

    with pytest.raises(UnavailableError):
        await transport.send(TEA)

    assert frames(await receive(transport)) == [b"tea"]


async def test_a_message_may_be_stored_twice(transport: FaultyTransport):
    transport.fault("send twice")

    await transport.send(TEA)
    await transport.send([Outgoing(HELLO, b"milk")])

    assert frames(await receive(transport)) == [b"tea", b"tea", b"milk"]


async def test_a_refused_receive_takes_nothing(transport: FaultyTransport):
    await transport.send(TEA)
    transport.fault("refuse receive")

    with pytest.raises(UnavailableError):
        await receive(transport)

    assert [(d.frame, d.attempt) for d in await receive(transport)] == [(b"tea", 1)]


async def test_a_lost_settle_brings_the_message_again(transport: FaultyTransport, clock: ManualClock):
    await transport.send(TEA)
    transport.fault("lose settle")

    lost = await transport.settle([(delivery, ACCEPTED) for delivery in await receive(transport)])

    clock.advance(transport.lease)
    assert lost == []
    assert [(d.frame, d.attempt) for d in await receive(transport)] == [(b"tea", 2)]


async def test_a_lost_lease_is_reported_at_renewal(transport: FaultyTransport):
    await transport.send(TEA)
    held = await receive(transport)
    transport.fault("lose lease")

    assert (await transport.renew(held), await transport.renew(held)) == (held, [])


async def test_a_cut_transport_does_nothing_until_it_is_healed(transport: FaultyTransport):
    await transport.send(TEA)

    transport.cut(DiskFullError("no room"))
    for attempt in (lambda: transport.send(TEA), lambda: receive(transport), transport.queues):
        with pytest.raises(DiskFullError):
            await attempt()
    transport.heal()

    assert frames(await receive(transport)) == [b"tea"]


async def test_a_direct_frame_may_vanish(transport: FaultyTransport):
    heard: list[bytes] = []
    all_heard = asyncio.Event()

    def hear(_peer: str, frames: list[bytes]) -> None:
        heard.extend(frames)
        all_heard.set()

    transport.direct.listen(hear, lambda _peer, _frames: None)
    transport.fault("lose direct")

    for frame in (b"1", b"2"):
        transport.direct.send("one", frame)

    await asyncio.wait_for(all_heard.wait(), 10.0)
    assert heard == [b"2"]
