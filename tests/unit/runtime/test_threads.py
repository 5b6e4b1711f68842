"""Plain `def` handlers: in threads, with the same verbs. Threads need real time, so this is no simulation."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from msgspec import Struct

from posthouse import ContractError, FailedError, Operation, Reject, Service, UsageError
from posthouse.sync import SyncContext
from tests.house import House

pytestmark = pytest.mark.anyio

BOUND = 20.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use a loop whose time is real."""
    return "asyncio"


class Step(Struct):
    name: str = ""
    depth: int = 0


class No(Reject):
    code = "threads.no"
    status = 409


async def bounded(awaitable: Any) -> Any:
    async with asyncio.timeout(BOUND):
        return await awaitable


async def settled(house: House, queue: str) -> None:
    async with asyncio.timeout(BOUND):
        await house.settled(queue)


async def test_a_plain_handler_runs_in_a_thread_and_answers(house: House, mode: Any):
    plain = Service("plain")
    threads: set[threading.Thread] = set()

    @plain.handler(mode=mode)
    def work(step: Step) -> str:
        threads.add(threading.current_thread())
        return step.name

    await house.serve(plain)
    client = await house.client()

    assert await bounded(client.call(work, Step("a"))) == "a"
    assert threading.main_thread() not in threads


async def test_its_context_calls_sends_and_publishes(house: House, mode: Any):
    plain = Service("plain", concurrency=1)
    told = plain.event("told", Step)
    heard: list[str] = []

    @plain.handler(mode=mode)
    def inner(step: Step) -> str:
        return step.name.upper()

    @plain.handler(mode=mode)
    def later(step: Step) -> None:
        heard.append(f"sent {step.name}")

    @plain.on(told)
    def hear(step: Step) -> None:
        heard.append(f"told {step.name}")

    @plain.handler(mode=mode)
    def outer(step: Step, ctx: SyncContext) -> str:
        ctx.send(later, step)
        ctx.publish(told, step)
        assert (ctx.caller, ctx.attempt) == ("shop", 1)
        return ctx.call(inner, step)

    await house.serve(plain)
    client = await house.client("shop")

    assert await bounded(client.call(outer, Step("a"))) == "A"
    await settled(house, "plain.later")
    await settled(house, "plain.hear")
    assert sorted(heard) == ["sent a", "told a"]


async def test_a_call_raises_in_the_thread_what_it_would_raise_elsewhere(house: House, mode: Any):
    plain = Service("plain")

    @plain.handler(rejects=(No,), mode=mode)
    def refuse(step: Step) -> None:
        raise No("not today", why=step.name)

    @plain.handler(rejects=(No,), mode=mode)
    def outer(step: Step, ctx: SyncContext) -> str:
        with pytest.raises(No) as caught:
            ctx.call(refuse, step)
        with pytest.raises(ContractError):
            ctx.call(Operation("plain.refuse", Step, None, mode="volatile"), step)
        return caught.value.details["why"]

    await house.serve(plain)
    client = await house.client()

    assert await bounded(client.call(outer, Step("because"))) == "because"


async def test_ten_deep_with_one_slot(house: House, mode: Any):
    plain = Service("plain", concurrency=1)

    @plain.handler(mode=mode)
    def dig(step: Step, ctx: SyncContext) -> int:
        return 1 + ctx.call(dig, Step(depth=step.depth - 1)) if step.depth else 0

    await house.serve(plain)
    client = await house.client()

    assert await bounded(client.call(dig, Step(depth=10))) == 10


async def test_a_thread_that_times_out_is_told_as_failed_and_keeps_its_slot_until_it_ends(house: House, mode: Any):
    plain = Service("plain", concurrency=1)
    release, begun = threading.Event(), threading.Event()
    refused: list[UsageError] = []

    @plain.handler(timeout=0.05, attempts=1, mode=mode)
    def hang(step: Step, ctx: SyncContext) -> None:
        begun.set()
        release.wait(BOUND)
        try:
            ctx.send(quick, step)
        except UsageError as error:
            refused.append(error)

    @plain.handler(mode=mode)
    def quick(step: Step) -> str:
        return "ran"

    host = await house.serve(plain)
    client = await house.client()

    with pytest.raises(FailedError, match=r"timed out after 0\.05 s"):
        await bounded(client.call(hang, Step()))
    assert begun.is_set()
    asking = asyncio.create_task(client.call(quick, Step()))
    await asyncio.sleep(0)
    assert host._servings["plain"].place.slots.taken == 1
    assert not asking.done()
    release.set()
    assert await bounded(asking) == "ran"
    assert len(refused) == 1


