"""The webhook example on its own: every delivery becomes events, and every event has somebody who hears it."""

from __future__ import annotations

import importlib
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "examples" / "webhooks"
MODULES = ("app", "book", "github", "sender")


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


def test_every_delivery_becomes_events_that_somebody_hears(example: dict[str, Any]):
    app, github, sender = example["app"], example["github"], example["sender"]
    deliveries = sender.recorded()
    services = (app.stats, app.chat, app.guard)
    heard = {subscription.event.data for service in services for subscription in service.subscriptions.values()}

    events = [list(github.events_of(each.kind, each.number, each.body)) for each in deliveries]

    assert len(deliveries) == 329
    assert len({delivery.kind for delivery in deliveries}) == 58
    assert all(isinstance(first, github.Delivered) for first, *_ in events)
    assert {type(event) for some in events for event in some} == heard
    assert Counter(type(event).__name__ for some in events for event in some) == {
        "Delivered": 329,
        "Discussed": 98,
        "Checked": 39,
        "Alerted": 17,
        "Pushed": 7,
    }


def test_what_matters_of_a_pull_request_arrives(example: dict[str, Any]):
    github, sender = example["github"], example["sender"]
    delivery = next(each for each in sender.recorded() if each.kind == "pull_request")

    _, discussed = github.events_of(delivery.kind, delivery.number, delivery.body)

    assert (discussed.place, discussed.who) == ("Codertocat/Hello-World", "Codertocat")
    assert (discussed.number, discussed.title) == (2, "Update the README with new information.")


def test_a_book_enters_a_delivery_once_however_often_it_comes(
    example: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(example["book"], "FOLDER", tmp_path)
    book = example["book"].Book("stats")

    for message in ("first", "second"):
        book.enter("delivered", "72d3162e", message, "octo/repo", "push")
    book.close()

    with closing(sqlite3.connect(book.path)) as file:
        entries = file.execute("SELECT * FROM entries").fetchall()
    assert entries == [("delivered", "72d3162e", "first", "octo/repo", "push", 2)]


def test_the_signature_is_the_one_that_github_documents(example: dict[str, Any]):
    delivery = example["sender"].Delivery("push", "72d3162e", b"Hello, World!")

    headers = delivery.headers(b"It's a Secret to Everybody")

    assert headers["X-Hub-Signature-256"] == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
