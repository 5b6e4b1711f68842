"""What the registry's suite cannot see: a change is told once, however it was heard of."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.backends.sqlite import database as module
from posthouse.backends.sqlite.bells import Bells
from posthouse.contracts.registry import Contract, Instance
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.children import PATIENCE
from tests.unit.backends.sqlite.conftest import OpenRegistry

pytestmark = pytest.mark.anyio


async def test_a_change_that_is_rung_and_then_found_by_the_slow_poll_is_told_once(
    open_registry: OpenRegistry, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "POLL", 0.01)
    one, two = await open_registry("one"), await open_registry("two")
    told: list[list[str]] = []
    changed = asyncio.Event()

    def note() -> None:
        told.append([])
        changed.set()

    two.watch(note)
    await one.announce(Contract(service="shop", version="1"))
    async with asyncio.timeout(PATIENCE):
        await changed.wait()

    polls = 0

    def count() -> None:
        nonlocal polls
        polls += 1

    two._database.polls.append(count)
    async with asyncio.timeout(PATIENCE):
        while polls < 5:
            await asyncio.sleep(0)
    assert len(told) == 1


async def test_a_change_whose_ring_was_missed_is_found_by_the_slow_poll(
    open_registry: OpenRegistry, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "POLL", 0.01)
    one, two = await open_registry("one"), await open_registry("two")
    changed = asyncio.Event()
    two.watch(changed.set)

    def never_heard(bells: Bells, peer: str, numbers: list[int]) -> bool:
        del bells, peer, numbers
        return True

    monkeypatch.setattr(Bells, "ring", never_heard)
    await one.register([Instance(id="its", service="shop", peer="one")])

    async with asyncio.timeout(PATIENCE):
        await changed.wait()
    assert [instance.id for instance in await two.instances()] == ["its"]


async def test_an_instance_that_comes_back_while_it_is_being_taken_out_stays(
    open_registry: OpenRegistry, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "POLL", 1000.0)
    registry = await open_registry("one")
    instance = Instance(id="its", service="shop", peer="one")
    await registry.register([instance])
    clock.advance(4 * registry.heartbeat)

    registry._poll()  # finds that it has expired ...
    back = asyncio.create_task(registry.register([instance]))  # ... and here it is again
    await back
    await registry.contracts()
    await registry.contracts()

    assert [found.id for found in await registry.instances()] == ["its"]
