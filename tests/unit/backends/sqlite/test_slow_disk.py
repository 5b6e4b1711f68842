"""A disk that is slow: the transactions run in a thread, and all else is the same."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from posthouse.backends.sqlite import Database, SqliteTransport
from posthouse.backends.sqlite import database as module
from posthouse.backends.sqlite.commits import Commits
from posthouse.contracts.transport import Outgoing, QueueSpec, Transport
from posthouse.testing import ManualClock
from posthouse.testing.conformance.capacity import CapacityTests
from posthouse.testing.conformance.engine import MakeTransport
from posthouse.testing.conformance.waiting import WaitingTests
from tests.unit.backends.sqlite.children import PATIENCE
from tests.unit.backends.sqlite.conftest import OpenTransport


class TestWaiting(WaitingTests, CapacityTests):
    """Where it matters who is told first: who waits, and who is held back."""

    overflow_wait = 0.3

    @pytest.fixture
    def make_transport(self, directory: Path, clock: ManualClock) -> MakeTransport:
        """Give what makes transports on one directory."""

        def make(peer: str) -> Transport:
            return SqliteTransport(
                Database(directory, clock=clock, slow_flush=-1.0), peer=peer, clock=clock, overflow_wait=0.3
            )

        return make


@pytest.mark.anyio
async def test_a_ring_that_comes_before_its_receiver_knows_that_it_waits_is_not_missed(
    directory: Path, clock: ManualClock, open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "POLL", 1000.0)  # the slow poll would make it good
    sender = await open_transport("one", database=Database(directory, clock=clock, slow_flush=1000.0))
    receiver = await open_transport("two", database=Database(directory, clock=clock, slow_flush=-1.0))
    await sender.declare(QueueSpec("hello"))
    rung = threading.Event()
    flushed = Commits._flushed

    def dawdle(*args: Any) -> Any:
        """Keep the thread busy between the commit and the moment when the loop is told of it."""
        if threading.current_thread() is not threading.main_thread():
            assert rung.wait(PATIENCE)
        return flushed(*args)

    monkeypatch.setattr(Commits, "_flushed", dawdle)
    receiving = asyncio.create_task(receiver.receive("hello", credit=1, wait=10 * PATIENCE))
    async with asyncio.timeout(PATIENCE):
        while (await sender.queues())[0].receivers < 1:
            await asyncio.sleep(0)

    await sender.send([Outgoing("hello", b"tea")])
    for _ in range(3):  # the loop has read the bell by then
        await asyncio.sleep(0)
    rung.set()

    async with asyncio.timeout(PATIENCE):
        assert [delivery.frame for delivery in await receiving] == [b"tea"]
