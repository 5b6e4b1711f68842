"""Processes that are killed: what they held comes back, what they confirmed stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from posthouse.backends.sqlite import Database
from posthouse.backends.sqlite import database as module
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.children import PATIENCE, child
from tests.unit.backends.sqlite.conftest import OpenRegistry, OpenTransport

pytestmark = pytest.mark.anyio


async def test_what_a_killed_receiver_held_is_delivered_again_without_waiting_for_its_lease(
    directory: Path, open_transport: OpenTransport
):
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello"))
    await transport.send([Outgoing("hello", b"%d" % number) for number in range(5)])
    program = """
        async def main():
            await transport.open()
            deliveries = await transport.receive("hello", credit=4)
            await transport.settle([(deliveries[0], ACCEPTED), (deliveries[1], Released())])
            await transport.receive("hello", credit=1)
            tell("holds")
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    async with child(directory, "two", program) as receiver:
        assert await receiver.line() == "holds"
        [fresh] = await transport.receive("hello", credit=10)

        await receiver.kill()

        back: list[tuple[bytes, int]] = []
        async with asyncio.timeout(PATIENCE):  # the clock stands still: no lease runs out
            while len(back) < 3:
                found = await transport.receive("hello", credit=10, wait=PATIENCE)
                back += [(delivery.frame, delivery.attempt) for delivery in found]
        assert fresh.frame == b"4"
        assert sorted(back) == [(b"1", 3), (b"2", 2), (b"3", 2)]
        assert await transport.receive("hello", credit=10) == []


async def test_every_send_that_was_confirmed_survives_the_kill_of_its_process(
    directory: Path, open_transport: OpenTransport
):
    program = """
        async def main():
            await transport.open()
            await transport.declare(QueueSpec("hello"))
            for number in range(100_000):
                await transport.send([Outgoing("hello", b"%d" % number)])
                tell(number)

        asyncio.run(main())
    """
    async with child(directory, "two", program) as sender:
        confirmed = [int(await sender.line()) for _ in range(200)]
        await sender.kill()

    transport = await open_transport("one")
    stored = {delivery.frame for delivery in await transport.receive("hello", credit=100_000)}
    assert {b"%d" % number for number in confirmed} <= stored


async def test_a_process_that_is_killed_in_the_middle_of_a_transaction_leaves_the_file_whole(
    directory: Path, open_transport: OpenTransport
):
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello"))
    await transport.send([Outgoing("hello", b"before")])
    program = """
        def hang(sql):
            sql.execute("DELETE FROM messages")
            tell("inside")
            asked()

        async def main():
            await transport.open()
            await database.call(hang)

        asyncio.run(main())
    """
    async with child(directory, "two", program) as writer:
        assert await writer.line() == "inside"
        sending = transport.send([Outgoing("hello", b"after")])

        await writer.kill()

        async with asyncio.timeout(PATIENCE):
            await sending
        deliveries = await transport.receive("hello", credit=10)
        assert [delivery.frame for delivery in deliveries] == [b"before", b"after"]
        assert await transport.settle([(delivery, ACCEPTED) for delivery in deliveries]) == []


async def test_the_instances_and_queues_of_a_killed_process_go_with_it(
    directory: Path, clock: ManualClock, open_transport: OpenTransport, open_registry: OpenRegistry
):
    database = Database(directory, clock=clock)
    transport = await open_transport("one", database=database)
    registry = await open_registry("three")

    async def rows(statement: str) -> list[object]:
        return await database.call(lambda sql: sql.execute(statement).fetchall(), reads=True)

    program = """
        async def main():
            registry = SqliteRegistry(database, clock=clock)
            await transport.open()
            await registry.open()
            await registry.register([Instance(id="its", service="hello", peer=peer)])
            await transport.declare(QueueSpec("its.own", ephemeral="its"))
            tell("there")
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    async with child(directory, "two", program) as dying:
        assert await dying.line() == "there"
        assert [info.spec.name for info in await transport.queues()] == ["its.own"]
        assert [instance.id for instance in await registry.instances()] == ["its"]

        await dying.kill()

        assert await registry.instances() == []  # it is seen to be dead before anybody has cleaned up
        async with asyncio.timeout(PATIENCE):
            while await transport.queues() or await rows("SELECT id FROM instances"):
                pass
        assert await rows("SELECT peer FROM peers WHERE peer = 'two'") == []


async def test_a_receiver_that_died_while_it_waited_does_not_swallow_the_ring_for_another(
    directory: Path, open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "POLL", 1000.0)  # the slow poll would find it too
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello"))
    program = """
        async def main():
            await transport.open()
            waiting = asyncio.create_task(transport.receive("hello", credit=1, wait=1000))
            while not any(info.receivers for info in await transport.queues()):
                pass
            tell("waits")
            await waiting

        asyncio.run(main())
    """
    async with child(directory, "two", program) as first:
        assert await first.line() == "waits"
        other = await open_transport("three")
        waiting = asyncio.create_task(other.receive("hello", credit=1, wait=PATIENCE))
        async with asyncio.timeout(PATIENCE):
            while (await transport.queues())[0].receivers < 2:
                pass

        await first.kill()
        await transport.send([Outgoing("hello", b"tea")])

        async with asyncio.timeout(PATIENCE):
            assert [delivery.frame for delivery in await waiting] == [b"tea"]
