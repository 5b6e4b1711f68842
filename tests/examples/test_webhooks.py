"""The webhook example on its own: every delivery becomes news, and all news has somebody who needs it."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "examples" / "webhooks"
MODULES = ("app", "github", "ledger", "sender")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Import the example's files as the program does: from its own folder, each by its name."""
    before = {name: sys.modules.pop(name, None) for name in MODULES}
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    yield {name: importlib.import_module(name) for name in MODULES}
    for name, module in before.items():
        del sys.modules[name]
        if module is not None:
            sys.modules[name] = module


def test_every_delivery_becomes_news_that_somebody_needs(example: dict[str, Any]):
    github, ledger, sender = example["github"], example["ledger"], example["sender"]
    deliveries = sender.recorded(1, Random(1))

    news = [list(github.news_of(each.kind, each.number, each.body)) for each in deliveries]

    assert len(deliveries) == 329
    assert len({delivery.number for delivery in deliveries}) == 329
    assert len({delivery.kind for delivery in deliveries}) == 58
    assert all(isinstance(first, github.Delivered) for first, *_ in news)
    assert {type(each) for some in news for each in some} == set(ledger.DONE_FOR)
    assert Counter(type(each).__name__ for some in news for each in some) == {
        "Delivered": 329,
        "Discussed": 98,
        "Checked": 39,
        "Alerted": 17,
        "Pushed": 7,
    }


def test_what_matters_of_a_pull_request_arrives(example: dict[str, Any]):
    github, sender = example["github"], example["sender"]
    delivery = next(each for each in sender.recorded(1, Random(1)) if each.kind == "pull_request")

    _, discussed = github.news_of(delivery.kind, delivery.number, delivery.body)

    assert (discussed.place, discussed.who) == ("Codertocat/Hello-World", "Codertocat")
    assert (discussed.number, discussed.title) == (2, "Update the README with new information.")


def test_the_same_seed_gives_the_same_deliveries(example: dict[str, Any]):
    recorded = example["sender"].recorded

    assert recorded(2, Random(7)) == recorded(2, Random(7))
    assert recorded(2, Random(7)) != recorded(2, Random(8))


def test_the_signature_is_the_one_that_github_documents(example: dict[str, Any]):
    delivery = example["sender"].Delivery("push", "72d3162e", b"Hello, World!")

    headers = delivery.headers(b"It's a Secret to Everybody")

    assert headers["X-Hub-Signature-256"] == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
