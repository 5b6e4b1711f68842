"""The runtime's tests run in virtual time, on brokers and stores in memory, and leave nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from posthouse.testing.loop import SimulatedLoop
from tests.house import LONG, House

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Let no time pass; a module whose handlers run in threads says otherwise."""
    return "asyncio", {"loop_factory": SimulatedLoop}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Give a house; afterwards nothing of it is left: no ticket, no held message, no task."""
    async with House() as house:
        async with asyncio.timeout(LONG):
            yield house
    for host in house.hosts:
        assert not host.caller._waiting, "a ticket that nobody forgot"
        assert not host.caller._outstanding, "a load that nobody took back"
    left = [task for task in asyncio.all_tasks() if "TestRunner" not in getattr(task.get_coro(), "__qualname__", "")]
    assert left == [], "a task without an owner"


@pytest.fixture(params=["queued", "journaled", "adopted"])
def mode(request: pytest.FixtureRequest, house: House) -> Any:
    """Say how operations are delivered, for what each promises; adopted: journaled, and asked by who has no store."""
    house.callers_have_stores = request.param != "adopted"
    return "queued" if request.param == "queued" else "journaled"


@pytest.fixture(params=["volatile", "queued", "journaled", "adopted"])
def any_mode(request: pytest.FixtureRequest, house: House) -> Any:
    """Say the same, for what is promised even where nothing is kept."""
    house.callers_have_stores = request.param != "adopted"
    return "journaled" if request.param == "adopted" else request.param
