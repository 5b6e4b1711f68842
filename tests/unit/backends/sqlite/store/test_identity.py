"""Which store a file is, in which life; and files that are not opened."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from pathlib import Path
from typing import cast

import apsw
import pytest

from posthouse.backends.sqlite.sql import Sql
from posthouse.backends.sqlite.store import FileEngine, SqliteStore
from posthouse.backends.sqlite.store.tables import VERSION
from posthouse.contracts.store import Books
from posthouse.errors import StorageError, UnsafeEngineError
from posthouse.runtime.seams import random_ids
from posthouse.testing import ManualClock
from posthouse.testing.conformance.stores.bench import SHOP, call, lane_with
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio


def rows_of(path: Path, statement: str) -> list[tuple[object, ...]]:
    """Run a statement on the file, as another program would."""
    connection = apsw.Connection(str(path))
    try:
        return cast("Sql", connection.cursor()).execute(statement).fetchall()
    finally:
        connection.close()


def present_moment(clock: ManualClock) -> int:
    """Return the epoch of a life that begins now: the moment in milliseconds."""
    return int(clock.now() * 1000)


async def make(directory: Path, clock: ManualClock) -> SqliteStore:
    """Make a store with a lane from the shop in it, and close it."""
    store = SqliteStore(FileEngine(directory, service="prices"), service="prices", instance="one", clock=clock)
    await store.open()

    def fill(books: Books) -> None:
        lane = books.open_lane_in(SHOP, "shop")
        lane.over.add_all([0, 1, 5])
        books.save_lane_in(lane)

    await store.commit(fill, name="fill")
    await store.close()
    return store


async def test_a_copied_file_begins_a_new_life_and_says_so(
    directory: Path, clock: ManualClock, open_file: OpenStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    original = await make(directory, clock)
    shutil.copytree(directory, tmp_path / "copy")
    caplog.set_level(logging.WARNING)

    copy = await open_file(at=tmp_path / "copy")

    assert (copy.identity.id, copy.identity.epoch) == (original.identity.id, present_moment(clock))
    assert f"epoch {present_moment(clock)}" in caplog.text
    assert str(tmp_path / "copy" / "stores" / "prices.db") in caplog.text


async def test_a_copy_begins_one_new_life_however_often_it_is_opened(
    directory: Path, clock: ManualClock, open_file: OpenStore, tmp_path: Path
):
    await make(directory, clock)
    shutil.copytree(directory, tmp_path / "copy")

    epochs = [(await open_file(name, at=tmp_path / "copy")).identity.epoch for name in ("one", "two", "three")]

    assert epochs == [present_moment(clock)] * 3
    assert (await open_file()).identity.epoch == 1


async def test_a_new_life_remembers_why_it_began_and_how_far_its_lanes_were(
    directory: Path, clock: ManualClock, open_file: OpenStore, tmp_path: Path
):
    await make(directory, clock)
    shutil.copytree(directory, tmp_path / "copy")
    clock.advance(60)

    await open_file(at=tmp_path / "copy")

    file = tmp_path / "copy" / "stores" / "prices.db"
    lives = rows_of(file, "SELECT epoch, reason, at FROM posthouse_epochs ORDER BY epoch")
    begun = present_moment(clock)
    assert lives == [(1, "created", clock.now() - 60), (begun, "moved", clock.now())]
    floors = rows_of(file, "SELECT epoch, lane, floor, length(ranges) FROM posthouse_epoch_floors ORDER BY lane")
    assert floors == [(begun, 0, 0, 1), (begun, 1, 2, 4)]


async def test_a_file_that_is_copied_twice_begins_a_later_life_each_time(
    directory: Path, clock: ManualClock, open_file: OpenStore, tmp_path: Path
):
    await make(directory, clock)
    shutil.copytree(directory, tmp_path / "first")
    shutil.copytree(directory, tmp_path / "second")

    first = await open_file(at=tmp_path / "first")
    clock.advance(1)
    second = await open_file(at=tmp_path / "second")

    assert second.identity.epoch > first.identity.epoch > 1


async def test_a_life_is_later_than_the_one_before_even_when_the_clock_went_back(
    directory: Path, clock: ManualClock, open_file: OpenStore, tmp_path: Path
):
    await make(directory, clock)
    shutil.copytree(directory, tmp_path / "first")
    first = await open_file(at=tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    clock.set(clock.now() - 3600)

    second = await open_file(at=tmp_path / "second")

    assert second.identity.epoch == first.identity.epoch + 1


async def test_another_machine_is_another_life(
    directory: Path, clock: ManualClock, open_file: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    await make(directory, clock)
    monkeypatch.setattr("posthouse.backends.sqlite.store.file.machine_id", lambda: "another")

    store = await open_file()

    assert store.identity.epoch == present_moment(clock)


async def test_a_lane_towards_a_service_is_one_of_the_present_life(
    directory: Path, clock: ManualClock, open_file: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    before = await open_file()
    await before.commit(lambda books: lane_with(books, [call(0)]), name="make")
    await before.close()
    monkeypatch.setattr("posthouse.backends.sqlite.store.file.machine_id", lambda: "another")

    store = await open_file()

    assert await store.read(lambda books: books.lane_to("stock")) is None
    opened = await store.commit(lambda books: books.open_lane_out("stock"), name="open")
    assert (opened.lane, opened.epoch) == (2, present_moment(clock))


async def test_the_name_of_a_new_store_is_made_by_who_opens_it(directory: Path, clock: ManualClock):
    engine = FileEngine(directory, service="prices")
    store = SqliteStore(engine, service="prices", instance="one", clock=clock, new_id=lambda: "0af1")

    await store.open()
    await store.close()

    assert store.identity.id == "0af1"


# --- what is refused --------------------------------------------------------------------------------------------


async def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(
    directory: Path, clock: ManualClock, path: Path, open_file: OpenStore
):
    await make(directory, clock)
    rows_of(path, f"PRAGMA user_version = {VERSION + 1}")

    with pytest.raises(StorageError, match="newer posthouse") as refusal:
        await open_file()

    assert "Upgrade" in refusal.value.hint
    assert rows_of(path, "PRAGMA user_version") == [(VERSION + 1,)]


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(
    directory: Path, path: Path, open_file: OpenStore
):
    path.parent.mkdir(parents=True, mode=0o700)
    directory.chmod(0o700)
    rows_of(path, "CREATE TABLE theirs (n INTEGER)")
    path.chmod(0o600)

    with pytest.raises(StorageError, match="another program"):
        await open_file()

    assert rows_of(path, "SELECT name FROM sqlite_schema") == [("theirs",)]


async def test_a_transport_s_file_is_no_store(directory: Path, clock: ManualClock, path: Path, open_file: OpenStore):
    await make(directory, clock)
    rows_of(path, f"PRAGMA application_id = {0x506F7374}")

    with pytest.raises(StorageError, match="no store"):
        await open_file()


async def test_what_is_no_database_is_refused_and_kept(directory: Path, path: Path, open_file: OpenStore):
    path.parent.mkdir(parents=True, mode=0o700)
    directory.chmod(0o700)
    path.write_bytes(b"a letter, and no database" * 100)
    path.chmod(0o600)

    with pytest.raises(StorageError) as refusal:
        await open_file()

    assert "Keep the file" in refusal.value.hint
    assert path.read_bytes() == b"a letter, and no database" * 100


async def test_a_file_behind_a_symbolic_link_is_refused(
    directory: Path, clock: ManualClock, path: Path, tmp_path: Path, open_file: OpenStore
):
    await make(directory, clock)
    path.rename(tmp_path / "real.db")
    path.symlink_to(tmp_path / "real.db")

    with pytest.raises(StorageError, match="symbolic link"):
        await open_file()


async def test_a_sqlite_that_can_lose_commits_is_refused_before_anything_is_made(directory: Path, open_file: OpenStore):
    with pytest.raises(UnsafeEngineError):
        await open_file(engine="3.51.2")

    assert not directory.exists()


async def test_only_its_user_can_read_what_is_stored(directory: Path, path: Path, open_file: OpenStore):
    before = os.umask(0)
    try:
        await open_file()
    finally:
        os.umask(before)

    modes = {each: stat.S_IMODE(each.stat().st_mode) for each in (directory, path.parent, *path.parent.iterdir())}
    assert {mode for each, mode in modes.items() if each.is_dir()} == {0o700}
    assert {mode for each, mode in modes.items() if not each.is_dir()} == {0o600}
    assert {each.name for each in path.parent.iterdir()} == {
        "prices.db",
        "prices.db-wal",
        "prices.db-shm",
        "prices.turn.lock",
        "prices.write.lock",
    }


async def test_stores_that_are_made_in_one_moment_are_told_apart_by_how_their_ids_begin(
    clock: ManualClock, tmp_path: Path
):
    new_id = random_ids(clock.now)
    ids: list[str] = []

    for name in ("left", "right"):
        engine = FileEngine(tmp_path / name, service="prices")
        store = SqliteStore(engine, service="prices", instance="one", clock=clock, new_id=new_id)
        await store.open()
        ids.append(store.identity.id)
        await store.close()

    assert ids[0][:8] != ids[1][:8]
    assert [len(id) for id in ids] == [32, 32]
