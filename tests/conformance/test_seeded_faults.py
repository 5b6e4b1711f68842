"""The suites are worth something: each catches every backend with a seeded fault, and passes the sound one."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.seeded import broken_registries, broken_stores, broken_transports

HERE: Final = Path(__file__).parent
CATCHERS: Final = {
    "broken_transports": broken_transports.CATCHERS,
    "broken_registries": broken_registries.CATCHERS,
    "broken_stores": broken_stores.CATCHERS,
}


@cache
def suite_over(module: str) -> tuple[dict[str, str], str]:
    """Run a suite over all backends of a module; return which test caught each fault, and all that was said."""
    command = [sys.executable, "-m", "pytest", str(HERE / "seeded" / f"{module}.py")]
    options = ["-q", "-rfE", "--tb=line", "-p", "no:cacheprovider"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, timeout=100, check=False)
    said = run.stdout + run.stderr
    caught = re.findall(r"^FAILED \S+::(test_\w+)\[(\w+)", said, re.MULTILINE)
    assert caught, said
    assert not re.search(r"^ERROR ", said, re.MULTILINE), said  # a fixture that fails has caught nothing
    return {fault: test for test, fault in caught}, said


@pytest.mark.parametrize(
    ("module", "fault"), [(module, fault) for module, catchers in CATCHERS.items() for fault in catchers]
)
def test_a_seeded_fault_is_caught_by_the_test_that_is_there_for_it(module: str, fault: str):
    caught, said = suite_over(module)

    assert caught.get(fault) == CATCHERS[module][fault], said


@pytest.mark.parametrize("module", CATCHERS)
def test_a_sound_backend_passes_the_suite(module: str):
    caught, said = suite_over(module)

    assert caught.keys() <= CATCHERS[module].keys(), said
