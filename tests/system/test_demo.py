"""The demo: real webhooks through services that are killed all the time; nothing is lost, nothing done twice.

It runs as `make demo` runs it, and is judged by its last line and its exit status. A copy of it whose
services lose something, or do it twice, must say so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

WEBHOOKS = Path(__file__).parents[2] / "examples" / "webhooks"
PATIENCE = 150.0
CALM = ("--kills", "0", "--rounds", "1")


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory with a short path: the sockets of what runs in it must be reachable."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as name:
        yield Path(name)


def copy_with(tmp_path: Path, old: str, new: str) -> Path:
    """Copy the example with another app.py, and return the copy's folder."""
    folder = Path(shutil.copytree(WEBHOOKS, tmp_path / "webhooks", ignore=shutil.ignore_patterns(".*", "__pycache__")))
    source = (folder / "app.py").read_text()
    assert old in source
    (folder / "app.py").write_text(source.replace(old, new))
    return folder


class Played(NamedTuple):
    """A demo that has ended."""

    status: int
    said: str
    result: dict[str, Any]


def play(folder: Path, *arguments: str, place: Path) -> Played:
    """Run the demo of a folder, with an empty directory for what it makes."""
    done = subprocess.run(
        [sys.executable, str(folder / "demo.py"), *arguments],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("{"), done.stdout + done.stderr
    return Played(done.returncode, done.stdout + done.stderr, json.loads(lines[-1]))


def test_the_demo_loses_nothing_does_nothing_twice_and_leaves_nothing_behind(place: Path):
    played = play(WEBHOOKS, place=place)

    assert played.status == 0, played.said
    assert played.result["received"] == 987
    assert played.result["effects"] == 2823
    assert played.result["lost"] == played.result["double"] == played.result["dead_letters"] == 0
    assert played.result["kills"] >= 20
    assert played.result["wipes"] == 1
    assert played.result["ended_otherwise"] == 0, played.said
    assert "401 signature.invalid" in played.said
    assert "kill -9" in played.said
    assert "gateway" in next(line for line in played.said.splitlines() if line.startswith("Killed: "))
    assert list(place.iterdir()) == []


def test_the_demo_says_what_is_lost_when_a_service_loses_something(place: Path, tmp_path: Path):
    counts = 'await db.execute(ENTER, ("counted"'
    forgets = copy_with(tmp_path, counts, f'if news.kind != "release":\n        {counts}')

    played = play(forgets, *CALM, place=place)

    assert played.status == 1
    assert (played.result["lost"], played.result["double"]) == (13, 0)


def test_the_demo_says_what_is_done_twice(place: Path, tmp_path: Path):
    counts = 'await db.execute(ENTER, ("counted"'
    repeats = copy_with(tmp_path, counts, f'for _ in range(1 + (news.kind == "release")):\n        {counts}')

    played = play(repeats, *CALM, place=place)

    assert played.status == 1
    assert (played.result["lost"], played.result["double"]) == (0, 13)


def test_the_demo_says_what_was_given_up(place: Path, tmp_path: Path):
    answer = "channel = Channel("
    refuses = copy_with(tmp_path, answer, f'if question.place == "github":\n        raise Reject("no")\n    {answer}')

    played = play(refuses, *CALM, place=place)

    assert played.status == 1
    assert played.result["dead_letters"] > 0
    assert played.result["lost"] > 0
