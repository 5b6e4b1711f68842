"""Copies of stores: of one moment, whole, and each in a new life when it is put back; on a disk, without processes."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from posthouse.backends.sqlite.store import FileEngine, SqliteStore
from posthouse.backends.sqlite.store.backups import Manifest, back_up, check_backup, check_stores, read_manifest
from posthouse.backends.sqlite.store.copies import connected, copy_store
from posthouse.backends.sqlite.store.restores import PutBack, put_back
from posthouse.contracts.store import Books
from posthouse.errors import DiskFullError, StorageError, UsageError
from posthouse.testing import ManualClock
from posthouse.testing.conformance.stores.bench import SHOP

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PLENTY = 3 << 20


def silent(_service: str, _done: int, _whole: int) -> None:
    """Show nothing."""


def rows_of(path: Path, statement: str) -> list[Any]:
    """Return what a statement finds in a file."""
    with connected(path) as connection:
        return connection.execute(statement).fetchall()


def change(path: Path, statement: str) -> None:
    """Change a file, as another program would."""
    rows_of(path, statement)


def lives_of(path: Path) -> list[tuple[int, str]]:
    """Return the lives of a store, and why they began."""
    return rows_of(path, "SELECT epoch, reason FROM posthouse_epochs ORDER BY epoch")


def opened(data: Path, service: str = "prices", *, schema: tuple[str, ...] = ()) -> None:
    """Open a store as its service does, and close it; a new one has a lane from the shop."""

    async def open_and_close() -> None:
        clock = ManualClock(NOON.timestamp())
        store = SqliteStore(FileEngine(data, service=service), service=service, instance="one", clock=clock)
        await store.open(schema=schema)

        def fill(books: Books) -> None:
            if books.lane_from(SHOP) is not None:
                return
            lane = books.open_lane_in(SHOP, "shop")
            lane.over.add_all([0, 1, 5])
            books.save_lane_in(lane)

        await store.commit(fill, name="fill")
        await store.close()

    asyncio.run(open_and_close())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a data directory with the stores of two services; prices has rows of its own."""
    blobs = f"""
    INSERT INTO blobs
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT randomblob(65536) FROM n LIMIT {PLENTY >> 16}
    """
    opened(tmp_path / "data", schema=("CREATE TABLE blobs (bytes BLOB); CREATE TABLE counted (n INTEGER)", blobs))
    opened(tmp_path / "data", "stock")
    return tmp_path / "data"


@pytest.fixture
def backup(data: Path, tmp_path: Path) -> Path:
    """Give a backup of both stores."""
    made(data, tmp_path / "backup")
    return tmp_path / "backup"


def made(data: Path, target: Path, progress: Callable[[str, int, int], None] = silent) -> Manifest:
    """Make a backup."""
    return back_up(data / "stores", ["prices", "stock"], target, made=NOON, posthouse="1", progress=progress)


def restored(
    backup: Path, data: Path, *services: str, replace: bool = False, now: datetime = NOON + timedelta(hours=1)
) -> list[PutBack]:
    """Put stores of a backup back."""
    copies = [copy for copy in read_manifest(backup).stores if not services or copy.service in services]
    return list(put_back(backup, copies, data, data / "stores", replace=replace, now=now, progress=silent))


def faults_in(backup: Path) -> dict[str, list[str]]:
    """Return what is wrong with each store of a backup."""
    return {each.service: each.faults for each in check_backup(backup, read_manifest(backup).stores, progress=silent)}


def epoch_of(path: Path) -> int:
    """Return the epoch of a store."""
    [[epoch]] = rows_of(path, "SELECT epoch FROM posthouse_store")
    return epoch


# --- copying ----------------------------------------------------------------------------------------------


