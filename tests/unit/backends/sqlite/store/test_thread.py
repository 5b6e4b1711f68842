"""On a slow disk transactions run in a thread of the store: the contract is kept there too."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from posthouse.backends.sqlite.store import FileEngine, SqliteStore, file
from posthouse.backends.sqlite.store.file import JUDGED
from posthouse.contracts.store import Store
from posthouse.testing import ManualClock
from posthouse.testing.conformance import MakeStore, StoreSuite
from tests.unit.backends.sqlite.store.conftest import OpenStore


class TestStoreInThread(StoreSuite):
    """The suite, over stores whose disk is always too slow for the loop."""

    @pytest.fixture
    def make_store(self, tmp_path: Path, clock: ManualClock) -> MakeStore:
        """Give what makes stores of one service in one directory."""

        def make(instance: str) -> Store:
            engine = FileEngine(tmp_path / "data", service="prices", slow_flush=0.0)
            return SqliteStore(engine, service="prices", instance=instance, clock=clock)

        return make


@pytest.mark.anyio
@pytest.mark.parametrize(("slow_flush", "on_the_loop"), [(1000.0, True), (0.0, False)])
async def test_steps_run_in_a_thread_where_a_flush_is_slow_and_on_the_loop_elsewhere(
    slow_flush: float, on_the_loop: bool, open_file: OpenStore
):
    store = await open_file(slow_flush=slow_flush)

    ran_in = await store.commit(lambda books: threading.current_thread(), name="ask")
    read_in = await store.read(lambda books: threading.current_thread())

    assert (ran_in is threading.main_thread(), read_in is threading.main_thread()) == (on_the_loop, on_the_loop)


@pytest.mark.anyio
async def test_a_disk_that_becomes_slow_sends_transactions_to_the_thread_and_back_when_it_is_quick_again(
    open_file: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    took = [0.0]
    times = itertools.count()
    monkeypatch.setattr(file, "perf_counter", lambda: next(times) * took[0])
    store = await open_file(slow_flush=0.001)

    async def ran_in_after_flushes(length: float) -> threading.Thread:
        took[0] = length
        for _ in range(2 * JUDGED):
            await store.commit(lambda books: None, name="ask", flush=True)
        return await store.commit(lambda books: threading.current_thread(), name="ask")

    slow = await ran_in_after_flushes(0.010)
    between = await ran_in_after_flushes(0.002)
    quick = await ran_in_after_flushes(0.0)

    assert slow is not threading.main_thread()
    assert between is not threading.main_thread()
    assert quick is threading.main_thread()
