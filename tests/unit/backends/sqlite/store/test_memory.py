"""What a store in memory can do beyond the contract: die, and have the power cut under it."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.backends.sqlite.store import MemoryDisk, SqliteStore, memory_store
from posthouse.clock import Clock
from posthouse.errors import UnavailableError, UsageError
from posthouse.testing import ManualClock
from posthouse.testing.conformance.stores.bench import TABLES, order, orders
from posthouse.testing.loop import LoopClock, simulate
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio


def the_store(clock: Clock, *, name: str = "memory of a test", service: str = "prices") -> SqliteStore:
    """Return a store that is not open."""
    return memory_store(name, service=service, instance="one", clock=clock)


async def lanes(store: SqliteStore) -> list[str]:
    """Return the services to which there are lanes."""
    return [lane.service for lane in await store.read(lambda books: books.lanes_out())]


# --- power cuts -------------------------------------------------------------------------------------------


async def test_a_power_cut_loses_what_was_committed_after_the_last_flush(disk: MemoryDisk, open_memory: OpenStore):
    store = await open_memory()
    await store.commit(lambda books: books.open_lane_out("before"), name="open")
    await store.commit(lambda books: books.open_lane_out("flushed"), name="open", flush=True)
    await store.commit(lambda books: books.open_lane_out("after"), name="open")

    disk.power_cut("prices")

    again = await open_memory()
    assert await lanes(again) == ["before", "flushed"]
    assert again.identity == store.identity


async def test_a_handler_that_was_told_of_its_end_has_it_after_a_power_cut(disk: MemoryDisk, open_memory: OpenStore):
    store = await open_memory()
    told, untold = await store.tail(), store.tail()
    await order(told, 1)
    await told.end(lambda books: None)
    tail = await untold
    await order(tail, 2)

    disk.power_cut("prices")

    assert await orders(await open_memory()) == [1]


async def test_after_a_power_cut_the_store_can_be_used_as_before(disk: MemoryDisk, open_memory: OpenStore):
    await open_memory()
    disk.power_cut("prices")
    disk.power_cut("prices")
    store = await open_memory()

    tail = await store.tail()
    await order(tail, 1)
    await tail.end(lambda books: books.open_lane_out("stock"))

    assert await orders(store) == [1]
    assert await lanes(store) == ["stock"]


async def test_a_power_cut_under_one_service_is_not_seen_by_another(
    disk: MemoryDisk, open_memory: OpenStore, clock: ManualClock
):
    await open_memory()
    another = the_store(clock, name=disk.name, service="stock")
    await another.open()
    await another.commit(lambda books: books.open_lane_out("mail"), name="open")

    disk.power_cut("prices")

    assert await lanes(another) == ["mail"]
    await another.close()


async def test_a_disk_that_does_not_remember_refuses_a_power_cut():
    with MemoryDisk("forgetful") as disk, pytest.raises(UsageError):
        disk.power_cut("prices")


# --- an instance that dies -----------------------------------------------------------------------------------


async def test_who_dies_is_told_nothing_and_what_was_under_way_did_not_happen(open_memory: OpenStore):
    dying, other = await open_memory("one"), await open_memory("two")
    holding = await other.tail()
    step = dying.commit(lambda books: books.open_lane_out("stock"), name="open", flush=True)
    waits = asyncio.ensure_future(dying.tail())
    for _ in range(5):
        await asyncio.sleep(0)

    dying.abandon()

    late = dying.commit(lambda books: books.open_lane_out("mail"), name="open")
    holding.give_up()
    assert await lanes(other) == []
    assert (step.done(), waits.done(), late.done()) == (False, False, False)
    waits.cancel()


async def test_the_open_transaction_of_one_that_dies_is_rolled_back_and_others_go_on(open_memory: OpenStore):
    dying, other = await open_memory("one"), await open_memory("two")
    tail = await dying.tail()
    await order(tail, 1)
    waits = asyncio.ensure_future(other.tail())
    await asyncio.sleep(0)

    dying.abandon()

    following = await waits
    with pytest.raises(UnavailableError):
        await order(tail, 2)
    await order(following, 3)
    await following.end(lambda books: None)
    tail.give_up()
    assert await orders(other) == [3]


async def test_one_that_dies_while_it_waits_is_not_given_the_slot(open_memory: OpenStore):
    dying, holding, other = await open_memory("one"), await open_memory("two"), await open_memory("three")
    tail = await holding.tail()
    waits = asyncio.ensure_future(dying.tail())
    for _ in range(3):
        await asyncio.sleep(0)

    dying.abandon()
    tail.give_up()

    (await other.tail()).give_up()
    assert not waits.done()
    waits.cancel()


async def test_one_that_dies_just_as_it_gets_the_slot_keeps_it_from_nobody(open_memory: OpenStore):
    for turns in range(8):
        dying, holding = await open_memory("one"), await open_memory("two")
        tail = await holding.tail()
        waits = asyncio.ensure_future(dying.tail())
        for _ in range(3):
            await asyncio.sleep(0)

        tail.give_up()
        for _ in range(turns):
            await asyncio.sleep(0)
        dying.abandon()

        (await holding.tail()).give_up()
        waits.cancel()


async def test_what_the_dead_committed_is_there_for_who_comes_next(clock: ManualClock):
    store, following = the_store(clock), the_store(clock)
    await store.open()
    await store.commit(lambda books: books.open_lane_out("stock"), name="open")

    store.abandon()

    await following.open()
    assert following.identity == store.identity
    assert await lanes(following) == ["stock"]
    await following.close()


async def test_an_instance_that_a_test_says_is_dead_is_told(disk: MemoryDisk, open_memory: OpenStore):
    store = await open_memory()
    await store.commit(lambda books: books.beat("two", 2e9), name="beat")
    before = await store.read(lambda books: books.dead(0.0))

    disk.database("prices").dead.add("two")

    assert (before, await store.read(lambda books: books.dead(0.0))) == ([], ["two"])


# --- what lies where, and for how long -----------------------------------------------------------------------


async def test_stores_of_other_services_and_names_are_others(clock: ManualClock):
    stores = [
        the_store(clock),
        the_store(clock, service="stock"),
        the_store(clock, name="another name"),
    ]
    for store in stores:
        await store.open()

    assert len({store.identity.id for store in stores}) == 3
    for store in stores:
        await store.close()


async def test_when_the_last_one_closes_a_store_that_nobody_holds_is_gone(clock: ManualClock):
    one, two, later = the_store(clock), the_store(clock), the_store(clock)
    await one.open()
    await two.open()
    await one.close()
    still = two.identity
    await two.close()

    await later.open()

    assert still == one.identity != later.identity
    await later.close()


def test_a_store_that_nobody_closed_or_holds_is_gone_with_its_loop():
    async def leave() -> str:
        store = the_store(LoopClock())
        await store.open()
        tail = await store.tail()
        await tail.execute("CREATE TABLE mine (n INTEGER)")
        return store.identity.id

    async def come() -> str:
        store = the_store(LoopClock())
        await store.open()
        await store.commit(lambda books: books.open_lane_out("stock"), name="open")
        await store.close()
        return store.identity.id

    assert simulate(leave()) != simulate(come())


def test_a_store_on_a_disk_that_is_held_outlives_the_loop():
    async def visit() -> list[str]:
        store = the_store(LoopClock(), name="held")
        await store.open()
        await store.commit(lambda books: books.open_lane_out("stock"), name="open")
        found = await lanes(store)
        await store.tail()  # and leaves with a transaction that is open
        return found

    async def come() -> list[str]:
        store = the_store(LoopClock(), name="held")
        await store.open()
        found = await lanes(store)
        await store.close()
        return found

    with MemoryDisk("held"):
        assert simulate(visit()) == simulate(come()) == ["stock"]


async def test_a_store_belongs_to_one_loop_at_a_time(clock: ManualClock):
    store = the_store(clock)
    await store.open()

    def elsewhere() -> None:
        asyncio.run(the_store(clock).open())

    with pytest.raises(UsageError, match="another event loop"):
        await asyncio.to_thread(elsewhere)
    await store.close()


async def test_two_disks_of_one_name_are_refused_while_one_is_used(disk: MemoryDisk):
    with pytest.raises(UsageError), MemoryDisk(disk.name):
        pass


def test_the_same_steps_take_the_same_turns_in_every_run():
    async def run() -> list[str]:
        trace: list[str] = []
        with MemoryDisk("simulated") as disk:
            ids = iter(range(100))
            stores = [
                memory_store(
                    disk.name, service="prices", instance=f"{n}", clock=LoopClock(), new_id=lambda: f"{next(ids):032x}"
                )
                for n in range(3)
            ]
            for store in stores:
                await store.open(schema=TABLES)

            async def handle(store: SqliteStore, number: int) -> None:
                tail = await store.tail()
                await order(tail, number)
                await asyncio.sleep(0.0007 * number)
                await tail.end(lambda books: None)
                trace.append(f"{asyncio.get_running_loop().time():.6f} {number}")
                await store.commit(lambda books: books.beat(f"{number}", 0.0), name="beat", flush=True)
                trace.append(f"{asyncio.get_running_loop().time():.6f} {number} more")

            await asyncio.gather(*(handle(stores[n % 3], n) for n in range(20)))
            trace.append(stores[0].identity.id)
            for store in stores:
                await store.close()
        return trace

    assert simulate(run()) == simulate(run())
