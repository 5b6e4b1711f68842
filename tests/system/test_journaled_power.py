"""The power fails under a store's file: what was flushed is there, what was not is lost from the end, never in between.

A VFS of SQLite writes through to the real files, and remembers beside them what a disk would have for certain: only
what was flushed. At random writes and flushes it makes a copy as a power cut could leave it: what was certain, and
of all later writes any of their sectors. A store must read each copy.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from posthouse.backends import open_store
from posthouse.backends.sqlite.store import file as store_file
from posthouse.clock import SystemClock
from posthouse.contracts.store import Books, Key

pytestmark = pytest.mark.system

SEED = 20_273
SECTOR = 512
NAME = "posthouse-power"
BASE = "unix"


@dataclass
class Copy:
    """What a power cut has left.

    Attributes:
        folder: where it lies.
        promised: so many commits had been flushed, and said so, when the power went.
        begun: so many had been begun.
    """

    folder: Path
    promised: int
    begun: int


@dataclass
class Disk:
    """What is certain to be on the disk, and what was written since.

    Attributes:
        folder: for the copies.
        wanted: so many copies are made.
        chance: how likely one is at each write and flush.
    """

    folder: Path
    wanted: int
    chance: float
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))
    certain: dict[str, bytearray] = field(default_factory=dict[str, bytearray])
    since: dict[str, list[tuple[int, bytes | None]]] = field(
        default_factory=dict[str, "list[tuple[int, bytes | None]]"]
    )
    copies: list[Copy] = field(default_factory=list[Copy])
    promised: int = 0
    begun: int = 0
    heeds_flushes: bool = True

    def write(self, path: str, offset: int, data: bytes | None) -> None:
        """Note a write; without data it is the file's new end."""
        self.since.setdefault(path, []).append((offset, data))
        self._perhaps_cut()

    def flush(self, path: str) -> None:
        """Note a flush."""
        self._perhaps_cut()
        if self.heeds_flushes:
            for offset, data in self.since.pop(path, []):
                _apply(self.certain.setdefault(path, bytearray()), offset, data)

    def delete(self, path: str) -> None:
        """Note that a file is gone; the store flushes its directory before it promises anything."""
        self.since.pop(path, None)
        self.certain.pop(path, None)

    def _perhaps_cut(self) -> None:
        if len(self.copies) >= self.wanted or self.rng.random() > self.chance or not self.begun:
            return
        folder = self.folder / f"cut-{len(self.copies)}"
        (folder / "stores").mkdir(parents=True)
        for path in self.certain.keys() | self.since.keys():
            left = bytearray(self.certain.get(path, b""))
            for offset, data in self.since.get(path, []):
                if data is None:
                    if self.rng.random() < 0.5:
                        _apply(left, offset, None)
                    continue
                for start in range(0, len(data), SECTOR):
                    if self.rng.random() < 0.5:
                        _apply(left, offset + start, data[start : start + SECTOR])
            (folder / "stores" / Path(path).name).write_bytes(left)
        self.copies.append(Copy(folder, self.promised, self.begun))


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class PowerFile(apsw.VFSFile):
    """A file whose writes and flushes are told to the disk."""

    disk: Disk

    def __init__(self, filename: Any, flags: list[int]) -> None:
        super().__init__(BASE, filename, flags)
        self._path = filename.filename() if isinstance(filename, apsw.URIFilename) else str(filename)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite names it
        super().xWrite(data, offset)  # pyright: ignore[reportUnknownMemberType]
        self.disk.write(self._path, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite names it
        super().xTruncate(newsize)
        self.disk.write(self._path, newsize, None)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite names it
        super().xSync(flags)
        self.disk.flush(self._path)


class PowerVfs(apsw.VFS):
    """The default way to files, with our files."""

    def __init__(self) -> None:
        super().__init__(NAME, BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite names it
        return PowerFile(name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite names it
        super().xDelete(filename, syncdir)
        PowerFile.disk.delete(filename)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(tmp_path / "cuts", wanted=0, chance=0.0)
    monkeypatch.setattr(PowerFile, "disk", disk, raising=False)
    flush = store_file._flush

    def flush_and_note(file: int) -> None:
        flush(file)
        disk.flush(str(Path(f"/proc/self/fd/{file}").readlink()))

    monkeypatch.setattr(store_file, "_flush", flush_and_note)
    monkeypatch.setattr(store_file, "_PAGES", 40)  # so that the log is copied back often, and cut while it is
    vfs = PowerVfs()
    yield disk
    vfs.unregister()
    apsw.set_default_vfs(BASE)


async def work(disk: Disk, folder: Path, *, commits: int) -> None:
    """Make commits until all copies are made; every third one is flushed."""
    store = open_store(f"sqlite:{folder}", service="shop", instance="one", clock=SystemClock())
    await store.open()
    try:
        for number in range(commits):

            def step(books: Books, number: int = number) -> None:
                for part in "ab":
                    books.add_key(Key(part, f"{number:06}", random.randbytes(300), "", 1e12))

            disk.begun = number + 1
            flushed = number % 3 == 0
            await store.commit(step, name="note", flush=flushed)
            if flushed:
                disk.promised = number + 1
            if len(disk.copies) >= disk.wanted:
                return
    finally:
        await store.close()


def kept(copy: Copy) -> int:
    """Return how many commits a copy holds, and see that they are the first ones, each whole."""
    connection: Any = apsw.Connection(str(copy.folder / "stores" / "shop.db"), vfs=BASE)
    try:
        [[well]] = connection.execute("PRAGMA integrity_check").fetchall()
        assert well == "ok"
        parts = [
            [
                int(str(key))
                for (key,) in connection.execute("SELECT key FROM posthouse_keys WHERE scope = ? ORDER BY key", (part,))
            ]
            for part in "ab"
        ]
    finally:
        connection.close()
    assert parts[0] == parts[1], "a commit is there in part"
    assert parts[0] == list(range(len(parts[0]))), "a commit is lost, and a later one is there"
    return len(parts[0])


@pytest.mark.parametrize("cuts", [50, pytest.param(1_000, marks=pytest.mark.slow)])
def test_what_was_flushed_outlives_a_power_cut_and_what_was_not_is_lost_from_the_end(
    disk: Disk, tmp_path: Path, cuts: int
) -> None:
    disk.wanted, disk.chance = cuts, 0.02

    asyncio.run(work(disk, tmp_path / "data", commits=100 * cuts))

    assert len(disk.copies) == cuts
    lost = check_all(disk.copies)
    print(f"seed {SEED}: {cuts} cuts, {lost} commits that were not promised are lost")
    assert lost > 0


def test_a_store_that_was_cut_opens_and_works(disk: Disk, tmp_path: Path) -> None:
    disk.wanted, disk.chance = 5, 0.02
    asyncio.run(work(disk, tmp_path / "data", commits=1_000))

    for copy in disk.copies:
        assert asyncio.run(lanes_after_one_is_opened(copy)) == ["prices"]


async def lanes_after_one_is_opened(copy: Copy) -> list[str]:
    store = open_store(f"sqlite:{copy.folder}", service="shop", instance="two", clock=SystemClock())
    await store.open()
    try:
        await store.commit(lambda books: books.open_lane_out("prices"), name="open", flush=True)
        return [lane.service for lane in await store.read(lambda books: books.lanes_out())]
    finally:
        await store.close()


def test_it_is_seen_when_flushes_do_nothing(disk: Disk, tmp_path: Path) -> None:
    disk.wanted, disk.chance, disk.heeds_flushes = 20, 0.02, False

    asyncio.run(work(disk, tmp_path / "data", commits=2_000))

    with pytest.raises((AssertionError, apsw.Error)):
        check_all(disk.copies)


def check_all(copies: list[Copy]) -> int:
    """See that each copy holds what was promised; return how many commits that were not promised are lost."""
    lost = 0
    for copy in copies:
        there = kept(copy)
        assert copy.promised <= there <= copy.begun, copy
        lost += copy.begun - there
    return lost
