"""The direct path: who is let in, what a frame may be, and what is told when it breaks."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from posthouse.backends.sqlite import direct as module
from posthouse.backends.sqlite.direct import SqliteDirect
from tests.unit.backends.sqlite.children import PATIENCE

pytestmark = pytest.mark.anyio


def ignore_loss(peer: str, frames: list[bytes]) -> None:
    del peer, frames


class End:
    """One process's end, and what it was told."""

    def __init__(self, peer: str, *, user: int | None = None) -> None:
        self.broken: list[str] = []
        self.direct = SqliteDirect(peer, broken=self.broken.append, user=user)
        self.received: list[tuple[str, bytes]] = []
        self.lost: list[tuple[str, list[bytes]]] = []
        self.direct.listen(
            lambda peer, frames: self.received.extend((peer, frame) for frame in frames),
            lambda peer, frames: self.lost.append((peer, frames)),
        )


@pytest.fixture
async def ends(directory: Path) -> AsyncIterator[tuple[End, End]]:
    """Give two ends."""
    directory.mkdir()
    pair = End("one"), End("two")
    for end in pair:
        await end.direct.open(directory)
    yield pair
    for end in pair:
        await end.direct.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


async def raw(directory: Path, peer: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(f"{directory}/{peer}.direct")


def framed(*frames: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)


async def test_frames_that_come_in_pieces_are_put_together(ends: tuple[End, End], directory: Path):
    one, _ = ends
    _, writer = await raw(directory, "one")
    for byte in framed(b"raw", b"first", b"", b"second"):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)

    await until(lambda: len(one.received) == 3)

    assert one.received == [("raw", b"first"), ("raw", b""), ("raw", b"second")]
    writer.close()


async def test_a_frame_that_says_it_is_too_large_closes_the_connection(ends: tuple[End, End], directory: Path):
    one, _ = ends
    reader, writer = await raw(directory, "one")
    writer.write(framed(b"raw") + struct.pack(">I", module.LARGEST_FRAME + 1) + b"x")

    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""

    assert one.received == []
    writer.close()


async def test_a_frame_that_is_too_large_is_lost_and_the_connection_lives(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LARGEST_FRAME", 1000)
    one, two = ends

    one.direct.send("two", b"x" * 1001)
    one.direct.send("two", b"small")
    await until(lambda: two.received)

    assert one.lost == [("two", [b"x" * 1001])]
    assert two.received == [("one", b"small")]
    assert one.broken == []


async def test_a_large_frame_arrives_whole(ends: tuple[End, End]):
    one, two = ends
    frame = os.urandom(5_000_000)

    one.direct.send("two", frame)
    await until(lambda: two.received)

    assert two.received == [("one", frame)]


async def test_a_process_of_another_user_is_not_let_in(directory: Path):
    directory.mkdir()
    server, caller = End("server", user=os.geteuid() + 1), End("caller")
    await server.direct.open(directory)
    await caller.direct.open(directory)

    caller.direct.send("server", b"secret")
    await until(lambda: caller.lost)

    assert server.received == []
    await server.direct.close()
    await caller.direct.close()


async def test_a_server_of_another_user_is_not_talked_to(directory: Path):
    directory.mkdir()
    caller = End("caller", user=os.geteuid() + 1)
    await caller.direct.open(directory)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "server.direct"))
        listener.listen()

        listener.setblocking(False)

        caller.direct.send("server", b"secret")
        await until(lambda: caller.lost)

        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            accepted, _ = await loop.sock_accept(listener)
            with accepted:
                assert await loop.sock_recv(accepted, 100) == b""
    assert caller.lost == [("server", [b"secret"])]
    await caller.direct.close()


async def test_frames_to_one_who_is_not_there_are_told_as_lost(ends: tuple[End, End]):
    one, _ = ends

    one.direct.send("nobody", b"1")
    one.direct.send("nobody", b"2")
    await until(lambda: one.lost)

    assert one.lost == [("nobody", [b"1", b"2"])]
    assert one.broken == ["nobody"]


async def test_one_connection_carries_both_directions(ends: tuple[End, End]):
    one, two = ends
    one.direct.send("two", b"question")
    await until(lambda: two.received)

    two.direct.send("one", b"answer")
    await until(lambda: one.received)

    assert one.received == [("two", b"answer")]
    assert len(one.direct.links) == len(two.direct.links) == 1


async def test_a_peer_that_leaves_is_told_and_can_be_reached_again(ends: tuple[End, End], directory: Path):
    one, two = ends
    one.direct.send("two", b"1")
    await until(lambda: two.received)

    await two.direct.close()
    await until(lambda: one.lost)

    (directory / "two.direct").unlink(missing_ok=True)
    again = End("two")
    await again.direct.open(directory)
    one.direct.send("two", b"2")
    await until(lambda: again.received)
    assert again.received == [("one", b"2")]
    await again.direct.close()


async def test_a_peer_that_does_not_read_is_given_up_and_told_what_it_did_not_get(
    ends: tuple[End, End], directory: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MOST_WAITING", 1_000_000)
    one, _ = ends
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(directory / "deaf.direct"))
        deaf.listen()
        frame = b"x" * 100_000
        sent = 0

        async with asyncio.timeout(PATIENCE):
            while not one.lost:
                one.direct.send("deaf", frame)
                sent += 1
                await asyncio.sleep(0)

        [(peer, frames)] = one.lost
        assert peer == "deaf"
        assert 0 < len(frames) < sent


async def test_the_first_frame_of_a_turn_leaves_at_once_and_all_others_in_one_write(ends: tuple[End, End]):
    one, two = ends
    batches: list[list[bytes]] = []
    two.direct.listen(lambda _, frames: batches.append(frames), ignore_loss)
    one.direct.send("two", b"hello")
    await until(lambda: batches)

    sent = [b"%d" % number for number in range(100)]

    for frame in sent:
        one.direct.send("two", frame)
    await until(lambda: sum(map(len, batches)) == 101)

    assert batches[1:] in ([sent], [sent[:1], sent[1:]])  # one reading may find both writes


async def test_what_arrives_before_anybody_listens_is_kept(directory: Path):
    directory.mkdir()
    early, caller = SqliteDirect("early", broken=lambda _: None), End("caller")
    await early.open(directory)
    await caller.direct.open(directory)
    caller.direct.send("early", b"tea")
    await until(lambda: early._early)
    received: list[tuple[str, list[bytes]]] = []

    early.listen(lambda peer, frames: received.append((peer, frames)), ignore_loss)

    assert received == [("caller", [b"tea"])]
    await caller.direct.close()
    await early.close()


async def test_a_frame_to_oneself_arrives_and_not_before_the_call_has_returned(ends: tuple[End, End]):
    one, _ = ends

    one.direct.send("one", b"1")
    one.direct.send("one", b"2")
    assert one.received == []
    await until(lambda: one.received)

    assert one.received == [("one", b"1"), ("one", b"2")]
