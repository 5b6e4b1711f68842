"""What is refused at the opening, and what the files look like after it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import cast

import apsw
import pytest

from posthouse.backends.sqlite import Database, SqliteTransport
from posthouse.backends.sqlite.faults import check_engine
from posthouse.backends.sqlite.schema import VERSION
from posthouse.backends.sqlite.sql import Sql
from posthouse.contracts.transport import Outgoing, QueueSpec
from posthouse.errors import StorageError, UnsafeEngineError
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.children import child
from tests.unit.backends.sqlite.conftest import OpenTransport

pytestmark = pytest.mark.anyio


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def change(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    cast("Sql", connection.cursor()).execute(statement)
    connection.close()


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.51.2"])
async def test_a_sqlite_that_can_lose_commits_is_refused_with_the_reason(
    version: str, directory: Path, clock: ManualClock
):
    database = Database(directory, clock=clock, engine=version)

    with pytest.raises(UnsafeEngineError, match="WAL-reset") as refusal:
        await database.open()

    assert version in str(refusal.value)
    assert "apsw" in refusal.value.hint
    assert not directory.exists()


@pytest.mark.parametrize("version", ["3.6.23", "3.51.3", "3.54.1", "4.0.0"])
def test_a_sqlite_without_that_fault_is_taken(version: str):
    check_engine(version)


async def test_only_its_user_can_read_what_is_stored(directory: Path, open_transport: OpenTransport):
    transport = await open_transport("one")
    await transport.declare(QueueSpec("hello"))
    await transport.send([Outgoing("hello", b"secret")])

    assert mode_of(directory) == 0o700
    assert mode_of(directory / "run") == 0o700
    files = [path for path in directory.iterdir() if not path.is_dir()]
    assert {"transport.db", "transport.db-wal", "transport.db-shm"} <= {path.name for path in files}
    assert {path.name: oct(mode_of(path)) for path in files} == {path.name: "0o600" for path in files}


async def test_a_umask_that_lets_all_read_changes_nothing(directory: Path, open_transport: OpenTransport):
    before = os.umask(0)
    try:
        await open_transport("one")
    finally:
        os.umask(before)

    assert mode_of(directory) == 0o700
    assert mode_of(directory / "transport.db") == 0o600


async def test_a_data_directory_behind_a_symbolic_link_is_refused(tmp_path: Path, clock: ManualClock):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(StorageError, match="symbolic link") as refusal:
        await Database(tmp_path / "link", clock=clock).open()

    assert str(tmp_path / "real") in refusal.value.hint
    assert list((tmp_path / "real").iterdir()) == []


async def test_a_database_that_is_a_symbolic_link_is_refused(directory: Path, clock: ManualClock, tmp_path: Path):
    directory.mkdir(mode=0o700)
    (directory / "transport.db").symlink_to(tmp_path / "elsewhere.db")

    with pytest.raises(StorageError, match="symbolic link"):
        await Database(directory, clock=clock).open()

    assert not (tmp_path / "elsewhere.db").exists()


async def test_a_directory_that_others_may_write_to_is_refused(directory: Path, clock: ManualClock):
    directory.mkdir()
    directory.chmod(0o777)

    with pytest.raises(StorageError, match="other users may write") as refusal:
        await Database(directory, clock=clock).open()

    assert f"chmod 700 {directory}" in refusal.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
async def test_a_directory_of_another_user_is_refused(directory: Path, clock: ManualClock):
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, 12345)

    with pytest.raises(StorageError, match="belongs to user 12345"):
        await Database(directory, clock=clock).open()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
async def test_a_directory_without_rights_is_refused(directory: Path, clock: ManualClock):
    directory.mkdir()
    directory.chmod(0o500)

    with pytest.raises(StorageError) as refusal:
        await Database(directory, clock=clock).open()

    assert refusal.value.hint


async def test_a_file_in_the_place_of_the_directory_is_refused(directory: Path, clock: ManualClock):
    directory.write_text("mine")

    with pytest.raises(StorageError, match="not a directory"):
        await Database(directory, clock=clock).open()

    assert directory.read_text() == "mine"


async def test_a_directory_in_the_place_of_the_file_is_refused(directory: Path, clock: ManualClock):
    (directory / "transport.db").mkdir(parents=True)

    with pytest.raises(StorageError) as refusal:
        await Database(directory, clock=clock).open()

    assert refusal.value.hint


async def test_a_file_that_is_not_a_database_is_refused_and_left_alone(directory: Path, clock: ManualClock):
    directory.mkdir()
    (directory / "transport.db").write_text("not a database at all, but long enough to be looked at" * 100)
    before = (directory / "transport.db").read_bytes()

    with pytest.raises(StorageError, match="not a SQLite database") as refusal:
        await Database(directory, clock=clock).open()

    assert "Move" in refusal.value.hint
    assert (directory / "transport.db").read_bytes() == before


async def test_a_database_of_another_program_is_refused(directory: Path, clock: ManualClock):
    directory.mkdir()
    change(directory / "transport.db", "CREATE TABLE notes (text)")

    with pytest.raises(StorageError, match="another program"):
        await Database(directory, clock=clock).open()


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    transport = await open_transport("one")
    await transport.close()
    change(directory / "transport.db", f"PRAGMA user_version = {VERSION + 1}")

    with pytest.raises(StorageError, match="newer posthouse") as refusal:
        await Database(directory, clock=clock).open()

    assert "Upgrade" in refusal.value.hint


async def test_after_a_refusal_the_same_database_opens_when_the_cause_is_gone(directory: Path, clock: ManualClock):
    directory.write_text("in the way")
    database = Database(directory, clock=clock)
    with pytest.raises(StorageError):
        await database.open()
    directory.unlink()

    await database.open()

    assert await database.call(lambda sql: sql.execute("SELECT count(*) FROM queues").fetchall()) == [(0,)]
    await database.close()


async def test_what_was_stored_is_there_after_a_restart(open_transport: OpenTransport):
    before = await open_transport("one")
    await before.declare(QueueSpec("hello"))
    await before.send([Outgoing("hello", b"tea")])
    await before.close()

    after = await open_transport("two")

    assert [delivery.frame for delivery in await after.receive("hello", credit=10)] == [b"tea"]


async def test_a_long_path_has_its_sockets_elsewhere_and_all_processes_find_them(
    tmp_path: Path, clock: ManualClock, open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    directory = tmp_path / ("long" * 40)
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"/tmp/posthouse-test-{os.getpid()}")
    Path(os.environ["XDG_RUNTIME_DIR"]).mkdir(mode=0o700)
    one = await open_transport("one", database=Database(directory, clock=clock))
    two = await open_transport("two", database=Database(directory, clock=clock))
    await one.declare(QueueSpec("hello"))

    [sockets] = Path(os.environ["XDG_RUNTIME_DIR"]).iterdir()

    assert mode_of(sockets) == 0o700
    assert {path.name for path in sockets.iterdir()} == {"one.bell", "one.direct", "two.bell", "two.direct"}
    await one.close()
    assert {path.name for path in sockets.iterdir()} == {"two.bell", "two.direct"}
    await two.close()
    assert not sockets.exists()  # where it lies, nobody else would clean up
    sockets.parent.rmdir()


async def test_sockets_of_dead_processes_are_removed_at_the_opening(directory: Path, open_transport: OpenTransport):
    first = await open_transport("one")
    for name in ("gone.bell", "gone.direct"):
        (directory / "run" / name).touch()
        os.utime(directory / "run" / name, (0, 0))
    await open_transport("two")

    left = {path.name for path in (directory / "run").iterdir()}

    assert left == {"one.bell", "one.direct", "two.bell", "two.direct"}
    assert first.direct.peer == "one"


async def test_a_process_that_died_can_be_followed_by_one_of_the_same_name_at_once(
    directory: Path, open_transport: OpenTransport
):
    async with child(directory, "two", "asyncio.run(transport.open()); tell('open'); asked()") as first:
        assert await first.line() == "open"
        await first.kill()

    await open_transport("two")


async def test_two_processes_of_one_name_are_refused(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    first = await open_transport("two")
    await first.declare(QueueSpec("hello"))

    with pytest.raises(StorageError, match=r"two\.bell"):
        await SqliteTransport(Database(directory, clock=clock), peer="two", clock=clock).open()

    await first.send([Outgoing("hello", b"tea")])
    assert (directory / "run" / "two.bell").exists()


@pytest.mark.parametrize("peer", ["", "a/b", "../up", "x" * 33, "two words"])
def test_a_peer_that_cannot_name_a_socket_is_refused(peer: str, directory: Path, clock: ManualClock):
    with pytest.raises(ValueError, match="a peer's id is a word"):
        SqliteTransport(Database(directory, clock=clock), peer=peer, clock=clock)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
async def test_a_second_opening_in_the_same_process_leaves_the_locks_of_the_first(
    directory: Path, open_transport: OpenTransport
):
    """To open the file by hand and close it would drop them all, see fcntl(2)."""
    await open_transport("one")
    inode = f":{(directory / 'transport.db').stat().st_ino} "
    before = [line for line in Path("/proc/locks").read_text().splitlines() if inode in line]

    two = await open_transport("two")
    await two.close()

    after = [line for line in Path("/proc/locks").read_text().splitlines() if inode in line]
    assert len(after) == len(before) == 1
