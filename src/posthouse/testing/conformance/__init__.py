"""The suites that every backend passes; those of third parties too.

Subclass a suite in a test module of yours, and give it the one fixture that it asks for:

    class TestMyTransport(TransportSuite):
        @pytest.fixture
        def make_transport(self, clock: ManualClock, tmp_path: Path) -> MakeTransport:
            return lambda peer: MyTransport(tmp_path, peer=peer, clock=clock)

What an engine cannot do, it declares in `features`; tests that need it are then skipped. So are those of an
engine whose data is wiped while it is used, without a fixture `wipe_engine` that does that. The suites
need pytest and anyio's plugin. Where pytest is strict about markers, put
`pytest_plugins = ["posthouse.testing.conformance.plugin"]` into the outermost conftest.py.

A test belongs here if the contract says what it says. What a backend does beyond the contract, it
tests itself.
"""

from __future__ import annotations

import pytest

_PARTS = (
    "capacity",
    "delivery",
    "direct",
    "engine",
    "inspection",
    "letters",
    "registry",
    "reset",
    "settling",
    "stores.bench",
    "stores.calls",
    "stores.commits",
    "stores.lanes",
    "stores.letters",
    "stores.members",
    "stores.requests",
    "stores.tails",
    "topics",
    "waiting",
)
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from posthouse.testing.conformance.engine import MakeTransport, WipeEngine  # noqa: E402 - only now, or asserts would not tell why
from posthouse.testing.conformance.registry import MakeRegistry, RegistrySuite  # noqa: E402
from posthouse.testing.conformance.store import StoreSuite  # noqa: E402
from posthouse.testing.conformance.stores.bench import MakeStore  # noqa: E402
from posthouse.testing.conformance.transport import TransportSuite  # noqa: E402

__all__ = [
    "MakeRegistry",
    "MakeStore",
    "MakeTransport",
    "RegistrySuite",
    "StoreSuite",
    "TransportSuite",
    "WipeEngine",
]
