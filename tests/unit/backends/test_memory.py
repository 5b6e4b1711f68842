"""What the memory backend does beyond the contract: who shares a broker, how long it lives, whose time counts."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.backends.memory import Broker, MemoryRegistry, MemoryTransport, backend
from posthouse.clock import Instant
from posthouse.contracts.registry import Contract, Instance
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec, Released
from posthouse.errors import QueueFullError, QueueUnknownError, UnavailableError, UsageError
from posthouse.testing import ManualClock

pytestmark = pytest.mark.anyio

HELLO = "greeter.hello"
PATIENCE = 10.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def transport(clock: ManualClock):
    transport = MemoryTransport(Broker(), peer="one", clock=clock)
    await transport.open()
    yield transport
    await transport.close()


def to(queue: str, *frames: bytes) -> list[Outgoing]:
    return [Outgoing(queue, frame) for frame in frames]


async def take(transport: MemoryTransport, credit: int = 10) -> list[bytes]:
    return [delivery.frame for delivery in await transport.receive(HELLO, credit=credit)]


# --- who shares a broker -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "test-sharing"])
async def test_what_is_opened_by_one_name_is_one_engine(clock: ManualClock, name: str):
    one, registry = backend(name, peer="one", clock=clock)
    two, other_registry = backend(name, peer="two", clock=clock)
    users = (one, two, registry, other_registry)
    for user in users:
        await user.open()

    await one.declare(QueueSpec(HELLO))
    await registry.announce(Contract(service="greeter", version="1"))
    known = [info.spec.name for info in await two.queues()]
    announced = [contract.service for contract in await other_registry.contracts()]
    for user in users:
        await user.close()

    assert (known, announced) == ([HELLO], ["greeter"])


async def test_two_names_are_two_engines(clock: ManualClock):
    one, _ = backend("test-one", peer="one", clock=clock)
    two, _ = backend("test-two", peer="one", clock=clock)
    await one.open()
    await two.open()

    await one.declare(QueueSpec(HELLO))
    known = await two.queues()
    await one.close()
    await two.close()

    assert known == []


async def test_an_engine_forgets_all_when_its_last_user_closes_and_nothing_before(clock: ManualClock):
    one, registry = backend("test-forgetting", peer="one", clock=clock)
    await one.open()
    await registry.open()
    await one.declare(QueueSpec(HELLO))
    await registry.announce(Contract(service="greeter", version="1"))

    await one.close()
    await one.open()
    while_used = await one.queues()
    await one.close()
    await registry.close()
    await one.open()
    await registry.open()
    later = (await one.queues(), await registry.contracts())
    await one.close()
    await registry.close()

    assert [info.spec.name for info in while_used] == [HELLO]
    assert later == ([], [])


async def test_a_peer_name_is_given_once(transport: MemoryTransport, clock: ManualClock):
    one, _ = backend("test-peers", peer="one", clock=clock)
    again, _ = backend("test-peers", peer="one", clock=clock)
    await one.open()

    with pytest.raises(UsageError, match="already open as peer 'one'"):
        await again.open()

    await one.close()


def test_a_broker_belongs_to_one_loop_until_that_loop_is_closed():
    clock = ManualClock()
    broker = Broker("test-loops")
    first = MemoryTransport(broker, peer="one", clock=clock)
    second = MemoryTransport(broker, peer="two", clock=clock)

    async def left_open():
        await first.open()
        await first.declare(QueueSpec(HELLO))

        async def elsewhere():
            with pytest.raises(UsageError, match="another event loop"):
                await second.open()

        await asyncio.to_thread(asyncio.run, elsewhere())

    async def afterwards():
        await second.open()
        known = await second.queues()
        await second.close()
        return known

    asyncio.run(left_open())
    assert asyncio.run(afterwards()) == []


async def test_what_is_not_open_says_so(clock: ManualClock):
    transport, registry = backend("test-closed", peer="one", clock=clock)

    with pytest.raises(UnavailableError, match="not open"):
        await transport.send(to(HELLO, b"1"))
    with pytest.raises(UnavailableError, match="not open"):
        await registry.contracts()
    with pytest.raises(UsageError, match="not open"):
        transport.direct.send("two", b"1")


# --- whose time counts -------------------------------------------------------------------------------


class LoopClock:
    """Goes with the loop, as a simulated loop's clock does, and tells nobody that it moved."""

    def __init__(self, pace: float) -> None:
        self.pace = pace

    def now(self) -> Instant:
        return asyncio.get_running_loop().time() * self.pace


@pytest.mark.parametrize("pace", [1.0, 0.5], ids=["even", "slow"])
async def test_time_passes_with_the_loop_where_the_clock_tells_nobody(pace: float):
    clock = LoopClock(pace)
    transport = MemoryTransport(Broker(), peer="one", clock=clock, lease=0.02)
    await transport.open()
    await transport.declare(QueueSpec(HELLO))
    await transport.send(to(HELLO, b"1"))
    await transport.receive(HELLO, credit=1)

    async with asyncio.timeout(PATIENCE):
        [again] = await transport.receive(HELLO, credit=1, wait=10 * PATIENCE)
        await transport.settle([(again, Released(after=0.02))])
        [delayed] = await transport.receive(HELLO, credit=1, wait=10 * PATIENCE)
    await transport.close()

    assert (again.attempt, delayed.attempt) == (2, 3)


