"""An engine is found by its URL; what is wrong with a URL is said at once, with what to write."""

from __future__ import annotations

import subprocess
import sys

import pytest

from posthouse import backends
from posthouse.backends import Scheme, open_backend
from posthouse.backends.memory import MemoryRegistry, MemoryTransport
from posthouse.errors import ConfigError
from posthouse.testing import ManualClock


def test_a_memory_url_gives_a_transport_and_a_registry_in_memory():
    transport, registry = open_backend("memory:shop", peer="one", clock=ManualClock())

    assert isinstance(transport, MemoryTransport)
    assert isinstance(registry, MemoryRegistry)
    assert transport.direct.peer == "one"


def test_the_scheme_may_be_written_in_capitals():
    transport, _ = open_backend("MEMORY:", peer="one", clock=ManualClock())

    assert isinstance(transport, MemoryTransport)


def test_a_scheme_that_is_not_known_is_refused_with_those_that_are_and_the_one_that_was_meant():
    with pytest.raises(ConfigError, match=r"did you mean 'sqlite:\.posthouse'") as refused:
        open_backend("sqllite:/var/lib/shop", peer="one", clock=ManualClock())

    assert "'memory:'" in refused.value.hint
    assert "'sqlite:.posthouse'" in refused.value.hint


@pytest.mark.parametrize("url", ["", "sqlite", "/var/lib/shop", ":", "zzz:place"])
def test_what_is_no_url_of_ours_is_refused(url: str):
    with pytest.raises(ConfigError, match="is not the URL of a transport"):
        open_backend(url, peer="one", clock=ManualClock())


def test_a_password_in_a_url_is_not_shown():
    with pytest.raises(ConfigError) as refused:
        open_backend("carrier://shop:hunter2@pigeons:4222", peer="one", clock=ManualClock())

    assert "hunter2" not in str(refused.value)
    assert "carrier://shop:***@pigeons:4222" in str(refused.value)


def test_a_backend_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    pigeons = Scheme("package_that_is_not_there.pigeons", "pigeon://coop", extra="pigeons")
    monkeypatch.setattr(backends, "SCHEMES", {"pigeon": pigeons})

    with pytest.raises(ConfigError, match="'package_that_is_not_there'") as refused:
        open_backend("pigeon://coop", peer="one", clock=ManualClock())

    assert refused.value.hint == "pip install 'posthouse[pigeons]'"


def test_a_defect_inside_a_backend_is_not_taken_for_a_missing_package(monkeypatch: pytest.MonkeyPatch):
    broken = Scheme("posthouse.backends.that_is_not_there", "broken:", extra="broken")
    monkeypatch.setattr(backends, "SCHEMES", {"broken": broken})

    with pytest.raises(ModuleNotFoundError):
        open_backend("broken:", peer="one", clock=ManualClock())


def test_no_engine_is_imported_before_it_is_asked_for():
    program = (
        "import sys, posthouse.backends;"
        "print([name for name in sys.modules if name.startswith('posthouse.backends.') or name == 'apsw'])"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert said.stdout.strip() == "[]"
