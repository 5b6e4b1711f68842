"""Every backend's transport keeps the contract."""

from __future__ import annotations

import pytest

from posthouse.testing.conformance import MakeTransport, TransportSuite, WipeEngine
from tests.conformance.conftest import Open


class TestTransport(TransportSuite):
    """The suite, over all backends."""

    @pytest.fixture
    def make_transport(self, open_on: Open) -> MakeTransport:
        """Give what makes transports on one fresh engine."""
        return lambda peer: open_on(peer)[0]

    @pytest.fixture
    def wipe_engine(self, wiper: WipeEngine) -> WipeEngine:
        """Give what wipes that engine."""
        return wiper
