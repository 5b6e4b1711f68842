"""Who waits is rung, in the moments when that is easily missed; the slow poll is out of the way here."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.backends.sqlite import SqliteTransport
from posthouse.backends.sqlite import database as module
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec, Released
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.children import PATIENCE
from tests.unit.backends.sqlite.conftest import OpenTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be made good by the slow poll."""
    monkeypatch.setattr(module, "POLL", 1000.0)


async def receivers(transport: SqliteTransport, count: int) -> None:
    """Wait until so many processes wait for messages."""
    async with asyncio.timeout(PATIENCE):
        while (await transport.queues())[0].receivers != count:
            await asyncio.sleep(0)


async def test_one_that_stops_waiting_does_not_take_another_of_its_process_out(
    open_transport: OpenTransport, clock: ManualClock
):
    sender, transport = await open_transport("one"), await open_transport("two")
    await transport.declare(QueueSpec("hello"))
    impatient = asyncio.create_task(transport.receive("hello", credit=1, wait=5.0))
    await receivers(sender, 1)

    patient = asyncio.create_task(transport.receive("hello", credit=1, wait=1000.0))
    await asyncio.sleep(0)  # its operation is submitted, and not run yet
    clock.advance(6.0)
    assert await impatient == []
    await receivers(sender, 1)
    await sender.send([Outgoing("hello", b"tea")])

    async with asyncio.timeout(PATIENCE):
        assert [delivery.frame for delivery in await patient] == [b"tea"]


async def test_a_ring_for_one_who_waits_no_longer_goes_to_the_next(open_transport: OpenTransport):
    sender, gone, next_one = await open_transport("one"), await open_transport("two"), await open_transport("three")
    await sender.declare(QueueSpec("hello"))
    first = asyncio.create_task(gone.receive("hello", credit=1, wait=1000.0))
    await receivers(sender, 1)
    second = asyncio.create_task(next_one.receive("hello", credit=1, wait=1000.0))
    await receivers(sender, 2)

    sending = sender.send([Outgoing("hello", b"tea")])  # its transaction takes the first one out of the waiting ...
    first.cancel()  # ... who is gone when he is rung
    await asyncio.wait([first])
    await sending

    async with asyncio.timeout(PATIENCE):
        assert [delivery.frame for delivery in await second] == [b"tea"]


async def test_all_who_wait_in_one_process_share_what_came(open_transport: OpenTransport):
    sender, transport = await open_transport("one"), await open_transport("two")
    await sender.declare(QueueSpec("hello"))
    waiting = [asyncio.create_task(transport.receive("hello", credit=1, wait=1000.0)) for _ in range(3)]
    await receivers(sender, 1)

    await sender.send([Outgoing("hello", b"%d" % number) for number in range(2)])
    await sender.send([Outgoing("hello", b"2")])

    async with asyncio.timeout(PATIENCE):
        taken = [delivery.frame for deliveries in await asyncio.gather(*waiting) for delivery in deliveries]
    assert sorted(taken) == [b"0", b"1", b"2"]


async def test_a_busy_receiver_is_not_rung(open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch):
    sender, transport = await open_transport("one"), await open_transport("two")
    await sender.declare(QueueSpec("hello"))
    waiting = asyncio.create_task(transport.receive("hello", credit=1, wait=1000.0))
    await receivers(sender, 1)
    await sender.send([Outgoing("hello", b"1")])
    async with asyncio.timeout(PATIENCE):
        await waiting
    rung: list[int] = []

    def hear(number: int, role: int) -> None:
        del role
        rung.append(number)

    monkeypatch.setattr(transport._database, "queue_rung", hear)

    for _ in range(10):
        await sender.send([Outgoing("hello", b"tea")])
    for _ in range(3):
        await asyncio.sleep(0)

    assert rung == []


async def test_room_that_is_made_by_another_process_lets_a_held_sender_go_on(open_transport: OpenTransport):
    sender, transport = await open_transport("one"), await open_transport("two")
    await sender.declare(QueueSpec("hello", capacity=1, overflow="wait"))
    await sender.send([Outgoing("hello", b"1")])
    held = sender.send([Outgoing("hello", b"2")])
    [first] = await transport.receive("hello", credit=1)

    await transport.settle([(first, ACCEPTED)])

    async with asyncio.timeout(PATIENCE):
        await held
    assert [delivery.frame for delivery in await transport.receive("hello", credit=5)] == [b"2"]


async def test_what_comes_back_wakes_one_who_waits_in_another_process(open_transport: OpenTransport):
    one, two = await open_transport("one"), await open_transport("two")
    await one.declare(QueueSpec("hello"))
    await one.send([Outgoing("hello", b"tea")])
    [delivery] = await one.receive("hello", credit=1)
    waiting = asyncio.create_task(two.receive("hello", credit=1, wait=1000.0))
    await receivers(one, 2)

    await one.settle([(delivery, Released(failed=True))])

    async with asyncio.timeout(PATIENCE):
        [again] = await waiting
    assert (again.frame, again.attempt, again.failures) == (b"tea", 2, 1)


async def test_a_send_does_not_overtake_one_that_waits_for_the_same_room(open_transport: OpenTransport):
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello", capacity=2, overflow="wait"))
    await transport.send([Outgoing("hello", b"1"), Outgoing("hello", b"2")])
    large = asyncio.ensure_future(transport.send([Outgoing("hello", b"3"), Outgoing("hello", b"4")]))
    first, second = await transport.receive("hello", credit=2)
    await transport.settle([(first, ACCEPTED)])
    await transport.queues()  # the large one has been tried again by now

    small = asyncio.ensure_future(transport.send([Outgoing("hello", b"5")]))  # there is room for this one alone
    await transport.queues()
    assert not small.done()
    await transport.settle([(second, ACCEPTED)])

    async with asyncio.timeout(PATIENCE):
        await large
        deliveries = await transport.receive("hello", credit=10)
        await transport.settle([(delivery, ACCEPTED) for delivery in deliveries])
        await small
    assert [delivery.frame for delivery in deliveries] == [b"3", b"4"]
    assert [delivery.frame for delivery in await transport.receive("hello", credit=10)] == [b"5"]
