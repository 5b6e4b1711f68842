"""A file of each older version is brought up to date when it is opened, and loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import apsw
import pytest

from posthouse.backends.sqlite.store.connection import Connection
from posthouse.backends.sqlite.store.tables import VERSION
from posthouse.testing.conformance.stores.bench import SHOP, call, request, running
from posthouse.testing.conformance.stores.letters import letter
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio

OLD = sorted(Path(__file__).with_name("versions").glob("*.sql"))


def write(old: Path, path: Path, directory: Path) -> None:
    """Write the file of a store as an older version left it."""
    path.parent.mkdir(parents=True, mode=0o700)
    directory.chmod(0o700)
    connection = cast("Connection", apsw.Connection(str(path)))
    connection.execute(old.read_text())
    connection.close()
    path.chmod(0o600)


def test_there_is_a_file_of_each_older_version():
    assert [int(old.stem) for old in OLD] == list(range(1, VERSION))


@pytest.mark.parametrize("old", OLD, ids=lambda old: f"version {old.stem}")
async def test_a_file_of_an_older_version_is_brought_up_to_date_with_all_that_is_in_it(
    old: Path, path: Path, directory: Path, open_file: OpenStore
):
    write(old, path, directory)

    store = await open_file()

    assert store.identity.id == "0af1"
    assert await store.read(lambda books: books.calls_at([call(0).place, call(1).place])) == [call(0), call(1)]
    found = await store.read(lambda books: books.requests_at([request(1).place, request(2).place]))
    assert [each.id for each in found] == [request(1).id, running(2).id]
    assert await store.read(lambda books: books.lane_from(SHOP)) is not None
    [dead] = await store.read(lambda books: books.dead_letters())
    assert dead.id == letter().id
    assert await store.read(lambda books: (books.streams(), books.feeds(), books.subscribed())) == ([], [], [])
    assert await store.read(lambda books: books.damage()) == []


@pytest.mark.parametrize("old", OLD, ids=lambda old: f"version {old.stem}")
async def test_a_file_that_was_brought_up_to_date_has_the_tables_of_a_new_one(
    old: Path, path: Path, directory: Path, open_file: OpenStore, tmp_path: Path
):
    write(old, path, directory)
    columns = "SELECT s.name, c.name, c.type FROM sqlite_schema s, pragma_table_info(s.name) c ORDER BY s.name, c.cid"

    brought = await open_file()
    new = await open_file("two", at=tmp_path / "new")

    assert brought._engine.sql.execute(columns).fetchall() == new._engine.sql.execute(columns).fetchall()
