"""Bells: rung, busy, dead, and taken away."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.backends.sqlite import Database
from posthouse.backends.sqlite.bells import Bells, remove_stale
from posthouse.backends.sqlite.peers import entered
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.children import PATIENCE
from tests.unit.backends.sqlite.conftest import OpenTransport

pytestmark = pytest.mark.anyio


def never_heard(bells: Bells, peer: str, numbers: list[int]) -> bool:
    del bells, peer, numbers
    return True


@pytest.fixture
def sockets(directory: Path) -> Path:
    """Give an empty directory for sockets."""
    directory.mkdir()
    return directory


@pytest.fixture
def bells(sockets: Path) -> Iterator[tuple[Bells, Bells]]:
    """Give the bells of two processes."""
    pair = Bells(sockets, "one"), Bells(sockets, "two")
    yield pair
    for bell in pair:
        bell.close()


async def test_more_rings_than_a_bell_can_hold_all_arrive(bells: tuple[Bells, Bells]):
    one, two = bells
    loop = asyncio.get_running_loop()
    heard: set[int] = set()
    rung = set(range(1000))
    one.listen(loop, lambda _: None)

    for number in rung:  # far more than the kernel queues for one socket that nobody reads
        assert one.ring("two", [number])
    two.listen(loop, heard.update)

    async with asyncio.timeout(PATIENCE):
        while heard != rung:
            await asyncio.sleep(0)


async def test_many_numbers_at_once_all_arrive(bells: tuple[Bells, Bells]):
    one, two = bells
    heard: list[int] = []
    two.listen(asyncio.get_running_loop(), heard.extend)

    one.ring("two", range(1, 2000))

    async with asyncio.timeout(PATIENCE):
        while len(heard) < 1999:
            await asyncio.sleep(0)
    assert heard == list(range(1, 2000))


async def test_a_dead_bell_is_told_from_a_live_one_without_ringing_it(bells: tuple[Bells, Bells], sockets: Path):
    one, two = bells
    heard: list[int] = []
    two.listen(asyncio.get_running_loop(), heard.extend)

    assert one.alive("two")
    two.close()

    assert not one.alive("two")
    assert not one.ring("two", [1])
    assert not one.alive("never there")
    assert (sockets / "two.bell").exists()
    assert heard == []


async def test_a_bell_whose_file_was_removed_is_hung_again(bells: tuple[Bells, Bells], sockets: Path):
    one, two = bells
    heard: list[int] = []
    two.listen(asyncio.get_running_loop(), heard.extend)
    (sockets / "two.bell").unlink()
    assert not one.alive("two")

    two.rehang()

    assert one.ring("two", [7])
    async with asyncio.timeout(PATIENCE):
        while heard != [7]:
            await asyncio.sleep(0)


async def test_a_ring_that_was_never_heard_is_made_good_by_the_slow_poll(
    open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Bells, "ring", never_heard)
    one = await open_transport("one")
    two = await open_transport("two")
    await one.declare(QueueSpec("hello"))
    waiting = asyncio.create_task(two.receive("hello", credit=1, wait=PATIENCE))
    async with asyncio.timeout(PATIENCE):
        while (await one.queues())[0].receivers < 1:
            pass

    await one.send([Outgoing("hello", b"tea")])

    async with asyncio.timeout(PATIENCE):
        assert [delivery.frame for delivery in await waiting] == [b"tea"]


async def test_a_sender_that_waits_for_room_is_served_by_the_slow_poll_too(
    open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Bells, "ring", never_heard)
    one = await open_transport("one", overflow_wait=PATIENCE)
    two = await open_transport("two")
    await one.declare(QueueSpec("hello", capacity=1, overflow="wait"))
    await one.send([Outgoing("hello", b"1")])
    held = one.send([Outgoing("hello", b"2")])
    [first] = await two.receive("hello", credit=1)
    await one.queues()  # its own turn has passed, so the send is held by now

    await two.settle([(first, ACCEPTED)])

    async with asyncio.timeout(PATIENCE):
        await held


def test_a_bell_is_hung_again_though_its_directory_went_too(bells: tuple[Bells, Bells], sockets: Path):
    one, two = bells
    loop = asyncio.new_event_loop()
    one.listen(loop, lambda _: None)
    two.listen(loop, lambda _: None)
    for left in sockets.iterdir():
        left.unlink()
    sockets.rmdir()

    two.rehang()  # makes the directory
    two.rehang()
    one.rehang()

    assert one.ring("two", [7])
    assert two.ring("one", [7])
    for bell in bells:
        bell.close()
    loop.close()


def test_a_process_that_cannot_probe_takes_nobody_for_dead(bells: tuple[Bells, Bells], monkeypatch: pytest.MonkeyPatch):
    one, _ = bells

    def exhausted(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as full:
        full.setattr("posthouse.backends.sqlite.bells.socket.socket", exhausted)
        alive = one.alive("two")
    assert alive


def test_sockets_that_go_while_stale_ones_are_looked_for_disturb_nobody(
    bells: tuple[Bells, Bells], sockets: Path, monkeypatch: pytest.MonkeyPatch
):
    names = [*sockets.iterdir(), sockets / "closed-just-now.bell"]

    def listed(_: Path) -> Iterator[Path]:
        return iter(names)

    monkeypatch.setattr(Path, "iterdir", listed)

    remove_stale(sockets, older_than=0.0)

    assert (sockets / "one.bell").exists()


async def test_a_process_that_was_taken_for_dead_enters_itself_again(
    open_transport: OpenTransport, directory: Path, clock: ManualClock
):
    third = Database(directory, clock=clock)
    await open_transport("one")
    await open_transport("three", database=third)
    two = Database(directory, clock=clock)
    await open_transport("two", database=two)

    async def known() -> list[str]:
        return sorted(await third.call(entered, reads=True))

    (directory / "run" / "one.bell").unlink()
    two.bury("one")
    async with asyncio.timeout(PATIENCE):
        while await known() != ["three", "two"]:
            await asyncio.sleep(0)
        while await known() != ["one", "three", "two"]:  # at its next look
            await asyncio.sleep(0)
