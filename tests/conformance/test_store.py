"""Every kind of store keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.backends import open_store
from posthouse.backends.sqlite.store import MemoryDisk
from posthouse.testing import ManualClock
from posthouse.testing.conformance import MakeStore, StoreSuite


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of a place that nobody has used before."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'data'}"
    else:
        with MemoryDisk(tmp_path.name):
            yield f"memory:{tmp_path.name}"


class TestStore(StoreSuite):
    """The suite, over all of them."""

    @pytest.fixture
    def make_store(self, url: str, clock: ManualClock) -> MakeStore:
        """Give what makes stores of one service in one place."""
        return lambda instance: open_store(url, service="prices", instance=instance, clock=clock)
