"""A host that dies in the middle: what others see of it, and that nothing of it is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse import Context, Service
from posthouse.errors import UnavailableError
from posthouse.testing.loop import SimulatedLoop
from tests.house import House

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


def _nothing(_: object) -> None: ...


async def test_the_dead_commit_send_and_hear_nothing_and_leave_no_task():
    service, told = Service("slow"), list[str]()

    @service.handler
    async def work(name: str, ctx: Context) -> str:
        db = await ctx.transaction()
        await db.execute("SELECT 1")
        told.append(name)
        await asyncio.sleep(0.5)
        return name

    async with House() as house:
        host = await house.serve(service)
        client = await house.client()
        asking = asyncio.create_task(client.call(work, "a", timeout="5m"))
        await asyncio.sleep(0.1)
        store: Any = host.journals.get("slow").store  # type: ignore[union-attr]

        await host.die()

        with pytest.raises(UnavailableError, match="has died"):
            await store.commit(_nothing, name="late")
        with pytest.raises(UnavailableError):
            await host.transport.queues()
        assert (await house.holds("slow.work")).taken == 1  # as it was left
        assert not asking.done()
        await house.serve(service)
        assert await asking == "a"
        assert told == ["a", "a"]
    assert [task for task in asyncio.all_tasks() if "posthouse" in task.get_name()] == []


async def test_who_waits_for_the_write_slot_of_the_dead_gets_it():
    def serving(name: str) -> Service:
        service = Service("slow")

        @service.handler
        async def work(_: None, ctx: Context) -> str:
            await ctx.transaction()
            holders.append(name)
            if name == "first":
                await asyncio.sleep(0.9)  # less than the store bears
            return name

        return service

    holders = list[str]()
    work: Any = serving("any").operations["work"].operation
    async with House() as house:
        first, second = await house.serve(serving("first")), await house.open()
        second.journals.allow("slow")
        store: Any = await second.journals.need("slow")
        await (await house.client()).send(work, None)
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(store.store.tail())
        await asyncio.sleep(0.1)
        before = waiting.done()

        await first.die()
        (await waiting).give_up()
        await second.serve(serving("second"))
        await house.settled("slow.work")

        assert not before
        assert holders == ["first", "second"]
