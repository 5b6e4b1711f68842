"""What type checkers say of right and wrong uses of the public face, and of the ten programs.

A wrong line says which checkers flag it: `# error: basedpyright mypy`. The test is exact both ways: a
marked line that is not flagged fails it, and so does a flagged line without a mark.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
USES = HERE / "uses"
MARK = re.compile(r"# error: ([a-z ]+)$")

Lines = set[tuple[str, int]]
"""A file's name, and a line of it."""


def marked(checker: str) -> Lines:
    """Return the lines that say that this checker flags them."""
    return {
        (file.name, number)
        for file in USES.glob("*.py")
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if (mark := MARK.search(line)) and checker in mark[1].split()
    }


def ran(*command: str) -> str:
    """Return what a checker printed; it may have found something, but not have failed itself."""
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in {0, 1}, done.stderr or done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def basedpyright() -> list[dict[str, Any]]:
    """Return what basedpyright says, strict, of all that is here."""
    command = Path(sys.executable).with_name("basedpyright")
    report = json.loads(ran(str(command), "--project", str(HERE), "--outputjson"))
    assert report["summary"]["filesAnalyzed"] >= 16, report["summary"]
    return report["generalDiagnostics"]


def test_basedpyright_flags_exactly_the_wrong_lines(basedpyright: list[dict[str, Any]]):
    flagged = {
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1)
        for found in basedpyright
        if Path(found["file"]).parent == USES
    }

    assert flagged - marked("basedpyright") == set(), "flagged, but not marked"
    assert marked("basedpyright") - flagged == set(), "marked, but not flagged"


def test_the_programs_are_clean_under_basedpyright(basedpyright: list[dict[str, Any]]):
    found = [
        f"{Path(each['file']).relative_to(HERE)}:{each['range']['start']['line'] + 1}: {each['message']}"
        for each in basedpyright
        if Path(each["file"]).parent != USES
    ]

    assert found == []


def test_mypy_flags_exactly_the_wrong_lines(tmp_path: Path):
    config = ("--config-file", str(HERE / "mypy.ini"), "--cache-dir", str(tmp_path))

    printed = ran(sys.executable, "-m", "mypy", *config, "--output", "json", "uses")

    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    flagged = {(Path(each["file"]).name, each["line"]) for each in found if each["severity"] == "error"}
    assert flagged - marked("mypy") == set(), "flagged, but not marked"
    assert marked("mypy") - flagged == set(), "marked, but not flagged"