def test_a_copy_ends_and_holds_one_moment_however_often_others_commit_meanwhile(data: Path, tmp_path: Path):
    source, steps = data / "stores" / "prices.db", 0

    def write(_done: int, _whole: int) -> None:
        nonlocal steps
        steps += 1
        assert steps < 10, "it began anew"
        change(source, f"INSERT INTO counted VALUES ({steps}); UPDATE blobs SET bytes = randomblob(65536)")

    with connected(source) as other:  # so that what it commits lies in the WAL
        other.execute("INSERT INTO counted VALUES (0)")
        copy_store(source, tmp_path / "copy.db", progress=write, rest=lambda _seconds: None)

    assert steps > PLENTY >> 20
    assert rows_of(tmp_path / "copy.db", "SELECT n FROM counted") == [(0,)]
    assert rows_of(tmp_path / "copy.db", "PRAGMA integrity_check") == [("ok",)]
    assert len(rows_of(source, "SELECT n FROM counted")) == 1 + steps


def test_a_copy_rests_after_each_step_for_as_long_as_the_step_took(data: Path, tmp_path: Path):
    rests: list[float] = []
    steps = 0

    def count(_done: int, _whole: int) -> None:
        nonlocal steps
        steps += 1

    copy_store(data / "stores" / "prices.db", tmp_path / "copy.db", progress=count, rest=rests.append)

    assert len(rests) == steps > 1
    assert all(rest > 0 for rest in rests)


def test_a_copy_leaves_no_wal_to_be_copied_back_by_those_who_write(data: Path, tmp_path: Path):
    source = data / "stores" / "prices.db"
    with connected(source) as other:  # so that the WAL is not removed
        other.execute("PRAGMA wal_autocheckpoint = 0").fetchall()

        def write(_done: int, _whole: int) -> None:
            other.execute("INSERT INTO counted VALUES (1)")

        copy_store(source, tmp_path / "copy.db", progress=write, rest=lambda _seconds: None)

        [(_, pages, copied_back)] = other.execute("PRAGMA wal_checkpoint(NOOP)").fetchall()
        assert pages == copied_back > 0


def test_a_backup_is_private_and_holds_a_file_a_store_and_its_manifest(backup: Path):
    manifest = read_manifest(backup)

    assert sorted(path.name for path in backup.iterdir()) == ["manifest.json", "prices.db", "stock.db"]
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in backup.iterdir()} == {0o600}
    assert (manifest.made, [copy.service for copy in manifest.stores]) == (NOON, ["prices", "stock"])
    assert faults_in(backup) == {"prices": [], "stock": []}


def test_a_backup_that_fails_leaves_nothing(data: Path, tmp_path: Path):
    (data / "stores" / "stock.db").write_bytes(b"this is no store" * 1000)

    with pytest.raises(StorageError, match=r"stock\.db"):
        made(data, tmp_path / "backup")

    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_is_not_there_before_all_of_it_is(data: Path, tmp_path: Path):
    seen: list[bool] = []

    def look(_service: str, _done: int, _whole: int) -> None:
        seen.append((tmp_path / "backup").exists())

    made(data, tmp_path / "backup", look)

    assert seen
    assert not any(seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data"]


@pytest.mark.parametrize("there", ["a directory with something in it", "a file", "a link"])
def test_a_target_that_is_something_already_is_refused_and_left_as_it_is(data: Path, tmp_path: Path, there: str):
    target = tmp_path / "backup"
    if there == "a file":
        target.write_text("kept")
    elif there == "a link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.mkdir()
        (target / "kept").touch()
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(UsageError, match="backup"):
        made(data, target)

    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_directory_becomes_the_backup(data: Path, tmp_path: Path):
    (tmp_path / "backup").mkdir()

    made(data, tmp_path / "backup")

    assert faults_in(tmp_path / "backup") == {"prices": [], "stock": []}


def test_where_there_is_no_room_nothing_is_begun(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=PLENTY)

    def full(_path: Path) -> object:
        return usage

    monkeypatch.setattr(shutil, "disk_usage", full)

    with pytest.raises(DiskFullError):
        made(data, tmp_path / "backup")

    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# --- checking ---------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        [byte] = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(flip, "checksum"), (cut, "bytes instead of"), (Path.unlink, "missing"), (Path.touch, "")],
    ids=["a bit flipped", "cut short", "gone", "untouched"],
)
def test_a_damaged_backup_is_told_by_service_and_not_restored(
    backup: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
):
    spoil(backup / "prices.db")

    faults = faults_in(backup)

    assert faults["stock"] == []
    assert bool(faults["prices"]) == bool(said)
    if said:
        assert said in faults["prices"][0]
        with pytest.raises(StorageError, match=r"prices\.db: it"):
            restored(backup, tmp_path / "fresh")
        assert not (tmp_path / "fresh").exists()


