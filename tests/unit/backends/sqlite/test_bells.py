"""Bells: rung, busy, dead, and taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.backends.sqlite.bells import Bells
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec
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
