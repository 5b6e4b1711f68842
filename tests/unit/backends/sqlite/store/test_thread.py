"""On a slow disk transactions run in a thread of the store: the contract is kept there too."""

from __future__ import annotations

from pathlib import Path

import pytest

from posthouse.backends.sqlite.store import FileEngine, SqliteStore
from posthouse.contracts.store import Store
from posthouse.testing import ManualClock
from posthouse.testing.conformance import MakeStore, StoreSuite


class TestStoreInThread(StoreSuite):
    """The suite, over stores whose disk is always too slow for the loop."""

    @pytest.fixture
    def make_store(self, tmp_path: Path, clock: ManualClock) -> MakeStore:
        """Give what makes stores of one service in one directory."""

        def make(instance: str) -> Store:
            engine = FileEngine(tmp_path / "data", service="prices", slow_flush=0.0)
            return SqliteStore(engine, service="prices", instance=instance, clock=clock)

        return make


def test_a_disk_that_is_slower_than_the_limit_brings_a_thread():
    pass