async def test_a_wait_ends_by_the_loop_s_time_even_if_the_clock_stands_still(transport: MemoryTransport):
    await transport.declare(QueueSpec(HELLO))

    assert await asyncio.wait_for(transport.receive(HELLO, credit=1, wait=0.01), PATIENCE) == []


async def test_a_wait_ends_by_the_clock_too(transport: MemoryTransport, clock: ManualClock):
    await transport.declare(QueueSpec(HELLO))
    waiting = asyncio.create_task(transport.receive(HELLO, credit=1, wait=3600.0))
    await asyncio.sleep(0)

    clock.advance("1h")

    assert await asyncio.wait_for(waiting, PATIENCE) == []


async def test_an_instance_whose_lease_runs_out_rings(clock: ManualClock):
    registry = MemoryRegistry(Broker(), clock=clock)
    rung = asyncio.Event()
    await registry.open()
    await registry.register([Instance(id="greeter-1", service="greeter", peer="one")])
    await asyncio.sleep(0)
    registry.watch(rung.set)

    clock.advance(3 * registry.heartbeat)

    await asyncio.wait_for(rung.wait(), PATIENCE)
    await registry.close()


async def test_all_changes_of_one_turn_ring_once(clock: ManualClock):
    registry = MemoryRegistry(Broker(), clock=clock)
    rings: list[int] = []
    rung = asyncio.Event()
    await registry.open()
    registry.watch(lambda: rings.append(1) or rung.set())

    for service in ("audit", "prices", "shop"):
        await registry.announce(Contract(service=service, version="1"))
    await asyncio.wait_for(rung.wait(), PATIENCE)
    rung.clear()
    await registry.forget("shop")
    await asyncio.wait_for(rung.wait(), PATIENCE)

    assert len(rings) == 2
    await registry.close()


# --- a full queue ------------------------------------------------------------------------------------


async def test_a_queue_that_drops_drops_a_delayed_message_when_that_is_its_oldest(
    transport: MemoryTransport, clock: ManualClock
):
    await transport.declare(QueueSpec(HELLO, capacity=2, overflow="drop-oldest"))
    await transport.send(to(HELLO, b"1", b"2"))
    [oldest] = await transport.receive(HELLO, credit=1)
    await transport.settle([(oldest, Released(after=5.0))])

    await transport.send(to(HELLO, b"3"))

    clock.advance(5.0)
    assert await take(transport) == [b"2", b"3"]


async def test_a_queue_that_drops_refuses_when_all_that_it_holds_is_delivered(transport: MemoryTransport):
    await transport.declare(QueueSpec(HELLO, capacity=1, overflow="drop-oldest"))
    await transport.send(to(HELLO, b"1"))
    await transport.receive(HELLO, credit=1)

    with pytest.raises(QueueFullError):
        await transport.send(to(HELLO, b"2"))


async def test_of_one_large_send_a_queue_that_drops_keeps_the_end(transport: MemoryTransport):
    await transport.declare(QueueSpec(HELLO, capacity=2, overflow="drop-oldest"))

    await transport.send(to(HELLO, b"1", b"2", b"3", b"4"))

    assert await take(transport) == [b"3", b"4"]


async def test_a_small_send_does_not_slip_past_a_large_one_that_waits(transport: MemoryTransport, clock: ManualClock):
    await transport.declare(QueueSpec(HELLO, capacity=3, overflow="wait"))
    await transport.send(to(HELLO, b"1", b"2"))
    large = asyncio.ensure_future(transport.send(to(HELLO, b"3", b"4")))
    clock.advance(4.0)
    small = asyncio.ensure_future(transport.send(to(HELLO, b"5")))
    [while_waiting] = await transport.queues()

    clock.advance(1.0)  # the large one has waited for as long as may be

    with pytest.raises(QueueFullError):
        await asyncio.wait_for(large, PATIENCE)
    await asyncio.wait_for(small, PATIENCE)
    assert while_waiting.stored == 2
    assert await take(transport) == [b"1", b"2", b"5"]


async def test_closing_refuses_what_this_peer_has_waiting_for_room(clock: ManualClock):
    broker = Broker()
    one, two = (MemoryTransport(broker, peer=peer, clock=clock) for peer in ("one", "two"))
    await one.open()
    await two.open()
    await one.declare(QueueSpec(HELLO, capacity=1, overflow="wait"))
    await one.send(to(HELLO, b"1"))
    mine, theirs = (asyncio.ensure_future(peer.send(to(HELLO, peer.direct.peer.encode()))) for peer in (two, one))

    await two.close()

    with pytest.raises(UnavailableError):
        await asyncio.wait_for(mine, PATIENCE)
    [delivery] = await one.receive(HELLO, credit=1)
    await one.settle([(delivery, ACCEPTED)])
    await asyncio.wait_for(theirs, PATIENCE)
    assert await take(one) == [b"one"]
    await one.close()


async def test_deleting_a_queue_sends_everybody_away_who_waits_for_it(transport: MemoryTransport):
    await transport.declare(QueueSpec(HELLO, capacity=1, overflow="wait"))
    await transport.send(to(HELLO, b"1"))
    await transport.receive(HELLO, credit=1)
    receiving = asyncio.create_task(transport.receive(HELLO, credit=1, wait=PATIENCE))
    sending = asyncio.ensure_future(transport.send(to(HELLO, b"2")))
    await asyncio.sleep(0)

    await transport.delete(HELLO)

    with pytest.raises(QueueUnknownError):
        await asyncio.wait_for(receiving, PATIENCE)
    with pytest.raises(QueueUnknownError):
        await asyncio.wait_for(sending, PATIENCE)
