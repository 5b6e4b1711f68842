"""The file is disposable: it may be deleted under those who use it, and they go on with another one."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from posthouse.backends.sqlite import Database, SqliteRegistry, SqliteTransport, outbound
from posthouse.backends.sqlite import database as module
from posthouse.contracts.registry import Contract, Instance
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec, Transport
from posthouse.errors import QueueUnknownError, UnavailableError
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.children import PATIENCE
from tests.unit.backends.sqlite.conftest import OpenRegistry, OpenTransport

pytestmark = pytest.mark.anyio

HELLO = QueueSpec("hello")
NEVER = 1000.0


class Resets:
    """Counts how often a transport or registry said that all is gone."""

    def __init__(self, of: SqliteTransport | SqliteRegistry) -> None:
        self.count = 0
        self._told = asyncio.Event()
        of.on_reset(self._tell)

    def _tell(self) -> None:
        self.count += 1
        self._told.set()

    async def next(self) -> None:
        """Wait for the next one."""
        async with asyncio.timeout(PATIENCE):
            await self._told.wait()
        self._told.clear()


@pytest.fixture
def quick_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the slow poll come soon."""
    monkeypatch.setattr(module, "POLL", 0.01)


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the slow poll find nothing."""
    monkeypatch.setattr(module, "POLL", NEVER)


def wipe(directory: Path, pattern: str = "transport.db*") -> None:
    """Delete what fits, as `rm` does."""
    for path in sorted(directory.glob(pattern)):
        path.unlink()


async def come_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def frames_through(sender: Transport, receiver: Transport, frame: bytes) -> list[bytes]:
    """Send, and return what is received, both with patience: the queue may not be there yet."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await sender.send([Outgoing("hello", frame)])
                break
            except UnavailableError:
                await asyncio.sleep(0.001)
        while True:
            try:
                return [delivery.frame for delivery in await receiver.receive("hello", credit=9, wait=PATIENCE)]
            except (QueueUnknownError, UnavailableError):
                await asyncio.sleep(0.001)


# --- noticed ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_poll")
@pytest.mark.parametrize("slow_flush", [NEVER, -1.0], ids=["on the loop", "in a thread"])
async def test_processes_whose_file_was_deleted_meet_in_another_one(
    directory: Path, clock: ManualClock, open_transport: OpenTransport, slow_flush: float
):
    one, two = [
        await open_transport(peer, database=Database(directory, clock=clock, slow_flush=slow_flush))
        for peer in ("one", "two")
    ]
    resets = [Resets(one), Resets(two)]
    await one.declare(HELLO)
    await one.send([Outgoing("hello", b"lost")])

    wipe(directory)

    for reset in resets:
        await reset.next()
    await one.declare(HELLO)
    assert await frames_through(two, one, b"tea") == [b"tea"]
    assert await frames_through(one, two, b"milk") == [b"milk"]
    assert [reset.count for reset in resets] == [1, 1]


@pytest.mark.usefixtures("no_poll")
@pytest.mark.parametrize("slow_flush", [NEVER, -1.0], ids=["on the loop", "in a thread"])
async def test_nothing_is_confirmed_in_a_file_that_was_deleted(
    directory: Path, clock: ManualClock, open_transport: OpenTransport, slow_flush: float
):
    one = await open_transport("one", database=Database(directory, clock=clock, slow_flush=slow_flush))
    resets = Resets(one)
    await one.declare(HELLO)
    wipe(directory)

    with pytest.raises(UnavailableError, match="deleted"):
        await one.send([Outgoing("hello", b"tea")])

    assert resets.count == 1
    assert await one.queues() == []


@pytest.mark.usefixtures("no_poll")
async def test_what_is_declared_when_the_file_was_deleted_is_declared_in_the_next_one(
    directory: Path, open_transport: OpenTransport
):
    one = await open_transport("one")
    wipe(directory)

    await one.declare(HELLO)

    assert (directory / "transport.db").exists()
    two = await open_transport("two")
    assert await frames_through(one, two, b"tea") == [b"tea"]


