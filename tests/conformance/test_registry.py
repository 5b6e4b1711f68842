"""Every backend's registry keeps the contract."""

from __future__ import annotations

import pytest

from posthouse.testing.conformance import MakeRegistry, RegistrySuite, WipeEngine
from tests.conformance.conftest import Open


class TestRegistry(RegistrySuite):
    """The suite, over all backends."""

    @pytest.fixture
    def make_registry(self, open_on: Open) -> MakeRegistry:
        """Give what makes registries on one fresh engine."""
        return lambda peer: open_on(peer)[1]

    @pytest.fixture
    def wipe_engine(self, wiper: WipeEngine) -> WipeEngine:
        """Give what wipes that engine."""
        return wiper
