"""The article's two services: each leg arrives, also when nobody is there to take it at first."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.system.cli_program import PATIENCE, Program, posthouse

APP = Path(__file__).parents[2] / "examples" / "article" / "app.py"
QUESTION = '{"text": "How do you do?"}'

pytestmark = pytest.mark.system


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def started(*command: str, data: Path) -> Program:
    """Start a command, which has to be entered."""
    return Program(*command, "--data", str(data), cwd=data.parent)


def ask(data: Path) -> str:
    """Ask A, and return the id of what it asks B."""
    asked = posthouse("call", "a.ask", QUESTION, "--data", str(data), cwd=data.parent)
    assert asked.status == 0, asked.err
    return json.loads(asked.out)["id"]


def rows(data: Path, service: str, table: str) -> list[Any]:
    """Return what a service has in a table of its own."""
    file = apsw.Connection(str(data / "stores" / f"{service}.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found: Any = file.execute(f"SELECT * FROM {table}")  # pyright: ignore[reportUnknownMemberType]
        return list(found)
    finally:
        file.close()


def says(program: Program, what: str) -> None:
    """Wait until a handler prints this."""
    program.line(lambda line: line.strip() == what, what)


def test_a_asks_b_answers_and_b_hears_that_a_has_it(data: Path):
    with started("dev", str(APP), "--bind", "127.0.0.1:0", data=data) as dev:
        dev.event("ready")

        id = ask(data)

        says(dev, "b answers: 4 words")
        says(dev, "a has it in writing: 4 words")
        says(dev, "b knows that a has it: 4 words")
        assert rows(data, "a", "answers") == [(id, "How do you do?", "4 words")]
        assert rows(data, "b", "answered") == [(id, "4 words")]


def test_the_three_legs_can_be_seen_from_both_sides(data: Path):
    with started("dev", str(APP), "--bind", "127.0.0.1:0", data=data) as dev:
        dev.event("ready")
        id = ask(data)
        says(dev, "b knows that a has it: 4 words")

        shown = posthouse("messages", "get", id, "--data", str(data), cwd=data.parent)

        assert shown.status == 0, shown.err
        assert "a asks b.answer" in shown.out
        assert "done by b; a has it, and has acked it" in shown.out
        assert '"text": "4 words"' in shown.out


def test_each_leg_waits_for_the_one_who_is_to_take_it(data: Path):
    with started("run", f"{APP}:b", data=data) as b:
        b.event("ready")
        with started("run", f"{APP}:a", data=data) as a:  # once, so that they know each other
            a.event("ready")
            first = ask(data)
            says(b, "b knows that a has it: 4 words")
        b.signal(signal.SIGTERM)
        assert b.ended() == 0

    with started("run", f"{APP}:a", data=data) as a:
        a.event("ready")
        second = ask(data)
        wait_until_left(data, "b.answer")
        # a is killed here; its request is on its own disk, and a copy of it in the queue

    with started("run", f"{APP}:b", data=data) as b:
        says(b, "b answers: 4 words")
        # b is killed here; nobody was there to hear its answer

    with started("run", f"{APP}:a", data=data) as a, started("run", f"{APP}:b", data=data) as b:
        says(a, "a has it in writing: 4 words")
        says(b, "b knows that a has it: 4 words")
    assert rows(data, "a", "answers") == [(id, "How do you do?", "4 words") for id in (first, second)]
    assert rows(data, "b", "answered") == [(id, "4 words") for id in (first, second)]


def wait_until_left(data: Path, queue: str) -> None:
    """Wait until a request lies in a queue."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        queues = posthouse("queues", "--json", "--data", str(data), cwd=data.parent).records
        if any(each["spec"]["name"] == queue and each["stored"] for each in queues):
            return
    raise AssertionError(f"nothing was left in {queue}")