def test_a_store_of_another_service_in_its_place_is_a_fault_though_it_is_whole(backup: Path):
    shutil.copyfile(backup / "stock.db", backup / "prices.db")
    manifest = json.loads((backup / "manifest.json").read_text())
    prices, stock = manifest["stores"]
    prices |= {"size": stock["size"], "checksum": stock["checksum"]}
    (backup / "manifest.json").write_text(json.dumps(manifest))

    assert "which the manifest does not say" in faults_in(backup)["prices"][0]


def test_a_row_that_is_not_as_it_was_written_is_found_in_a_store_that_is_in_use(data: Path):
    store = data / "stores" / "stock.db"
    dead = "INSERT INTO posthouse_dead VALUES (1, 2, 'a', 'stock.take', x'00', 'parked', 'c', 'r', 'd', 1, 'f', 1.0, 7)"
    change(store, dead)

    prices, stock = check_stores(data / "stores", ["prices", "stock"], progress=silent)

    assert prices.faults == []
    assert stock.faults == ["the dead letter a (row 1) is damaged: its checksum does not fit what is stored"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is no backup: it has no manifest.json"),
        ("{", "is damaged"),
        ('{"version": 2, "made": "2026-11-23T12:00:00Z", "posthouse": "1", "stores": []}', "a newer posthouse"),
    ],
)
def test_what_has_no_manifest_of_ours_is_no_backup(backup: Path, text: str | None, said: str):
    if text is None:
        (backup / "manifest.json").unlink()
    else:
        (backup / "manifest.json").write_text(text)

    with pytest.raises(StorageError, match=said):
        read_manifest(backup)


