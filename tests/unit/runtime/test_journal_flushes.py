"""A disk that does not flush: nobody is told that nothing was stored, and what was is taken up by who runs."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, NotDoneError, NotStoredError, OutcomeUnknownError, Service
from posthouse.backends.sqlite.store.memory import MemoryEngine
from posthouse.errors import UnavailableError
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.outbox import CallState
from tests.house import House, journals_of, until

pytestmark = pytest.mark.anyio


class Step(Struct):
    number: int


class Disk:
    """What the stores of a test lie on.

    Attributes:
        broken: the services whose stores cannot be flushed.
        failed: how often that failed.
    """

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.failed = 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Give a disk that can be broken."""
    disk, flush = Disk(), MemoryEngine.flush

    def fail(engine: MemoryEngine) -> None:
        if engine.path.name in disk.broken:
            disk.failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(engine)

    monkeypatch.setattr(MemoryEngine, "flush", fail)
    return disk


def steps() -> tuple[Service, Any, list[int]]:
    """Return a service that writes down what it was run for."""
    service, ran = Service("steps"), list[int]()

    @service.handler
    async def take(step: Step) -> int:
        ran.append(step.number)
        return step.number

    return service, take, ran


@pytest.mark.parametrize("asks", ["call", "send"])
async def test_who_asks_while_the_disk_cannot_be_flushed_is_told_that_it_may_be_done_and_it_is(
    house: House, disk: Disk, asks: str
):
    service, take, ran = steps()
    await house.serve(service)
    client = await house.client()
    assert await client.call(take, Step(0)) == 0
    ask: Any = getattr(client, asks)

    disk.broken.add("shop")
    with pytest.raises(OutcomeUnknownError, match="could not be flushed") as told:
        await ask(take, Step(1))
    before = list(ran)
    disk.broken.clear()

    assert not isinstance(told.value, NotStoredError)
    assert told.value.message_id is not None
    assert before == [0]
    assert await client.reply(take, told.value.message_id) == 1
    assert ran == [0, 1]


async def test_the_first_request_to_a_service_is_done_though_it_could_not_be_flushed(house: House, disk: Disk):
    service, take, ran = steps()
    mail, posted = Service("mail"), list[int]()

    @mail.handler
    async def post(step: Step) -> None:
        posted.append(step.number)

    await house.serve(service, mail)
    client = await house.client()
    await client.call(take, Step(0))

    disk.broken.add("shop")
    with pytest.raises(OutcomeUnknownError):
        await client.send(post, Step(1))
    disk.broken.clear()
    await house.settled("mail.post")

    assert (ran, posted) == ([0], [1])


