"""The demo: real webhooks through five services, one of which is killed, and nothing lost.

It runs as `make demo` runs it, and is judged by its last line and its exit status. A copy of it whose
services lose something must say so.
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
PATIENCE = 100.0


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


@pytest.mark.parametrize("killed", ["relay", "chat"])
def test_the_demo_loses_nothing_and_leaves_nothing_behind(place: Path, killed: str):
    played = play(WEBHOOKS, "--kill", killed, place=place)

    assert played.status == 0, played.said
    assert played.result["received"] == 329
    assert played.result["handled"] == {"relay": 329, "stats": 329, "chat": 105, "guard": 56}
    assert played.result["lost"] == 0
    assert played.result["dead_letters"] == 0
    assert played.result["killed"] == killed
    assert "401 signature.invalid" in played.said
    assert f"{killed} was started again" in played.said
    assert list(place.iterdir()) == []


def test_the_demo_says_what_is_lost_when_a_service_loses_something(place: Path, tmp_path: Path):
    counts = 'BOOKS["stats"].enter('
    forgets = copy_with(tmp_path, counts, f'if event.kind != "release":\n        {counts}')

    played = play(forgets, place=place)

    assert played.status == 1
    assert played.result["lost"] == 13
    assert played.result["handled"]["stats"] == 329 - 13
    assert played.result["dead_letters"] == 0


def test_the_demo_says_what_was_given_up(place: Path, tmp_path: Path):
    answer = "channel = Channel("
    refuses = copy_with(tmp_path, answer, f'if place.name == "github":\n        raise Reject("no")\n    {answer}')

    played = play(refuses, place=place)

    assert played.status == 1
    assert played.result["dead_letters"] == played.result["lost"] > 0
