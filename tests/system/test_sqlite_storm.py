"""Several processes at once on one SQLite file, killed and closed at random: what is left in the file adds up.

Nothing that was confirmed is lost, nothing that was settled comes back, no lease is lost while it is fresh, and
the counters say what the tables hold. At the end stands the test of the test.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import apsw
import pytest

from posthouse.backends.sqlite.schema import first_id, last_id

if TYPE_CHECKING:
    from posthouse.backends.sqlite.sql import Sql

pytestmark = pytest.mark.system

PROGRAM = Path(__file__).parent / "programs" / "sqlite_storm.py"
PROCESSES = 3
PATIENCE = 30.0

HANDED_OUT_TO_NOBODY = """
SELECT count(*) FROM messages WHERE id BETWEEN ? AND ? AND id NOT IN (SELECT message FROM returned)
AND NOT EXISTS (SELECT 1 FROM leases WHERE id BETWEEN first AND last)"""


def blow(base: Path, *, seed: int, length: float, fault: str = "") -> None:
    """Run processes for so many seconds, three at a time; most are killed, the others close."""
    rng = random.Random(seed)
    running: dict[subprocess.Popen[str], float] = {}  # and when each is killed
    end = time.monotonic() + length
    started = 0
    try:
        while running or time.monotonic() < end:
            now = time.monotonic()
            while len(running) < PROCESSES and now < end:
                started += 1
                life = max(0.5, min(end - now, rng.uniform(1.0, 3.0)))
                arguments = [str(base / "data"), f"peer{started}", str(seed + started), str(life), *fault.split()]
                process = subprocess.Popen([sys.executable, PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
                running[process] = now + (rng.uniform(0.4, 2.0) if rng.random() < 0.6 else float("inf"))
            for process, killed in list(running.items()):
                if process.poll() is None and now > killed:
                    process.kill()
                elif process.poll() is not None:
                    del running[process]
                    _, said = process.communicate()
                    assert now > killed or (process.returncode, said) == (0, "")
            assert now < end + PATIENCE, "a process does not end"
            time.sleep(0.01)  # which of many processes ends first is not known: look at all of them again
    finally:
        for process in running:
            process.kill()
            process.communicate()


def faults_in(base: Path) -> list[str]:
    """Return what does not add up."""
    file = apsw.Connection(os.fspath(base / "data" / "transport.db"))
    sql = cast("Sql", file.cursor())

    def rows(statement: str, *values: int) -> list[Any]:
        return sql.execute(statement, values).fetchall()

    faults: list[str] = []

    def same(what: str, found: object, expected: object) -> None:
        if found != expected:
            faults.append(f"{what}: {found}, not {expected}")

    same("integrity", rows("PRAGMA integrity_check"), [("ok",)])
    stored: list[tuple[str, str]] = []
    for number, name, following, cursor, messages, size in rows(
        "SELECT number, name, next, cursor, messages, bytes FROM queues"
    ):
        frames = [frame for (frame,) in rows("SELECT frame FROM messages WHERE id >> 46 = ?", number)]
        same(f"messages of {name}", messages, len(frames))
        same(f"bytes of {name}", size, sum(map(len, frames)))
        [[fresh]] = rows("SELECT count(*) FROM messages WHERE id > ? AND id <= ?", cursor, last_id(number))
        same(f"fresh messages of {name}", fresh, following - 1 - cursor)
        [[nobodys]] = rows(HANDED_OUT_TO_NOBODY, first_id(number), cursor)
        same(f"handed-out messages of {name} that nobody has", nobodys, 0)
        stored += [(name, frame.decode()) for frame in frames]
    stored += [(name, frame.decode()) for name, frame in rows("SELECT queue, frame FROM dead")]
    same("stored twice", len(stored), len(set(stored)))
    [[dangling]] = rows("SELECT count(*) FROM returned WHERE message NOT IN (SELECT id FROM messages)")
    same("returned messages that are gone", dangling, 0)
    [[empty]] = rows(
        "SELECT count(*) FROM leases WHERE NOT EXISTS (SELECT 1 FROM messages WHERE id BETWEEN first AND last)"
    )
    same("leases of nothing", empty, 0)
    file.close()

    told: dict[str, list[tuple[str, ...]]] = {}
    for line in (base / "log").read_text().splitlines():
        word, *entry = line.split(maxsplit=2)
        told.setdefault(word, []).append(tuple(entry))
    same("went wrong", told.get("wrong", []), [])
    same("lost leases", told.get("lost", []), [])
    accepted = told.get("accepted", [])
    same("accepted twice", len(accepted), len(set(accepted)))
    same("accepted and still there", set(accepted) & set(stored), set[tuple[str, str]]())
    sent = {(to, frame) for at, frame in told["sent"] for to in (("a", "b") if at == "topic" else (at,))}
    assert len(sent) > 100, "the storm did nothing"
    same("lost messages", sent - set(stored) - set(told.get("trying", [])), set[tuple[str, str]]())
    return faults


def test_after_a_storm_everything_adds_up():
    with TemporaryDirectory(prefix="post") as base:
        blow(Path(base), seed=20_261, length=5.0)

        assert faults_in(Path(base)) == []


def test_of_the_test_a_lease_that_ends_early_is_seen():
    with TemporaryDirectory(prefix="post") as base:
        blow(Path(base), seed=20_261, length=2.0, fault="ends-early")

        assert any("that nobody has" in fault for fault in faults_in(Path(base)))