async def test_what_got_its_number_when_the_disk_could_not_be_flushed_is_sent(
    house: House, disk: Disk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("posthouse.runtime.steps.asking.WINDOW", 1)
    service, take, ran = steps()
    host = await house.open()
    await host.announce(service)
    client = await house.client()
    for number in range(3):
        await client.send(take, Step(number))
    asking = asyncio.create_task(client.call(take, Step(3), timeout="5m"))
    await until(lambda: house.calls("steps.take", of="shop"), lambda calls: len(calls) == 4)

    disk.broken.add("shop")
    await host.serve(service)
    await until(lambda: asyncio.sleep(0, disk.failed), bool)
    disk.broken.clear()

    assert await asking == 3
    await house.settled("steps.take")
    assert ran == [0, 1, 2, 3]


async def test_what_a_sweep_gave_a_number_when_the_disk_could_not_be_flushed_is_sent(
    house: House, disk: Disk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("posthouse.runtime.steps.asking.WINDOW", 1)
    service, take, ran = steps()
    host = await house.open()
    await host.announce(service)
    client = await house.client()
    for number in range(2):
        await client.send(take, Step(number))

    disk.broken.add("shop")
    monkeypatch.setattr("posthouse.runtime.steps.asking.WINDOW", 2)
    await until(lambda: asyncio.sleep(0, disk.failed), bool)
    disk.broken.clear()
    await host.serve(service)
    await house.settled("steps.take")

    assert ran == [0, 1]


async def test_what_could_not_be_taken_up_at_once_is_taken_up_later(
    house: House, disk: Disk, monkeypatch: pytest.MonkeyPatch
):
    service, take, ran = steps()
    await house.serve(service)
    caller = await house.open()
    client = house.client_of(caller)
    await client.call(take, Step(0))
    [journal] = journals_of(caller)
    commit, refused = journal.store.commit, list[str]()

    def refuse(step: Any, *, name: str, **how: Any) -> Any:
        if name == "adopt" and not refused:
            refused.append(name)
            done = asyncio.get_running_loop().create_future()
            done.set_exception(UnavailableError("the disk is full"))
            return done
        return commit(step, name=name, **how)

    monkeypatch.setattr(journal.store, "commit", refuse)
    disk.broken.add("shop")
    with pytest.raises(OutcomeUnknownError):
        await client.send(take, Step(1))
    disk.broken.clear()
    await house.settled("steps.take")

    assert (ran, refused) == ([0, 1], ["adopt"])


async def test_what_a_handler_asked_when_the_disk_could_not_be_flushed_is_sent_once(house: House, disk: Disk):
    service, take, ran = steps()
    till, sold = Service("till"), list[int]()

    @till.handler
    async def sell(step: Step, ctx: Context) -> int:
        sold.append(step.number)
        if len(sold) == 1:
            disk.broken.add("till")
        await ctx.send(take, step)
        return await ctx.call(take, Step(step.number + 1)) if step.number == 8 else step.number

    await house.serve(service)
    await house.serve(till)
    client = await house.client()
    asking = asyncio.create_task(client.call(sell, Step(7), timeout="5m"))
    await until(lambda: asyncio.sleep(0, disk.failed), bool)
    disk.broken.clear()

    assert await asking == 7
    await house.settled("steps.take")
    assert ran == [7]
    assert await client.call(sell, Step(8)) == 9


async def test_a_handler_that_asks_while_the_disk_cannot_be_flushed_runs_again_and_asks_once(house: House, disk: Disk):
    service, take, ran = steps()
    till, sold = Service("till"), list[int]()

    @till.handler(attempts=1)
    async def sell(step: Step, ctx: Context) -> int:
        sold.append(step.number)
        disk.broken |= {"till"} if len(sold) == 1 else set()
        try:
            return await ctx.call(take, step)
        finally:
            disk.broken.clear()

    await house.serve(service)
    await house.serve(till)
    client = await house.client()

    assert await client.call(sell, Step(7), timeout="5m") == 7
    assert disk.failed > 0
    assert (ran, sold) == ([7], [7, 7])


async def test_a_deposit_that_was_claimed_when_the_disk_could_not_be_flushed_is_run(house: House, disk: Disk):
    house.callers_have_stores = False
    service, take, ran = steps()
    await house.serve(service)
    client = await house.client()
    assert await client.call(take, Step(0)) == 0

    disk.broken.add("steps")
    asking = asyncio.create_task(client.call(take, Step(1), timeout="5m"))
    await until(lambda: asyncio.sleep(0, disk.failed), bool)
    disk.broken.clear()

    assert await asking == 1
    assert ran == [0, 1]
    assert [row.state for row in await house.requests("steps.take")] == [RequestState.DONE] * 2


async def test_who_cancels_while_the_disk_cannot_be_flushed_is_told_that_it_may_be_canceled_and_it_is(
    house: House, disk: Disk
):
    service, take, ran = steps()
    host = await house.open()
    await host.announce(service)
    client = await house.client()
    id = await client.send(take, Step(1))

    disk.broken.add("shop")
    with pytest.raises(OutcomeUnknownError, match="not known"):
        await client.cancel(id)
    disk.broken.clear()
    await host.serve(service)

    with pytest.raises(NotDoneError):
        await client.reply(take, id)
    assert ran == []
    [call] = await house.calls("steps.take", of="shop")
    assert call.state is CallState.NOT_DONE


async def test_who_publishes_while_the_disk_cannot_be_flushed_is_told_that_it_may_be_heard_and_it_is(
    house: House, disk: Disk
):
    service, _take, _ran = steps()
    taken = service.event("taken", Step, mode="journaled")
    diary, heard = Service("diary"), list[int]()

    @diary.on(taken)
    async def note(step: Step) -> None:
        heard.append(step.number)

    async def seen() -> list[int]:
        return list(heard)

    await house.serve(diary)
    host = await house.serve(service)
    client = host.client("steps")
    await client.publish(taken, Step(0))
    await until(seen, lambda numbers: numbers == [0])

    disk.broken.add("steps")
    with pytest.raises(OutcomeUnknownError, match=r"steps\.taken was stored"):
        await client.publish(taken, Step(1))
    disk.broken.clear()

    await until(seen, lambda numbers: numbers == [0, 1])
