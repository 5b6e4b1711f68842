"""A store in a file that is only looked at: it can be read, and nothing about it changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import cast

import apsw
import pytest

from posthouse.backends import open_store
from posthouse.backends.sqlite.store.connection import Connection
from posthouse.contracts.store import Store
from posthouse.errors import PosthouseError, StorageError, UsageError
from posthouse.testing import ManualClock

FILE = Path("stores") / "prices.db"


def the_store(place: Path, clock: ManualClock) -> Store:
    return open_store(f"sqlite:{place}", service="prices", instance="looker", clock=clock)


@pytest.fixture
async def made(tmp_path: Path, clock: ManualClock) -> Path:
    """A data directory with a store that was open once."""
    store = the_store(tmp_path, clock)
    await store.open()
    await store.commit(lambda books: books.beat("one", clock.now() + 15), name="beat", flush=True)
    await store.close()
    return tmp_path


async def test_who_looks_reads_what_is_there_and_is_no_member(made: Path, clock: ManualClock):
    store = the_store(made, clock)

    await store.look()

    assert store.identity.epoch == 1
    assert [member.instance for member in await store.read(lambda books: books.members())] == ["one"]
    await store.close()


async def test_what_is_committed_later_is_seen(made: Path, clock: ManualClock):
    looking, writing = the_store(made, clock), the_store(made, clock)
    await looking.look()
    await writing.open()

    await writing.commit(lambda books: books.beat("two", clock.now() + 15), name="beat")

    assert len(await looking.read(lambda books: books.members())) == 2
    await looking.close()
    await writing.close()


async def test_who_looks_cannot_write(made: Path, clock: ManualClock):
    store = the_store(made, clock)
    await store.look()

    with pytest.raises(UsageError):
        await store.commit(lambda books: books.leave("one"), name="leave")
    with pytest.raises(UsageError):
        await store.tail()
    with pytest.raises(PosthouseError, match="cannot be written"):
        await store.read(lambda books: books.leave("one"))
    await store.close()


async def test_a_copy_is_told_and_begins_no_life_by_being_looked_at(made: Path, clock: ManualClock, tmp_path: Path):
    copy = tmp_path / "copy"
    (copy / "stores").mkdir(parents=True)
    shutil.copy(made / FILE, copy / FILE)

    for _ in range(2):
        store = the_store(copy, clock)
        await store.look()
        assert (store.is_elsewhere, store.identity.epoch) == (True, 1)
        assert len(await store.read(lambda books: books.lives())) == 1
        await store.close()

    original = the_store(made, clock)
    await original.look()
    assert not original.is_elsewhere
    await original.close()


async def test_where_there_is_no_store_none_is_made(tmp_path: Path, clock: ManualClock):
    with pytest.raises(StorageError, match="there is no store"):
        await the_store(tmp_path, clock).look()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("PRAGMA user_version = 99", "a newer posthouse"),
        ("PRAGMA user_version = 0", "an older posthouse"),
        ("PRAGMA application_id = 5", "another program"),
    ],
)
async def test_a_file_that_this_version_cannot_read_is_told(made: Path, clock: ManualClock, statement: str, says: str):
    connection = cast("Connection", apsw.Connection(str(made / FILE)))
    connection.execute(statement)
    connection.close()

    with pytest.raises(StorageError, match=says):
        await the_store(made, clock).look()


async def test_a_file_that_is_no_database_is_told(made: Path, clock: ManualClock):
    (made / FILE).write_bytes(b"no database" * 1000)

    with pytest.raises(StorageError, match="not a SQLite database"):
        await the_store(made, clock).look()


async def test_a_page_that_was_damaged_is_found(made: Path, clock: ManualClock):
    connection = cast("Connection", apsw.Connection(str(made / FILE)))
    [[page]] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'posthouse_members'").fetchall()
    connection.close()
    with open(made / FILE, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(2048))
    store = the_store(made, clock)
    await store.look()

    try:
        damage = await store.read(lambda books: books.damage())
    except StorageError as error:
        damage = [str(error)]

    assert damage
    await store.close()


async def test_a_store_is_opened_or_looked_at_once(made: Path, clock: ManualClock):
    store = the_store(made, clock)
    await store.look()

    with pytest.raises(UsageError):
        await store.look()
    with pytest.raises(UsageError):
        await store.open()
    await store.close()


async def test_a_store_in_memory_has_nobody_who_only_looks(clock: ManualClock):
    store = open_store("memory:looked-at", service="prices", instance="looker", clock=clock)

    with pytest.raises(UsageError):
        await store.look()