@pytest.mark.usefixtures("no_poll")
async def test_an_operation_that_fails_because_the_file_is_another_one_is_done_there(
    directory: Path, open_transport: OpenTransport, clock: ManualClock
):
    database = Database(directory, clock=clock)
    one = await open_transport("one", database=database)
    resets = Resets(one)
    runs = 0

    def fails_once(_: object) -> int:
        nonlocal runs
        runs += 1
        if runs <= 1:
            raise UnavailableError("disk I/O error")
        return runs

    wipe(directory)

    assert await database.call(fails_once) == 2
    assert resets.count == 1


@pytest.mark.usefixtures("no_poll")
async def test_who_finds_the_file_deleted_rings_the_others(directory: Path, open_transport: OpenTransport):
    one, two = await open_transport("one"), await open_transport("two")
    resets = Resets(two)

    wipe(directory)
    await one.declare(HELLO)

    await resets.next()


@pytest.mark.usefixtures("quick_poll")
async def test_the_log_says_once_what_happened_and_what_is_lost(
    directory: Path, open_transport: OpenTransport, caplog: pytest.LogCaptureFixture
):
    resets = Resets(await open_transport("one"))
    wipe(directory)

    await resets.next()

    [line] = [record for record in caplog.records if record.name == "posthouse.sqlite"]
    assert line.levelno == logging.WARNING
    assert str(directory / "transport.db") in line.getMessage()
    assert "queued messages in it are lost" in line.getMessage()


# --- what is gone -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_poll")
async def test_what_was_held_is_lost_and_settles_nothing_of_the_next_file(
    directory: Path, open_transport: OpenTransport
):
    one, two = await open_transport("one"), await open_transport("two")
    resets = Resets(one)
    await one.declare(HELLO)
    await one.send([Outgoing("hello", b"old 1"), Outgoing("hello", b"old 2")])
    held = await one.receive("hello", credit=2)
    wipe(directory)
    await one.declare(HELLO)
    await resets.next()
    await frames_through(two, two, b"")  # it has noticed too
    await one.send([Outgoing("hello", b"new 1"), Outgoing("hello", b"new 2")])
    new = await two.receive("hello", credit=2)

    renewed = await one.renew(held)
    settled = await one.settle([(delivery, ACCEPTED) for delivery in held])

    assert [delivery.frame for delivery in renewed] == [b"old 1", b"old 2"]
    assert [delivery.frame for delivery in settled] == [b"old 1", b"old 2"]
    assert await two.settle([(delivery, ACCEPTED) for delivery in new]) == []


@pytest.mark.usefixtures("no_poll")
async def test_settling_on_its_way_while_the_file_is_replaced_does_not_reach_the_next_file(
    directory: Path, open_transport: OpenTransport, clock: ManualClock
):
    database = Database(directory, clock=clock)
    one = await open_transport("one", database=database)
    await one.declare(HELLO)
    await one.send([Outgoing("hello", b"old")])
    [held] = await one.receive("hello", credit=1)
    wipe(directory)

    declared = one.declare(HELLO)
    settled = asyncio.ensure_future(one.settle([(held, ACCEPTED)]))
    await declared

    with pytest.raises(UnavailableError, match="deleted"):
        await settled
    assert await one.settle([(held, ACCEPTED)]) == [held]


@pytest.mark.usefixtures("quick_poll")
async def test_a_receive_that_waits_is_told_that_its_queue_is_gone(directory: Path, open_transport: OpenTransport):
    one = await open_transport("one")
    await one.declare(HELLO)
    waiting = asyncio.create_task(one.receive("hello", credit=1, wait=PATIENCE))
    await one.queues()

    wipe(directory)

    with pytest.raises(QueueUnknownError):
        await waiting


@pytest.mark.usefixtures("no_poll")
async def test_a_send_that_waits_for_room_is_told_that_its_queue_is_gone(
    directory: Path, open_transport: OpenTransport
):
    one = await open_transport("one", overflow_wait=PATIENCE)
    await one.declare(QueueSpec("hello", capacity=1, overflow="wait"))
    await one.send([Outgoing("hello", b"1")])
    held = asyncio.ensure_future(one.send([Outgoing("hello", b"2")]))
    await one.queues()

    wipe(directory)
    await one.declare(QueueSpec("bye"))

    with pytest.raises(UnavailableError, match="no queue 'hello' again yet"):
        await held


