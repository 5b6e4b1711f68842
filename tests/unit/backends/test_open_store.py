"""A store is found by its URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from posthouse.backends import STORES, open_store
from posthouse.errors import ConfigError, IllegalNameError
from posthouse.testing import ManualClock

pytestmark = pytest.mark.anyio


async def test_the_store_of_a_service_lies_in_the_data_directory(tmp_path: Path):
    store = open_store(f"sqlite:{tmp_path}/data", service="prices", instance="one", clock=ManualClock())

    await store.open()
    await store.close()

    assert (tmp_path / "data" / "stores" / "prices.db").is_file()


async def test_a_store_in_memory_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("memory:one", service="prices", instance="one", clock=ManualClock(), new_id=lambda: "0af1")

    await store.open()
    await store.close()

    assert store.identity.id == "0af1"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "meant"),
    [("sqlit:x", "did you mean 'sqlite:"), ("memory", "is not the URL of a store"), ("redis://u:secret@h", "redis")],
)
def test_a_url_of_no_store_is_refused_with_those_that_there_are(url: str, meant: str):
    with pytest.raises(ConfigError) as refusal:
        open_store(url, service="prices", instance="one", clock=ManualClock())

    assert meant in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert all(scheme.example in refusal.value.hint for scheme in STORES.values())


@pytest.mark.parametrize("service", ["../elsewhere", "a.b", "", "with blank"])
def test_what_is_no_name_of_a_service_names_no_file(service: str):
    with pytest.raises(IllegalNameError):
        open_store("sqlite:data", service=service, instance="one", clock=ManualClock())
