"""The file may be deleted under running processes, at any moment: they go on, and need no restart.

In `queued` what the file held is lost with it; that is counted, and shown with -s.
"""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.system.yard import PATIENCE, Yard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

SEED = 20_262
RECEIVERS = ("receiver 1", "receiver 2")
MANY = str(10**9)
WIPES = ("transport.db*", "transport.db*", "transport.db*", "transport.db", "transport.db-*", "*.*", "*")


@pytest.fixture
def yard() -> Iterator[Yard]:
    with Yard() as yard:
        yield yard


def wipe(yard: Yard, pattern: str) -> None:
    """Delete what fits, as `rm -r` does, while others make it again."""
    for path in sorted((yard.folder / "data").glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def handled_of(yard: Yard, run: int) -> int:
    """Return how many letters of a sender were handled."""
    return sum(1 for name in yard.names("handled") if name.startswith(f"{run}-"))


def test_processes_go_on_when_the_file_is_deleted_under_them(yard: Yard) -> None:
    rng = random.Random(SEED)
    for name in RECEIVERS:
        yard.receiver(name, STORM_PAUSE="0.05")  # so that letters wait in the file
    yard.sender("sender", 1, STORM_AHEAD=MANY, STORM_REST="0.005")
    yard.wait_for(lambda: yard.count("handled") >= 100, "letters are handled")

    for pattern in rng.sample(WIPES, len(WIPES)):
        further = yard.count("handled") + rng.randint(1, 400)
        yard.comes_true(lambda: yard.count("handled") >= further, within=rng.uniform(0.1, 1.0))  # noqa: B023 - asked in this round only
        wipe(yard, pattern)
        before = yard.count("handled")
        yard.wait_for(lambda: yard.count("handled") >= before + 300, f"letters are handled after {pattern}")  # noqa: B023 - asked in this round only
    yard.kill("sender")
    yard.sender("after", 2, STORM_AHEAD=MANY, STORM_REST="0.005")
    yard.wait_for(lambda: handled_of(yard, 2) >= 100, "a process that came later is heard")
    yard.kill("after")

    assert yard.ended() == []
    yard.wait_until_quiet()
    for name in RECEIVERS:
        assert yard.stop(name, within=PATIENCE) == 0
    print(
        f"seed {SEED}: {len(WIPES)} wipes, {yard.count('confirmed')} confirmed, {len(yard.lost())} lost,"
        f" {yard.duplicates()} duplicates"
    )
    log = yard.log()
    assert sum("was deleted while it was used" in line for line in log) >= len(WIPES)
    assert [line for line in log if line.startswith("Traceback")] == []
