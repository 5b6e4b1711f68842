"""The suites serve others: a project with settings of its own runs them over a backend of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SETTINGS = """
[pytest]
strict = true
filterwarnings = error
"""

CONFTEST = """
pytest_plugins = ["posthouse.testing.conformance.plugin"]
"""

TESTS = """
import pytest
from posthouse.backends.memory import Broker, MemoryRegistry, MemoryTransport
from posthouse.contracts.transport import Features
from posthouse.testing.conformance import RegistrySuite, TransportSuite

class Theirs(MemoryTransport):
    def __init__(self, broker, *, peer, clock):
        super().__init__(broker, peer=peer, clock=clock)
        self.features = Features(durable=False, direct=False)

class TestTheirTransport(TransportSuite):
    @pytest.fixture
    def make_transport(self, clock):
        broker = Broker()
        return lambda peer: Theirs(broker, peer=peer, clock=clock)

class TestTheirRegistry(RegistrySuite):
    quiet = 0.01

    @pytest.fixture
    def make_registry(self, clock):
        broker = Broker()
        return lambda peer: MemoryRegistry(broker, clock=clock)
"""


def test_a_project_of_somebody_else_runs_the_suites_and_skips_what_its_engine_cannot_do(tmp_path: Path):
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_theirs.py").write_text(TESTS)

    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--tb=short", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "the engine has no direct" in run.stdout
    assert "the engine has no durable" in run.stdout
    assert "the engine has no capacity" not in run.stdout