async def test_a_thread_that_times_out_while_it_waits_for_a_reply_leaves_no_slot_taken(house: House, mode: Any):
    plain = Service("plain", concurrency=1)
    go = asyncio.Event()

    @plain.handler(mode=mode)
    async def slow(step: Step) -> None:
        await go.wait()

    @plain.handler(timeout=0.05, attempts=1, mode=mode)
    def ask(step: Step, ctx: SyncContext) -> None:
        ctx.call(slow, step)

    @plain.handler(mode=mode)
    def quick(step: Step) -> str:
        return "ran"

    host = await house.serve(plain)
    client = await house.client()
    with pytest.raises(FailedError, match="timed out"):
        await bounded(client.call(ask, Step()))
    go.set()

    assert await bounded(client.call(quick, Step())) == "ran"
    async with asyncio.timeout(BOUND):
        while host._servings["plain"].place.slots.taken:
            await asyncio.sleep(0.01)


async def test_a_stop_iteration_is_a_failure_and_not_a_handler_that_hangs(house: House, mode: Any):
    plain = Service("plain")

    @plain.handler(attempts=1, mode=mode)
    def work(step: Step) -> str:
        return next(iter(()))

    await house.serve(plain)
    client = await house.client()

    with pytest.raises(FailedError, match="StopIteration"):
        await bounded(client.call(work, Step(), timeout="5s"))


mark: ContextVar[str] = ContextVar("mark", default="clean")


async def test_no_thread_sees_a_variable_that_another_one_set(house: House, mode: Any):
    plain = Service("plain", concurrency=1)
    seen: list[str] = []

    @plain.handler(mode=mode)
    def work(step: Step, ctx: SyncContext) -> None:
        seen.append(mark.get())
        mark.set("spoiled")
        if step.depth:
            ctx.call(work, Step(depth=step.depth - 1))

    await house.serve(plain)
    client = await house.client()

    for _ in range(3):
        await bounded(client.call(work, Step(depth=2)))
    assert seen == ["clean"] * 9


async def test_no_more_threads_work_at_once_than_the_service_says(house: House, mode: Any):
    plain = Service("plain", concurrency=2)
    together = threading.Barrier(2)
    now = most = 0
    lock = threading.Lock()

    @plain.handler(mode=mode)
    def work(step: Step) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(BOUND)
        with lock:
            now -= 1

    await house.serve(plain)
    client = await house.client()

    await bounded(asyncio.gather(*(client.call(work, Step()) for _ in range(8))))
    assert most == 2


async def test_a_drain_hands_back_nothing_that_was_ended_though_its_thread_goes_on(
    house: House, mode: Any, caplog: pytest.LogCaptureFixture
):
    plain = Service("plain")
    release = threading.Event()

    @plain.handler(timeout=0.05, attempts=1, mode=mode)
    def hang(step: Step) -> None:
        release.wait(BOUND)

    host = await house.serve(plain)
    await (await house.client()).send(hang, Step())
    await bounded(house.bury(1))
    await bounded(host.drain(grace=0))
    release.set()

    assert "a thread that timed out is still at work" in caplog.text
    assert "had lost their lease" not in caplog.text
    assert (await house.queue("plain.hang")).stored == 0


async def test_a_drain_waits_for_a_thread_and_its_calls(house: House, mode: Any):
    plain = Service("plain")
    begun = asyncio.Event()
    release = threading.Event()
    loop = asyncio.get_running_loop()

    @plain.handler(mode=mode)
    def work(step: Step) -> str:
        loop.call_soon_threadsafe(begun.set)
        release.wait(BOUND)
        return "done"

    host = await house.serve(plain)
    client = await house.client()
    asking = asyncio.create_task(client.call(work, Step()))
    await bounded(begun.wait())
    draining = asyncio.create_task(host.drain())
    await asyncio.sleep(0)
    release.set()

    assert await bounded(asking) == "done"
    await bounded(draining)
