"""Backups of services that are at work, restores, and what becomes of both when somebody is in the way or dies."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from posthouse.protocol.inbox import RequestState
from tests.system.cli_program import COMMAND, PATIENCE, Ran, environment, posthouse

pytestmark = pytest.mark.system

BANK = Path(__file__).with_name("programs") / "bank.py"
ROOT = Path(__file__).parents[2]


class World:
    """A bank, somebody who pays, and what both have on the disk.

    Attributes:
        folder: of the world; the data directory lies in it.
        bank: the bank's process, while it runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bank: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    def open_bank(self) -> subprocess.Popen[bytes]:
        """Start the bank, and wait until its store is there."""
        self.bank = self._start("serve")
        self.wait_for(lambda: bool(self._members()), "the bank is open")
        return self.bank

    def pay(self) -> None:
        """Start somebody who pays, and wait until some of it is booked."""
        self._start("pay", str(self._booked))
        before = self.booked
        self.wait_for(lambda: self.booked >= before + 20, "payments are booked")

    def end(self) -> None:
        """Kill all that was started, and see it gone."""
        for process in self._started:
            process.kill()
        for process in self._started:
            process.communicate(timeout=PATIENCE)
        self._started.clear()

    @property
    def booked(self) -> int:
        """How many payments were booked, as the payer was told."""
        return self._booked.stat().st_size if self._booked.exists() else 0

    @property
    def store(self) -> Path:
        """The bank's store."""
        return self.folder / ".posthouse" / "stores" / "bank.db"

    def posthouse(self, *arguments: str) -> Ran:
        """Run a command."""
        return posthouse(*arguments, cwd=self.folder)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, f"it never came true that {what}"
            time.sleep(0.002)  # other processes make it true, and nothing tells of it

    @property
    def _booked(self) -> Path:
        return self.folder / "booked"

    def _members(self) -> list[Any]:
        try:
            return rows_of(self.store, "SELECT pid FROM posthouse_members")
        except sqlite3.OperationalError:  # it is being made
            return []

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, str(BANK), *arguments],
            cwd=self.folder,
            env={**environment(), "PYTHONPATH": path, "POSTHOUSE_DATA": str(self.folder / ".posthouse")},
            stdin=subprocess.PIPE,
        )
        self._started.append(process)
        return process


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        yield world
    finally:
        world.end()


@pytest.fixture
def at_rest(world: World) -> World:
    """Give a world with a backup, `monday`, that nobody is at work in."""
    world.open_bank()
    world.pay()
    world.end()
    assert world.posthouse("backup", "monday").status == 0
    return world


def rows_of(path: Path, statement: str) -> list[Any]:
    """Return what a statement finds in a file, by another SQLite than ours."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(statement).fetchall()


def agree(store: Path) -> tuple[int, int]:
    """See that each request that is done is booked and no other is; return how many are done, and the sum of all."""
    done = set(rows_of(store, f"SELECT id FROM posthouse_requests WHERE state >= {int(RequestState.DONE)}"))
    undecided = set(rows_of(store, f"SELECT id FROM posthouse_requests WHERE state < {int(RequestState.DONE)}"))
    booked = set(rows_of(store, "SELECT id FROM ledger"))
    assert done <= booked
    assert not undecided & booked
    [[floors]] = rows_of(store, "SELECT sum(floor) FROM posthouse_lanes_in WHERE caller_store <> ''")
    [[total]] = rows_of(store, "SELECT sum(cents) FROM ledger")
    return (floors or 0), total


def epoch_of(store: Path) -> int:
    [[epoch]] = rows_of(store, "SELECT epoch FROM posthouse_store")
    return epoch


def image(folder: Path) -> dict[Path, bytes]:
    """Return all that is in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- under load -------------------------------------------------------------------------------------------


def test_a_backup_made_under_load_is_whole_and_of_one_moment(world: World):
    world.open_bank()
    world.pay()
    before = world.booked

    made = world.posthouse("backup", "monday", "--json")
    after = world.booked
    world.wait_for(lambda: world.booked >= after + 20, "payments go on")

    assert made.status == 0, made.err
    verified = world.posthouse("verify", "monday", "--json")
    assert (verified.status, [each["service"] for each in verified.records]) == (0, ["bank", "payer"])
    assert after > before, "nothing was booked while the backup was made"
    floor, total = agree(world.folder / "monday" / "bank.db")
    assert before <= total <= world.booked + 8
    assert floor <= total
    assert world.posthouse("verify", "--json").status == 0, "the stores in use are not whole"


def test_a_backup_of_one_service_holds_only_its_store(world: World):
    world.open_bank()
    world.pay()

    made = world.posthouse("backup", "monday", "payer")

    assert made.status == 0
    assert sorted(path.name for path in (world.folder / "monday").iterdir()) == ["manifest.json", "payer.db"]
    assert made.err == "1 store in monday, on the disk; read it once with: posthouse verify monday\n"


# --- dying ------------------------------------------------------------------------------------------------


