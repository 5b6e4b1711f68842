"""The end of a service: nothing more is taken, what is at work ends, what waits goes back as it came."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, NotServedError, OutcomeUnknownError, Service, UsageError
from posthouse.runtime.host import Host
from posthouse.runtime.runner import LAST_WORD
from posthouse.runtime.signals import Signals
from posthouse.runtime.start import drain_when_asked
from tests.house import House, until

pytestmark = pytest.mark.anyio


class Step(Struct):
    name: str = ""


class Line:
    """A service that works on one message at a time and writes down what it did."""

    def __init__(self, mode: Any, *, took: float = 10.0, concurrency: int = 1) -> None:
        self.log: list[str] = []
        self.attempts: list[int] = []
        self.service = Service("line", concurrency=concurrency, lifespan=self._lifespan)
        self.took = took

        @self.service.handler(attempts=2, mode=mode)
        async def work(step: Step, ctx: Context) -> str:
            self.log.append(f"begin {step.name}")
            self.attempts.append(ctx.attempt)
            await asyncio.sleep(self.took)
            self.log.append(f"end {step.name}")
            return step.name

        @self.service.handler(mode="volatile")
        async def look(step: Step) -> str:
            await asyncio.sleep(self.took)
            return step.name

        self.work = work
        self.look = look

    @asynccontextmanager
    async def _lifespan(self):
        self.log.append("open")
        yield
        self.log.append("close")


async def test_the_lifespan_begins_before_the_first_message_and_ends_after_the_last(house: House, mode: Any):
    line = Line(mode)
    host = await house.open()
    await host.announce(line.service)
    client = await house.client()
    await client.send(line.work, Step("one"))
    await host.serve(line.service)
    await asyncio.sleep(1)
    await host.drain()

    assert line.log == ["open", "begin one", "end one", "close"]


async def test_a_drain_ends_what_is_at_work_and_hands_back_the_rest_untouched(house: House, mode: Any):
    line = Line(mode, concurrency=2)
    host = await house.serve(line.service)
    client = await house.client()
    for name in "abcdef":
        await client.send(line.work, Step(name))
    await asyncio.sleep(1)
    await host.drain()

    assert line.log[:3] == ["open", "begin a", "begin b"]
    assert sorted(line.log[3:5]) == ["end a", "end b"]
    assert line.log[5:] == ["close"]
    assert await house.holds("line.work") == (4, 0, 0)
    again = Line(mode, took=0)
    await house.serve(again.service)
    await house.settled("line.work")
    assert [entry for entry in again.log if entry.startswith("begin")] == [f"begin {name}" for name in "cdef"]
    assert again.attempts == [1, 1, 1, 1]


async def test_what_was_here_and_had_not_begun_is_handed_back_as_if_it_never_had_been(house: House, mode: Any):
    service = Service("line", concurrency=1)
    attempts: list[int] = []

    @service.handler(mode=mode)
    async def work(step: Step) -> None:
        await asyncio.sleep(10)

    @service.handler(mode=mode)
    async def other(step: Step, ctx: Context) -> None:
        attempts.append(ctx.attempt)

    host = await house.serve(service)
    client = await house.client()
    await client.send(work, Step())
    await asyncio.sleep(1)
    await client.send(other, Step())  # it comes, and finds no slot
    await asyncio.sleep(1)
    taken = await house.holds("line.other")
    await host.drain()
    given_back = await house.holds("line.other")
    await house.serve(service)
    await house.settled("line.other")

    assert (taken, given_back) == ((0, 1, 0), (1, 0, 0))
    assert attempts == [1]


async def test_a_drain_takes_nothing_more(house: House, mode: Any):
    line = Line(mode)
    host = await house.serve(line.service)
    client = await house.client()
    await client.send(line.work, Step("before"))
    await asyncio.sleep(1)
    draining = asyncio.create_task(host.drain())
    await asyncio.sleep(1)
    await client.send(line.work, Step("after"))
    with pytest.raises(NotServedError):
        await client.call(line.look, Step())
    await draining

    assert "begin after" not in line.log
    again = Line(mode, took=0)
    await house.serve(again.service)
    await house.settled("line.work")
    assert [entry for entry in again.log if entry.startswith("begin")] == ["begin after"]


async def test_what_is_still_at_work_after_the_grace_is_canceled_and_comes_again(house: House, mode: Any):
    line = Line(mode, took=1000, concurrency=2)
    host = await house.serve(line.service)
    client = await house.client()
    await client.send(line.work, Step("a"))
    await asyncio.sleep(1)
    begun = asyncio.create_task(client.call(line.look, Step("b"), timeout="10m"))
    await asyncio.sleep(1)
    waiting = asyncio.create_task(client.call(line.look, Step("c"), timeout="10m"))
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await host.drain(grace=5)

    assert loop.time() - before == pytest.approx(5.0, abs=0.5)
    assert line.log == ["open", "begin a", "close"]
    with pytest.raises(OutcomeUnknownError, match="stops"):
        await begun
    with pytest.raises(NotServedError, match="stops"):
        await waiting
    again = Line(mode, took=0)
    await house.serve(again.service)
    await house.settled("line.work")
    assert again.attempts == [1 if mode == "journaled" else 2]  # a queue counts deliveries, a store failures


async def test_a_handler_that_swallows_its_cancellation_does_not_keep_the_process(
    house: House, mode: Any, caplog: pytest.LogCaptureFixture
):
    service = Service("deaf")
    release = asyncio.Event()

    @service.handler(mode=mode)
    async def work(step: Step) -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    host = await house.serve(service)
    client = await house.client()
    await client.send(work, Step())
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await host.drain(grace=5)

    assert loop.time() - before <= 5 + LAST_WORD + 0.5
    assert "1 canceled handlers go on" in caplog.text
    assert (await house.holds("deaf.work")).taken == 0
    release.set()
    await asyncio.sleep(0.1)


async def test_a_handler_that_is_canceled_and_ends_well_is_not_run_again(house: House, mode: Any):
    service = Service("neat")
    runs: list[str] = []

    @service.handler(mode=mode)
    async def work(step: Step, ctx: Context) -> None:
        runs.append(ctx.id)
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(1)  # tidies up, and is done

    host = await house.serve(service)
    client = await house.client()
    await client.send(work, Step())
    await asyncio.sleep(1)
    await host.drain(grace=1)
    await house.serve(service)
    await house.settled("neat.work")

    assert len(runs) == 1
    assert await house.dead() == []


async def test_a_queued_handler_that_waits_for_a_reply_gets_it_during_the_drain(house: House):
    line, asker = Line("queued", took=5), Service("asker")

    @asker.handler(mode="queued")
    async def ask(step: Step, ctx: Context) -> str:
        return await ctx.call(line.work, step)

    await house.serve(line.service)
    host = await house.serve(asker)
    client = await house.client()
    asking = asyncio.create_task(client.call(ask, Step("x")))
    await asyncio.sleep(1)
    await host.drain()

    assert await asking == "x"


async def test_a_journaled_handler_that_waits_for_a_reply_gets_it_where_it_is_run_again(house: House):
    line, asker = Line("journaled", took=5), Service("asker")
    attempts: list[int] = []

    @asker.handler
    async def ask(step: Step, ctx: Context) -> str:
        attempts.append(ctx.attempt)
        return await ctx.call(line.work, step)

    await house.serve(line.service)
    host = await house.serve(asker)
    client = await house.client()
    asking = asyncio.create_task(client.call(ask, Step("x")))
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await host.drain()
    took = loop.time() - before
    await house.serve(asker)

    assert await asking == "x"
    assert took < 1
    assert attempts == [1, 1]
    assert line.log == ["open", "begin x", "end x"]


async def test_a_context_does_nothing_after_its_handler_was_canceled(house: House, mode: Any):
    service = Service("line")
    kept: list[Context] = []

    @service.handler(mode=mode)
    async def work(step: Step, ctx: Context) -> None:
        kept.append(ctx)
        await asyncio.sleep(1000)

    host = await house.serve(service)
    await (await house.client()).send(work, Step())
    await asyncio.sleep(1)
    await host.drain(grace=0)

    with pytest.raises(UsageError, match="after the handler has ended"):
        await kept[0].send(work, Step())


async def test_to_close_is_to_drain_without_grace(house: House, mode: Any):
    line = Line(mode, took=1000)
    host = house.host()
    await host.open()
    await host.serve(line.service)
    other = await house.open()
    await house.client_of(other, "x").send(line.work, Step("a"))
    await asyncio.sleep(1)
    await host.close()
    await host.close()

    assert line.log == ["open", "begin a", "close"]
    assert await house.holds("line.work") == (1, 0, 0)
    await other.directory.refresh()
    assert other.directory.instances("line") == ()


async def test_a_drain_that_was_canceled_is_ended_by_the_close(house: House, mode: Any):
    line = Line(mode, took=1000)
    host = house.host()
    await host.open()
    await host.serve(line.service)
    await (await house.client()).send(line.work, Step("a"))
    await asyncio.sleep(1)
    draining = asyncio.create_task(host.drain())
    await asyncio.sleep(1)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert "close" not in line.log
    await host.close()

    assert line.log == ["open", "begin a", "close"]


async def test_a_service_can_be_served_again_after_a_drain_but_not_twice_at_once(house: House, mode: Any):
    line = Line(mode, took=0)
    host = await house.serve(line.service)
    client = await house.client()
    with pytest.raises(UsageError, match="served by this process already"):
        await host.serve(line.service)
    assert await client.call(line.work, Step("a")) == "a"
    await host.drain()
    await host.serve(line.service)

    assert await client.call(line.work, Step("b")) == "b"


async def test_who_drains_is_no_choice_for_volatile_requests(house: House, mode: Any):
    old, new = Line(mode, took=5), Line(mode, took=0)
    host = await house.serve(old.service)
    await house.serve(new.service)
    client = await house.client()
    await asyncio.sleep(0.1)
    client_host = house.hosts[2]
    assert len(client_host.directory.instances("line")) == 2
    ended = asyncio.create_task(client.call(old.look, Step("x")))
    draining = asyncio.create_task(host.drain())
    await until(_instances(client_host), lambda count: count == 1)

    assert await asyncio.gather(*(client.call(old.look, Step(str(n))) for n in range(20))) == [
        str(n) for n in range(20)
    ]
    await draining
    await ended


def _instances(host: Host) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        return len(host.directory.instances("line"))

    return count


# --- lifespans ----------------------------------------------------------------------------------------


async def test_a_lifespan_is_left_in_the_task_that_entered_it(house: House):
    """Else a task group in it could not be left at all."""
    tasks: list[object] = []
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(1)

    @asynccontextmanager
    async def lifespan():
        tasks.append(asyncio.current_task())
        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(tick())
            yield
            ticking.cancel()
        tasks.append(asyncio.current_task())

    host = await house.serve(Service("line", lifespan=lifespan))
    await asyncio.sleep(5)
    draining = asyncio.create_task(host.drain())  # as a signal does it
    await draining

    assert tasks[0] is tasks[1]
    assert len(ticks) >= 5


async def test_a_lifespan_that_cannot_begin_stops_the_start(house: House):
    begun: list[str] = []

    @asynccontextmanager
    async def good():
        begun.append("good")
        yield
        begun.append("left good")

    @asynccontextmanager
    async def bad():
        raise RuntimeError("no database")
        yield

    host = house.host()
    await host.open()
    with pytest.raises(RuntimeError, match="no database"):
        await host.serve(Service("good", lifespan=good), Service("bad", lifespan=bad))
    await host.close()

    assert begun == ["good", "left good"]


async def test_a_lifespan_that_fails_at_its_end_is_told_and_keeps_nothing_open(
    house: House, caplog: pytest.LogCaptureFixture
):
    @asynccontextmanager
    async def lifespan():
        yield
        raise RuntimeError("cannot say goodbye")

    host = house.host()
    await host.open()
    await host.serve(Service("line", lifespan=lifespan))
    await host.close()

    assert "line: its lifespan failed at its end" in caplog.text
    other = await house.open()
    assert other.directory.all_instances == []


async def test_a_lifespan_that_fails_meanwhile_is_told(house: House, caplog: pytest.LogCaptureFixture):
    async def break_down() -> None:
        raise RuntimeError("the pump has stopped")

    @asynccontextmanager
    async def lifespan():
        async with asyncio.TaskGroup() as group:
            group.create_task(break_down())
            yield

    host = await house.serve(Service("line", lifespan=lifespan))
    await asyncio.sleep(1)
    assert "line: its lifespan failed while its handlers are at work" in caplog.text
    await host.drain()


# --- signals ------------------------------------------------------------------------------------------


async def test_a_signal_drains_and_a_second_one_ends_the_grace(
    house: House, mode: Any, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    line = Line(mode, took=1000)
    host = await house.serve(line.service, grace=500.0)
    await (await house.client()).send(line.work, Step("a"))
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    before = loop.time()
    with Signals() as signals:
        serving = asyncio.create_task(drain_when_asked(host, signals))
        await asyncio.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(10)
        assert not serving.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving

    assert loop.time() - before < 20
    assert line.log == ["open", "begin a", "close"]
    assert (await house.holds("line.work")).taken == 0
    assert await house.under_way("line.work") > 0
