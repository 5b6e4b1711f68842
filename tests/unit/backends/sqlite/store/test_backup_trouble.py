"""Backups and restores that cannot be: what is in the way is said, nothing is half done, and progress is shown."""

from __future__ import annotations

import errno
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from posthouse.backends.sqlite.store.backups import check_backup, check_stores, read_manifest
from posthouse.backends.sqlite.store.copies import cannot_write
from posthouse.backends.sqlite.store.restores import put_back
from posthouse.errors import DiskFullError, PosthouseError, StorageError, UnavailableError, UsageError
from tests.unit.backends.sqlite.store.test_backups import NOON, change, flip, made, opened, restored, silent


class Shown:
    """What was shown of how far something is."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def __call__(self, service: str, done: int, whole: int) -> None:
        self.seen.append((service, done, whole))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a data directory with the stores of two services; prices has a table of its own."""
    opened(tmp_path / "data", schema=("CREATE TABLE counted (n INTEGER)",))
    opened(tmp_path / "data", "stock")
    return tmp_path / "data"


@pytest.fixture
def backup(data: Path, tmp_path: Path) -> Path:
    """Give a backup of both stores."""
    made(data, tmp_path / "backup")
    return tmp_path / "backup"


# --- what is no backup, and no store ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("nothing", "nothing is not there", "has made"),
        ("file", "file is a file", "has made"),
        ("empty", "empty is no backup", "has made"),
        ("monday.partial-abc", "is no backup", "not finished"),
    ],
)
def test_what_is_no_backup_is_said_to_be_what_it_is(tmp_path: Path, name: str, said: str, hint: str):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "monday.partial-abc").mkdir()

    with pytest.raises(StorageError, match=said) as told:
        read_manifest(tmp_path / name)

    assert hint in told.value.hint


def test_a_backup_with_stores_of_a_newer_version_is_not_called_damaged(backup: Path):
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["stores"][0]["format"] = 99
    (backup / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(StorageError, match="a newer posthouse") as told:
        read_manifest(backup)

    assert "Upgrade" in told.value.hint


def test_a_manifest_cannot_name_a_service_elsewhere_though_its_file_fits(backup: Path):
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["stores"][0] |= {"service": "../prices", "file": "../prices.db"}
    (backup / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(StorageError, match="damaged"):
        read_manifest(backup)


@pytest.mark.parametrize(
    ("pragma", "said"), [("application_id = 7", "another program"), ("user_version = 99", "newer")]
)
def test_a_store_that_is_none_of_ours_is_not_copied(data: Path, tmp_path: Path, pragma: str, said: str):
    with closing(sqlite3.connect(data / "stores" / "stock.db")) as connection:
        connection.execute(f"PRAGMA {pragma}")

    with pytest.raises(StorageError, match=said):
        made(data, tmp_path / "backup")


def test_where_the_directory_of_a_backup_is_not_there_that_is_said(data: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="to make it in"):
        made(data, tmp_path / "nowhere" / "backup")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFullError), (errno.EACCES, StorageError), (errno.EROFS, StorageError), (errno.EIO, None)],
)
def test_what_cannot_be_written_is_told_by_its_reason(number: int, kind: type[PosthouseError] | None):
    error = cannot_write(Path("backup"), OSError(number, "why"))

    assert type(error) is (kind or UnavailableError)


# --- damage -----------------------------------------------------------------------------------------------


def test_a_fault_in_a_table_of_the_users_own_is_found_in_a_store_that_is_in_use(data: Path):
    with closing(sqlite3.connect(data / "stores" / "prices.db")) as connection, connection:
        connection.execute("INSERT INTO counted VALUES (NULL)")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE counted (n NOT NULL)' WHERE name = 'counted'")

    [prices] = check_stores(data / "stores", ["prices"], progress=silent)

    assert prices.faults == ["NULL value in counted.n"]


# --- restores that fail -----------------------------------------------------------------------------------


def test_a_backup_that_changes_after_it_was_read_is_not_restored_and_nothing_is_left(backup: Path, tmp_path: Path):
    copies = read_manifest(backup).stores
    flipped: list[int] = []

    def spoil(service: str, done: int, whole: int) -> None:
        if service == "prices" and done > whole // 2 and not flipped:
            flip(backup / "stock.db")
            flipped.append(done)

    fresh = tmp_path / "fresh"
    with pytest.raises(StorageError, match="nothing was restored"):
        list(put_back(backup, copies, fresh, fresh / "stores", replace=False, now=NOON, progress=spoil))

    assert flipped
    assert [path.name for path in (fresh / "stores").iterdir()] == []


def test_a_link_where_a_store_should_be_is_not_replaced(backup: Path, data: Path, tmp_path: Path):
    store = data / "stores" / "prices.db"
    store.rename(tmp_path / "elsewhere.db")
    store.symlink_to(tmp_path / "elsewhere.db")

    with pytest.raises(StorageError, match="no plain file"):
        restored(backup, data, "prices", replace=True)

    assert store.is_symlink()


def test_a_store_that_another_one_was_made_in_the_place_of_is_told(backup: Path, data: Path):
    change(data / "stores" / "prices.db", "UPDATE posthouse_store SET id = 'another', epoch = 1 << 60")

    [done] = restored(backup, data, "prices", replace=True)

    assert done.replaced is not None
    assert done.replaced.id == "another"
    assert done.identity.epoch < 1 << 60, "the epoch of another store says nothing of this one"


# --- how far it is ----------------------------------------------------------------------------------------


def test_who_reads_a_backup_or_stores_is_shown_which_one(backup: Path, data: Path):
    of_backup, of_stores = Shown(), Shown()

    check_backup(backup, read_manifest(backup).stores, progress=of_backup)
    check_stores(data / "stores", ["prices", "stock"], progress=of_stores)

    for shown in (of_backup, of_stores):
        [(first, none, whole), (second, some, _whole)] = shown.seen
        assert (first, none, second) == ("prices", 0, "stock")
        assert 0 < some < whole


def test_who_restores_is_shown_how_it_goes_on_until_all_is_done(backup: Path, tmp_path: Path):
    shown, fresh = Shown(), tmp_path / "fresh"
    copies = read_manifest(backup).stores

    list(put_back(backup, copies, fresh, fresh / "stores", replace=False, now=NOON, progress=shown))

    done = [done for _service, done, _whole in shown.seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, shown.seen[-1][2])
