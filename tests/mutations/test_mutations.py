"""Each planted fault is found by the test that is there for it; without a fault that test passes in the copy, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.planted import FAULTS, STORM, Fault

ROOT = Path(__file__).parents[2]
LONGEST = 300.0


def copy_of_the_tree(folder: Path) -> Path:
    """Copy what the tests need."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def plant(fault: Fault, folder: Path) -> None:
    """Change the copy."""
    for file, stands, instead in fault.changes:
        text = (folder / file).read_text()
        assert text.count(stands) == 1, f"{file} has changed: the fault must be planted elsewhere"
        (folder / file).write_text(text.replace(stands, instead))


def run(test: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a test of the copy, with the code of the copy."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", test],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_every_fault_can_be_planted(fault: Fault) -> None:
    for file, stands, _ in fault.changes:
        assert (ROOT / file).read_text().count(stands) == 1, f"{file} has changed: plant the fault elsewhere"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_planted_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    folder = copy_of_the_tree(tmp_path)
    plant(fault, folder)

    done = run(fault.test, folder)

    found = [line for line in done.stdout.splitlines() if line.startswith("E  ")][:3]
    print(f"{fault.name}: {found}")
    assert done.returncode == 1, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_without_a_fault_nothing_is_found(tmp_path: Path) -> None:
    folder = copy_of_the_tree(tmp_path)

    done = run(STORM, folder)

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
