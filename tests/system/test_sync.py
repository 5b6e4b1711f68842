"""The client that blocks: from threads, from handlers, after a fork; and where it must not be used."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from posthouse import NotServedError, PendingError, Reject, Service, UsageError
from posthouse.errors import ConfigError, UnknownServiceError
from posthouse.sync import SyncClient, SyncContext, connect

pytestmark = pytest.mark.system

BOUND = 30.0
PROGRAM = Path(__file__).parent / "programs" / "forks.py"


class Step(Struct):
    name: str = ""


class No(Reject):
    code = "sync.no"
    status = 409


class World:
    """A service that runs in a SyncClient of its own, and one client that asks it."""

    def __init__(self) -> None:
        self.transport = f"memory:sync-{uuid.uuid4().hex}"
        self.service = Service("echo")
        told = self.told = self.service.event("told", Step)
        self.heard: list[str] = []
        self.inside: list[Any] = []

        @self.service.handler(rejects=(No,))
        def echo(step: Step, ctx: SyncContext) -> str:
            if step.name == "no":
                raise No("not today")
            ctx.publish(told, step)
            return f"{step.name} for {ctx.caller}"

        @self.service.handler
        async def hang(step: Step) -> None:
            await asyncio.sleep(3600)

        @self.service.handler
        async def nested(step: Step) -> str:
            with pytest.raises(UsageError, match="own loop"):
                self.client.call(echo, step)
            with pytest.raises(UsageError, match="own loop"):
                self.client.close()
            return "refused"

        @self.service.on(told)
        def hear(step: Step) -> None:
            self.heard.append(step.name)

        self.echo, self.hang, self.nested = echo, hang, nested
        self.client: SyncClient = connect(
            self.service, serve=True, config={"env": "test", "transport": self.transport, "grace": 0}
        )


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.client.close()


def posthouse_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "posthouse"]


def test_nothing_is_opened_before_it_is_used(world: World):
    before = posthouse_threads()
    connect(world.service, serve=True, config={"env": "test", "transport": world.transport})

    assert posthouse_threads() == before


def test_it_calls_sends_and_publishes(world: World):
    with world.client as client:
        assert client.call(world.echo, Step("a"), timeout=BOUND) == "a for echo"
        id = client.send(world.echo, Step("b"))
        client.publish(world.told, Step("c"))
        assert len(id) == 32
        for name in ("a", "b", "c"):
            wait_for(lambda name=name: name in world.heard)


def test_it_raises_what_the_other_door_raises(world: World):
    with pytest.raises(No, match="not today"):
        world.client.call(world.echo, Step("no"), timeout=BOUND)
    with pytest.raises(PendingError):
        world.client.call(world.hang, Step(), timeout="50ms")
    with pytest.raises(UsageError):
        world.client.call(world.echo, Step(), timeout="soon")


def test_many_threads_share_one_loop(world: World):
    def ask(number: int) -> str:
        return world.client.call(world.echo, Step(str(number)), timeout=BOUND)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(200)))

    assert answers == [f"{number} for echo" for number in range(200)]
    assert len(posthouse_threads()) == 1


def test_in_its_own_loop_it_is_refused_and_not_hung(world: World):
    assert world.client.call(world.nested, Step(), timeout=BOUND) == "refused"


def test_after_a_close_the_next_use_starts_anew(world: World):
    assert world.client.call(world.echo, Step("a"), timeout=BOUND) == "a for echo"
    world.client.close()
    world.client.close()
    assert posthouse_threads() == []
    assert world.client.call(world.echo, Step("b"), timeout=BOUND) == "b for echo"


def test_a_start_that_fails_leaves_no_thread_and_can_be_tried_again(tmp_path: Path):
    client = connect("shop", transport="nonsense:")
    for _ in range(2):
        with pytest.raises(ConfigError):
            client.send(World().echo, Step())
        assert posthouse_threads() == []
    client.close()


def test_a_thread_that_is_interrupted_waits_no_longer_and_leaves_no_ticket(world: World):
    client = world.client
    client.call(world.echo, Step(), timeout=BOUND)
    caller = client._client._caller  # pyright: ignore[reportOptionalMemberAccess]
    interrupt = threading.Event()
    future: list[Any] = []
    run = asyncio.run_coroutine_threadsafe

    class Interrupted(BaseException): ...

    def watched(coroutine: Any, loop: Any) -> Any:
        made = run(coroutine, loop)
        future.append(made)

        class Future:
            cancel = made.cancel

            def result(self) -> Any:
                interrupt.wait(BOUND)
                raise Interrupted  # as Ctrl-C does

        return Future()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "run_coroutine_threadsafe", watched)
        interrupt.set()
        with pytest.raises(Interrupted):
            client.call(world.hang, Step(), timeout=None)
    assert future[0].cancelled()
    wait_for(lambda: not caller._waiting)


def wait_for(condition: Any) -> None:
    """Wait for what another thread does; a bounded number of short waits."""
    waiting = threading.Event()
    for _ in range(int(BOUND / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it never came")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_it_starts_anew_after_a_fork_and_the_parent_goes_on(tmp_path: Path):
    ran = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(PROGRAM), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["before"].startswith("before by ")
    assert told["status"] == 0
    assert [answer.split(" by ")[0] for answer in told["child"]] == ["child 0", "child 1", "child 2"]
    assert [answer.split(" by ")[0] for answer in told["after"]] == ["parent 0", "parent 1", "parent 2"]
    assert ran.stderr == ""


def test_a_client_that_is_never_closed_lets_its_program_end_in_silence(tmp_path: Path):
    ran = subprocess.run(
        [sys.executable, str(PROGRAM.parent / "never_closes.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "service.unknown\n", "")
    assert list((tmp_path / "run").glob("*")) == []


def test_a_client_that_nobody_holds_can_go(world: World):
    client = connect("shop", transport=world.transport)
    import weakref

    gone = weakref.ref(client)
    del client
    gc.collect()

    assert gone() is None


def test_what_nobody_serves_is_told(world: World):
    lonely = connect("shop", config={"env": "test", "transport": f"memory:alone-{uuid.uuid4().hex}"})
    with lonely, pytest.raises((UnknownServiceError, NotServedError)):
        lonely.send(world.echo, Step())
