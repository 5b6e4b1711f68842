"""The backends that the suites run over: to add one is to add one name here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from posthouse.backends import open_backend
from posthouse.backends.memory.broker import broker_named
from posthouse.backends.sqlite import database
from posthouse.contracts.registry import Registry
from posthouse.contracts.transport import Transport
from posthouse.testing import ManualClock
from posthouse.testing.conformance import WipeEngine

BACKENDS = ["memory", "sqlite"]

Open: TypeAlias = Callable[[str], tuple[Transport, Registry]]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name the backend of this run."""
    return request.param


@pytest.fixture
def open_on(backend: str, tmp_path: Path, clock: ManualClock) -> Open:
    """Give what makes a peer's transport and registry on one fresh engine."""
    locations = {"memory": tmp_path.name, "sqlite": str(tmp_path)}
    url = f"{backend}:{locations.get(backend, '')}"
    return lambda peer: open_backend(url, peer=peer, clock=clock)


@pytest.fixture
def wiper(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WipeEngine:
    """Give what wipes the engine that `open_on` opens."""
    monkeypatch.setattr(database, "POLL", 0.01)

    async def wipe() -> None:
        if backend == "memory":
            broker_named(tmp_path.name).wipe()
        for path in tmp_path.glob("transport.db*"):
            path.unlink()

    return wipe