@pytest.mark.usefixtures("no_poll")
async def test_a_topic_does_not_forget_what_it_is_told_while_its_queues_come_back(
    directory: Path, open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    one = await open_transport("one")
    wipe(directory)
    await one.declare(HELLO)

    with pytest.raises(UnavailableError, match="no queue hears 'met' again yet"):
        await one.send([Outgoing("met", b"Ann", topic=True)])
    await one.bind("met", "hello")
    await one.send([Outgoing("met", b"Bob", topic=True)])

    assert [delivery.frame for delivery in await one.receive("hello", credit=9)] == [b"Bob"]


@pytest.mark.usefixtures("no_poll")
async def test_some_seconds_later_what_is_not_there_is_not_there(
    directory: Path, open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outbound, "RETURN", 0.0)
    one = await open_transport("one")
    wipe(directory)
    await one.declare(HELLO)

    with pytest.raises(QueueUnknownError):
        await one.send([Outgoing("bye", b"")])
    await one.send([Outgoing("met", b"Ann", topic=True)])


@pytest.mark.usefixtures("quick_poll")
async def test_the_registry_is_empty_and_tells_those_who_watch(directory: Path, open_registry: OpenRegistry):
    one, two = await open_registry("one"), await open_registry("two")
    await one.announce(Contract(service="greeter", version="1"))
    await one.register([Instance(id="greeter-1", service="greeter", peer="one")])
    told: list[str] = []
    two.on_reset(lambda: told.append("reset"))
    two.watch(lambda: told.append("changed"))

    wipe(directory)

    await come_true(lambda: "reset" in told)
    assert "changed" in told[told.index("reset") :]
    assert (await two.contracts(), await two.instances()) == ([], [])


# --- in whatever way it goes ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_poll")
@pytest.mark.parametrize("pattern", ["transport.db", "transport.db-wal", "transport.db-shm", "*.lock", "*.*"])
async def test_processes_meet_in_one_file_whichever_of_the_files_were_deleted(
    directory: Path, open_transport: OpenTransport, pattern: str
):
    one, two = await open_transport("one"), await open_transport("two")
    resets = [Resets(one), Resets(two)]
    await one.declare(HELLO)

    wipe(directory, pattern)

    if pattern != "*.lock":
        for reset in resets:
            await reset.next()
        await one.declare(HELLO)
    assert await frames_through(two, one, b"tea") == [b"tea"]
    assert await frames_through(one, two, b"milk") == [b"milk"]
    three = await open_transport("three")
    assert await frames_through(three, one, b"beer") == [b"beer"]


@pytest.mark.usefixtures("no_poll")
async def test_a_process_that_starts_does_not_take_what_is_left_of_a_deleted_file_for_its_own(
    directory: Path, open_transport: OpenTransport
):
    one = await open_transport("one")
    await one.declare(HELLO)
    await one.send([Outgoing("hello", b"lost")])

    wipe(directory, "transport.db")
    two = await open_transport("two")

    assert await two.queues() == []
    await two.declare(HELLO)
    assert await frames_through(one, two, b"tea") == [b"tea"]
    assert await frames_through(two, one, b"milk") == [b"milk"]


@pytest.mark.usefixtures("no_poll")
async def test_the_bell_hangs_again_before_the_process_enters_another_file(
    directory: Path, open_transport: OpenTransport
):
    one = await open_transport("one")

    shutil.rmtree(directory)
    await one.declare(HELLO)

    assert (directory / "run" / "one.bell").exists()


@pytest.mark.usefixtures("quick_poll")
async def test_processes_wait_at_the_same_turnstile_after_its_files_were_deleted(
    directory: Path, open_transport: OpenTransport, clock: ManualClock
):
    databases = [Database(directory, clock=clock) for _ in range(2)]
    one, _ = [await open_transport(str(number), database=database) for number, database in enumerate(databases)]
    await one.declare(HELLO)
    resets = Resets(one)

    wipe(directory, "*.lock")

    def stand() -> bool:
        return all(not each._finding and each._holdings.all_stands() for each in databases)

    await come_true(stand)
    assert [info.spec for info in await one.queues()] == [HELLO]
    assert resets.count == 0


@pytest.mark.usefixtures("quick_poll")
async def test_a_file_that_was_put_in_place_of_ours_is_used(
    directory: Path, open_transport: OpenTransport, clock: ManualClock
):
    one, two = await open_transport("one"), await open_transport("two")
    resets = [Resets(one), Resets(two)]
    await one.declare(HELLO)
    elsewhere = SqliteTransport(Database(directory.parent / "elsewhere", clock=clock), peer="there", clock=clock)
    await elsewhere.open()
    await elsewhere.declare(QueueSpec("bye"))
    await elsewhere.close()

    (directory.parent / "elsewhere" / "transport.db").replace(directory / "transport.db")

    for reset, peer in zip(resets, (one, two), strict=True):
        await reset.next()
        assert [info.spec.name for info in await peer.queues()] == ["bye"]


@pytest.mark.usefixtures("quick_poll")
@pytest.mark.parametrize("gone", ["run", "all"])
async def test_processes_reach_each_other_after_their_sockets_were_deleted(
    directory: Path, open_transport: OpenTransport, gone: str
):
    one, two = await open_transport("one"), await open_transport("two")
    await one.declare(HELLO)
    arrived: list[bytes] = []
    lost: list[str] = []
    one.direct.listen(lambda _, frames: arrived.extend(frames), lambda _, __: None)
    two.direct.listen(lambda _, __: None, lambda peer, _: lost.append(peer))

    shutil.rmtree(directory / "run" if gone == "run" else directory)

    async with asyncio.timeout(PATIENCE):
        while not arrived:
            two.direct.send("one", b"tea")
            await asyncio.sleep(0.01)
    await one.declare(HELLO)
    waiting = asyncio.create_task(frames_through(one, one, b"milk"))
    assert await waiting == [b"milk"]
    assert (directory / "run" / "two.bell").exists()


@pytest.mark.usefixtures("quick_poll")
async def test_without_a_place_for_another_file_all_is_refused_until_there_is_one(
    directory: Path, open_transport: OpenTransport, caplog: pytest.LogCaptureFixture
):
    one = await open_transport("one")
    resets = Resets(one)
    await one.declare(HELLO)

    wipe(directory)
    (directory / "transport.db").mkdir()

    with pytest.raises(UnavailableError, match="no other one yet"):
        await one.send([Outgoing("hello", b"tea")])
    with pytest.raises(UnavailableError, match="no other one yet"):
        await one.queues()
    (directory / "transport.db").rmdir()
    await resets.next()
    await one.declare(HELLO)
    assert await frames_through(one, one, b"milk") == [b"milk"]


@pytest.mark.usefixtures("no_poll")
async def test_who_has_no_file_can_be_closed(directory: Path, clock: ManualClock):
    one = SqliteTransport(Database(directory, clock=clock), peer="one", clock=clock)
    await one.open()
    wipe(directory)
    (directory / "transport.db").mkdir()
    with pytest.raises(UnavailableError, match="no other one yet"):
        await one.declare(HELLO)

    waiting = asyncio.ensure_future(one.declare(HELLO))
    await asyncio.sleep(0)

    async with asyncio.timeout(PATIENCE):
        await one.close()

    with pytest.raises(UnavailableError, match="no other one"):
        await waiting
    with pytest.raises(UnavailableError, match="not open"):
        await one.declare(HELLO)


@pytest.mark.usefixtures("no_poll")
@pytest.mark.parametrize("slow_flush", [NEVER, -1.0], ids=["on the loop", "in a thread"])
async def test_who_closes_without_having_noticed_leaves_the_next_file_alone(
    directory: Path, clock: ManualClock, open_transport: OpenTransport, slow_flush: float
):
    old = SqliteTransport(Database(directory, clock=clock, slow_flush=slow_flush), peer="old", clock=clock)
    await old.open()
    await old.declare(HELLO)
    wipe(directory)
    one, two = await open_transport("one"), await open_transport("two")
    await one.declare(HELLO)

    await old.close()

    assert await frames_through(one, two, b"tea") == [b"tea"]
    three = await open_transport("three")
    assert await frames_through(three, one, b"milk") == [b"milk"]


@pytest.mark.usefixtures("quick_poll")
async def test_a_listener_that_fails_stops_nobody(directory: Path, open_transport: OpenTransport):
    one = await open_transport("one")
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))

    def slip() -> None:
        raise ValueError("a slip")

    one.on_reset(slip)
    wipe(directory)

    await come_true(lambda: bool(told))
    await one.declare(HELLO)
    assert await frames_through(one, one, b"tea") == [b"tea"]
