"""The commands that tell journaled events, and show who has heard them, with services that run and are gone."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.cli_program import PATIENCE, Program, posthouse

pytestmark = pytest.mark.system

APP = """
from pathlib import Path
from msgspec import Struct
from posthouse import Service

class Price(Struct):
    sku: str

prices, audit = Service("prices"), Service("audit")
quoted = prices.event("quoted", Price, mode="journaled")

@audit.on(quoted, attempts=1)
async def note(price: Price) -> None:
    if price.sku == "broken" and not Path("mended").exists():
        raise ValueError("cannot note it")
    print(f"noted {price.sku}", flush=True)
"""
OTHER = """
from posthouse import Service

prices, audit = Service("prices"), Service("audit")

@prices.handler
async def look(sku: str) -> None: ...

@audit.handler
async def read(sku: str) -> None: ...
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "posthouse.toml").write_text('grace = "100ms"')
    return tmp_path


def ended(program: Program) -> None:
    program.signal(signal.SIGTERM)
    assert program.ended() == 0


def run(place: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a command, and return its records."""
    return posthouse(*arguments, "--json", cwd=place).records


def publish(place: Path, sku: str) -> str:
    [told] = run(place, "publish", "prices.quoted", json.dumps({"sku": sku}))
    assert told["subscriptions"] == ["audit.note"]
    return told["id"]


def until(ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    """Ask again and again, until the answer is good; each time costs a process, so nothing needs to sleep."""
    deadline = time.monotonic() + PATIENCE
    while not good(answer := ask()):
        assert time.monotonic() < deadline, f"it never came true: {answer}"
    return answer


def test_an_event_from_a_terminal_is_heard_at_once_or_when_its_hearer_comes(place: Path):
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        heard = publish(place, "tea")
        program.line(lambda line: line == "noted tea\n", "that it was heard")
        until(lambda: posthouse("messages", "why", heard, cwd=place), lambda ran: ran.status == 0)
        ended(program)
    waits = publish(place, "milk")

    why = posthouse("messages", "why", waits, cwd=place)
    [subscription] = run(place, "subscriptions")
    [stream] = run(place, "streams")
    with Program("run", "app.py", cwd=place) as program:
        program.line(lambda line: line == "noted milk\n", "that it was asked for")
        ended(program)
    [seen] = run(place, "messages", "get", waits)

    assert why.status == 1
    assert "audit.note: it has not come to audit, of which no instance is there" in why.out
    assert (subscription["name"], subscription["behind"], subscription["declared"]) == ("audit.note", 1, True)
    assert (stream["topic"], stream["next"], stream["hearers"]) == ("prices.quoted", 2, ["audit.note"])
    assert (seen["number"], seen["data"], seen["heard"][0]["state"]) == (1, {"sku": "milk"}, "had")


def test_a_parked_event_is_replayed_once_its_cause_is_mended(place: Path):
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        id = publish(place, "broken")
        parked = until(lambda: posthouse("messages", "why", id, cwd=place), lambda ran: "parked" in ran.out)
        inbox = run(place, "inbox", "audit")
        (place / "mended").touch()

        replayed = posthouse("dead", "replay", "audit:1", cwd=place)
        program.line(lambda line: line == "noted broken\n", "that it was heard")
        settled = until(lambda: posthouse("messages", "why", id, cwd=place), lambda ran: ran.status == 0)
        ended(program)

    assert "`posthouse dead replay audit:1`" in parked.out
    assert [(row["operation"], row["state"], row["requests"]) for row in inbox] == [("audit.note", "parked", 1)]
    assert replayed.out == "1 replayed\n"
    assert "over at audit.note" in settled.out


def test_a_subscription_is_dropped_only_when_it_is_not_declared_any_more(place: Path):
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        id = publish(place, "broken")
        until(lambda: posthouse("messages", "why", id, cwd=place), lambda ran: "parked" in ran.out)
        refused = posthouse("subscriptions", "drop", "audit.note", "--yes", cwd=place)
        ended(program)
    (place / "app.py").write_text(OTHER)
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        [left] = run(place, "subscriptions")
        doctor = posthouse("doctor", cwd=place)

        said = posthouse("subscriptions", "drop", "audit.note", cwd=place)
        still = run(place, "subscriptions")
        done = posthouse("subscriptions", "drop", "audit.note", "--yes", cwd=place)
        ended(program)

    assert (refused.status, left["declared"], left["parked"]) == (2, False, 1)
    assert "audit.note is declared, and audit runs" in refused.err
    assert "not declared any more, and it has 1 event left in its store" in doctor.out
    assert (said.status, len(still), done.status) == (1, 1, 0)
    assert "audit.note is forgotten; with it 1 undecided or parked" in done.out
    assert run(place, "subscriptions") == []
    assert run(place, "dead", "ls") == []


def test_a_journaled_event_is_refused_where_its_publisher_has_no_store(place: Path):
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        ended(program)
    for file in (place / ".posthouse" / "stores").glob("prices.db*"):
        file.unlink()

    ran = posthouse("publish", "prices.quoted", '{"sku": "tea"}', cwd=place)

    assert ran.status == 2
    assert (
        "prices.quoted is journaled, so it is stored where prices keeps its own, and prices has no store in" in ran.err
    )
    assert "--data" in ran.err