def half_made(world: World, end: signal.Signals) -> list[Path]:
    """End a backup by a signal in the middle of the first store; return what is left of it."""
    process = subprocess.Popen(
        [*COMMAND, "backup", "monday"], cwd=world.folder, env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        world.wait_for(
            lambda: any(path.stat().st_size > 2 << 20 for path in world.folder.glob("monday.partial-*/bank.db")),
            "a part of the store is copied",
        )
        process.send_signal(end)
        assert process.wait(PATIENCE) != 0
    finally:
        process.kill()
        process.wait()
    return list(world.folder.glob("monday*"))


def test_what_a_killed_backup_leaves_is_not_taken_for_a_backup(world: World):
    world.open_bank()
    world.pay()

    [left] = half_made(world, signal.SIGKILL)

    assert left.name.startswith("monday.partial-")
    verified, restored = world.posthouse("verify", str(left)), world.posthouse("restore", str(left))
    assert (verified.status, restored.status) == (3, 3)
    assert "it has no manifest.json" in verified.err
    assert world.posthouse("backup", "monday").status == 0, "what was left is in the way"
    assert world.posthouse("verify", "monday").status == 0


def test_a_backup_that_is_interrupted_leaves_nothing(world: World):
    world.open_bank()
    world.pay()

    assert half_made(world, signal.SIGINT) == []


# --- restoring --------------------------------------------------------------------------------------------


def test_a_service_goes_on_from_its_restored_store_in_one_new_life(at_rest: World):
    world = at_rest
    [[lives]] = rows_of(world.store, "SELECT count(*) FROM posthouse_epochs")
    _, before = agree(world.folder / "monday" / "bank.db")

    restored = world.posthouse("restore", "monday", "bank", "--replace", "--json")
    [told] = restored.records
    world.open_bank()
    world.pay()
    world.end()

    assert restored.status == 0
    assert epoch_of(world.store) == told["epoch"]
    assert rows_of(world.store, "SELECT reason FROM posthouse_epochs ORDER BY epoch")[lives:] == [("restored",)]
    assert agree(world.store)[1] > before
    assert epoch_of(Path(told["aside"])) == 1
    assert world.posthouse("verify").status == 0


def test_a_backup_is_restored_into_a_directory_that_is_not_there(at_rest: World):
    world = at_rest

    restored = world.posthouse("restore", "monday", "--data", "fresh")

    assert restored.status == 0
    assert "bank is as it was at " in restored.out
    assert "posthouse restores" in restored.err
    assert world.posthouse("verify", "fresh").status == 0
    assert agree(world.folder / "fresh" / "stores" / "bank.db") == agree(world.store)


def test_a_store_that_is_open_is_not_replaced_and_who_has_it_is_told(at_rest: World):
    world = at_rest
    bank = world.open_bank()
    aside = world.store.parent

    refused = world.posthouse("restore", "monday", "--replace")

    assert refused.status == 2
    assert f"the store of bank is open: process {bank.pid} has it" in refused.err
    assert not [path for path in aside.iterdir() if "replaced" in path.name or "restoring" in path.name]
    assert epoch_of(world.store) == 1
    world.pay()


def test_a_store_that_another_program_looks_into_is_not_replaced(at_rest: World):
    world = at_rest
    with closing(sqlite3.connect(world.store)) as looking:
        looking.execute("SELECT count(*) FROM ledger").fetchall()

        refused = world.posthouse("restore", "monday", "--replace")

    assert refused.status == 2
    assert "another program" in refused.err
    assert epoch_of(world.store) == 1


def test_what_is_there_is_neither_overwritten_by_a_restore_nor_by_a_backup(at_rest: World):
    world = at_rest
    before = image(world.folder)

    store, backup = world.posthouse("restore", "monday"), world.posthouse("backup", "monday")

    assert (store.status, backup.status) == (2, 2)
    assert "bank has a store already" in store.err
    assert "--replace" in store.err
    assert "monday holds something already" in backup.err
    assert image(world.folder) == before


def test_a_damaged_backup_is_told_and_nothing_of_it_is_restored(at_rest: World):
    world = at_rest
    with (world.folder / "monday" / "payer.db").open("r+b") as file:
        file.seek(5000)
        [byte] = file.read(1)
        file.seek(5000)
        file.write(bytes([byte ^ 4]))
    before = image(world.folder)

    verified = world.posthouse("verify", "monday")
    restored = world.posthouse("restore", "monday", "--replace")
    whole = world.posthouse("restore", "monday", "bank", "--data", "fresh")

    assert verified.status == 1
    assert "its checksum is not that of the manifest" in verified.out
    assert "damaged: payer" in verified.err
    assert restored.status == 3
    assert "nothing was restored: payer.db: its checksum" in restored.err
    assert {path: data for path, data in image(world.folder).items() if "fresh" not in path.parts} == before
    assert whole.status == 0


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_service_that_is_not_there_is_refused_with_those_that_are(at_rest: World, command: str):
    place = {"backup": "tuesday", "restore": "monday"}[command]

    refused = at_rest.posthouse(command, place, "bnak", "--json")

    assert refused.status == 4
    assert json.loads(refused.err)["code"] == "service.unknown"
    assert "did you mean 'bank'" in refused.err


def test_where_there_is_no_store_no_backup_is_made(tmp_path: Path):
    nothing = posthouse("backup", "monday", cwd=tmp_path)
    (tmp_path / ".posthouse").mkdir()
    empty = posthouse("backup", "monday", cwd=tmp_path)

    assert (nothing.status, empty.status) == (3, 2)
    assert [path.name for path in tmp_path.iterdir()] == [".posthouse"]


def test_a_backup_into_the_data_directory_is_refused(at_rest: World):
    refused = at_rest.posthouse("backup", ".posthouse/monday")

    assert refused.status == 2
    assert "would be lost with it" in refused.err
    assert not (at_rest.folder / ".posthouse" / "monday").exists()


def test_who_puts_a_store_in_the_place_of_another_one_is_told_how_to_go_on(at_rest: World):
    world = at_rest
    with closing(sqlite3.connect(world.store)) as connection, connection:
        connection.execute("UPDATE posthouse_store SET id = 'another'")

    restored = world.posthouse("restore", "monday", "bank", "--replace")

    assert restored.status == 0
    assert "was another store (another)" in restored.err
    assert "posthouse lanes map" in restored.err