@pytest.mark.parametrize(("name", "value"), [("file", "../prices.db"), ("service", "../prices"), ("file", "stock.db")])
def test_a_manifest_cannot_name_a_file_elsewhere(backup: Path, name: str, value: str):
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["stores"][0][name] = value
    (backup / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(StorageError, match="damaged"):
        read_manifest(backup)


# --- restoring --------------------------------------------------------------------------------------------


def test_a_restored_store_begins_exactly_one_new_life_that_says_why(backup: Path, tmp_path: Path):
    fresh = tmp_path / "fresh"

    [prices, _stock] = restored(backup, fresh)
    opened(fresh)
    opened(fresh)

    path = fresh / "stores" / "prices.db"
    assert lives_of(path) == [(1, "created"), (prices.identity.epoch, "restored")]
    assert rows_of(path, "SELECT count(*) FROM blobs") == [(PLENTY >> 16,)]
    assert rows_of(path, f"SELECT lane, floor FROM posthouse_epoch_floors WHERE epoch = {prices.identity.epoch}") == [
        (0, 0),
        (1, 2),
    ]
    assert prices.identity.id == read_manifest(backup).stores[0].id
    assert {stat.S_IMODE(each.stat().st_mode) for each in (fresh, fresh / "stores")} == {0o700}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_backup_that_is_put_back_by_hand_at_the_same_inode_begins_a_new_life(backup: Path, data: Path):
    path = data / "stores" / "prices.db"
    inode = path.stat().st_ino
    shutil.copyfile(backup / "prices.db", path)

    opened(data)

    assert path.stat().st_ino == inode
    assert [reason for _epoch, reason in lives_of(path)] == ["created", "moved"]


def test_a_backup_that_is_restored_twice_begins_a_later_life_each_time(backup: Path, tmp_path: Path):
    [first] = restored(backup, tmp_path / "first", "prices", now=NOON)
    [second] = restored(backup, tmp_path / "second", "prices", now=NOON + timedelta(seconds=1))

    assert second.identity.id == first.identity.id
    assert second.identity.epoch > first.identity.epoch > 1


def test_a_restored_store_is_later_than_the_one_that_it_replaces_though_the_clock_went_back(backup: Path, data: Path):
    path = data / "stores" / "prices.db"
    [later] = restored(backup, data, "prices", replace=True, now=NOON + timedelta(days=365))

    [restored_again] = restored(backup, data, "prices", replace=True, now=NOON)

    assert restored_again.identity.epoch == later.identity.epoch + 1 == epoch_of(path)
    assert restored_again.replaced == later.identity


def test_a_store_that_is_there_is_in_the_way_and_nothing_is_changed(backup: Path, data: Path):
    (data / "stores" / "stock.db").unlink()
    before = {path: path.read_bytes() for path in (data / "stores").iterdir()}

    with pytest.raises(UsageError, match="prices has a store already") as told:
        restored(backup, data)

    assert "--replace" in told.value.hint
    assert {path: path.read_bytes() for path in (data / "stores").iterdir()} == before


def test_what_was_there_is_put_aside_whole_under_another_name_each_time(backup: Path, data: Path):
    path = data / "stores" / "prices.db"
    change(path, "INSERT INTO counted VALUES (1)")

    [first] = restored(backup, data, "prices", replace=True)
    [second] = restored(backup, data, "prices", replace=True)

    assert first.aside is not None
    assert second.aside is not None
    assert first.aside != second.aside
    assert rows_of(first.aside, "SELECT n FROM counted") == [(1,)]
    assert rows_of(path, "SELECT n FROM counted") == []
    assert epoch_of(second.aside) == first.identity.epoch
    assert sorted(each.name for each in (data / "stores").glob("*.db")) == ["prices.db", "stock.db"]


def test_the_wal_of_a_store_that_cannot_be_read_does_not_get_into_the_restored_one(backup: Path, data: Path):
    path = data / "stores" / "prices.db"
    with connected(path) as writer:
        writer.execute("UPDATE blobs SET bytes = zeroblob(65536)")
        wal = path.with_name("prices.db-wal").read_bytes()
    path.write_bytes(b"nothing that could be read " * 1000)
    path.with_name("prices.db-wal").write_bytes(wal)

    [done] = restored(backup, data, "prices", replace=True)

    assert done.aside is not None
    assert done.replaced is None
    assert done.aside.with_name(f"{done.aside.name}-wal").read_bytes() == wal
    assert rows_of(path, "SELECT count(*) FROM blobs WHERE bytes = zeroblob(65536)") == [(0,)]
    assert check_stores(data / "stores", ["prices"], progress=silent)[0].faults == []


def test_an_empty_file_where_a_store_should_be_is_not_in_the_way(backup: Path, tmp_path: Path):
    fresh = tmp_path / "fresh"
    (fresh / "stores").mkdir(parents=True)
    (fresh / "stores" / "prices.db").touch()

    [done] = restored(backup, fresh, "prices")

    assert done.aside is None
    assert lives_of(done.path)[-1] == (done.identity.epoch, "restored")


def test_a_restore_leaves_nothing_beside_the_stores(backup: Path, tmp_path: Path):
    restored(backup, tmp_path / "fresh")

    left = {path.name for path in (tmp_path / "fresh" / "stores").iterdir() if not path.name.endswith(".lock")}
    assert left == {"prices.db", "stock.db"}
