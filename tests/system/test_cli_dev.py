"""`posthouse dev`: from one file to an answer over HTTP, and anew when the file changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from tests.system.cli_program import Program, Watched, post, posthouse

pytestmark = pytest.mark.system

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart" / "app.py"
ANY_PORT = "127.0.0.1:0"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return Path(shutil.copy(QUICKSTART, tmp_path / "app.py"))


def test_the_quickstart_answers_over_http_and_its_event_is_heard(app: Path):
    with Program("dev", "app.py", "--bind", ANY_PORT, cwd=app.parent) as dev:
        ready = dev.event("ready")

        answer = post(f"{ready['gateway']}/orders", {"sku": "tea", "qty": 2})

        assert answer == (200, {"sku": "tea", "total": 19.0})
        dev.line(lambda line: line.startswith("audited Price(sku='tea', total=19.0)"), "that audit heard it")
        assert ready["services"] == ["shop", "prices", "audit"]
        assert ready["routes"] == {"POST /orders": "shop.buy"}


def test_a_changed_file_starts_it_anew(app: Path):
    with Program("dev", "app.py", "--bind", ANY_PORT, cwd=app.parent) as dev:
        first = dev.event("ready")
        app.write_text(app.read_text().replace("9.5", "10.0"))

        changed = dev.event("changed")
        again = dev.event("ready")

        assert changed["files"] == ["app.py"]
        assert again["pid"] != first["pid"]
        assert post(f"{again['gateway']}/orders", {"sku": "tea"}) == (200, {"sku": "tea", "total": 10.0})


def test_a_broken_program_is_shown_and_waits_until_it_is_mended(app: Path):
    good = app.read_text()
    app.write_text(good + "\n\nimport no_such_thing\n")

    with Program("dev", "app.py", "--bind", ANY_PORT, cwd=app.parent) as dev:
        dev.event("ended", status=1)
        error = json.loads(dev.errors[0])
        app.write_text(good)
        ready = dev.event("ready")

        assert error["code"] == "app.unloadable"
        assert "app.py:" in error["error"]
        assert "no_such_thing" in error["error"]
        assert post(f"{ready['gateway']}/orders", {"sku": "tea"})[0] == 200
        assert "Traceback" not in "".join(dev.errors)


def test_a_handler_without_annotations_is_shown_with_its_line(app: Path):
    app.write_text(app.read_text() + "\n\n@shop.handler\nasync def bare(order): ...\n")

    with Program("dev", "app.py", "--bind", ANY_PORT, cwd=app.parent) as dev:
        dev.event("ended", status=1)

        error = json.loads(dev.errors[0])
        assert error["code"] == "declaration.invalid"
        assert "app.py:" in error["error"]


@pytest.mark.parametrize("wrong", ["ap.py", ".", "app.py:", "nowhere/app.py"])
def test_a_file_that_is_not_there_ends_it(app: Path, wrong: str):
    ended = posthouse("dev", wrong, "--json", cwd=app.parent)

    assert (ended.status, ended.out) == (2, "")
    assert json.loads(ended.err)["code"] == "app.unloadable"


def test_a_program_that_dies_waits_for_a_change(app: Path):
    with Program("dev", "app.py", "--bind", ANY_PORT, cwd=app.parent) as dev:
        pid = dev.event("ready")["pid"]
        with Watched(pid) as watched:
            os.kill(pid, signal.SIGKILL)

            assert watched.all_gone()
            dev.event("ended", status=-9)
            app.touch()
            dev.event("ready")


def test_a_port_in_use_ends_it_with_what_to_do(app: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with Program("dev", "app.py", "--bind", bind, cwd=app.parent) as dev:
            status = dev.ended()

    error = json.loads(dev.errors[-1])
    assert (status, error["code"]) == (2, "address.in_use")
    assert "--bind" in error["hint"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to_and_leaves_nothing_behind(app: Path, how: signal.Signals):
    with (
        Program("dev", "app.py", "--bind", ANY_PORT, cwd=app.parent) as dev,
        Watched(dev.event("ready")["pid"]) as watched,
    ):
        dev.signal(how)

        assert dev.ended() == 0
        assert watched.all_gone()
        assert dev.errors == []


def test_killed_it_leaves_nothing_behind(app: Path):
    with (
        Program("dev", "app.py", "--bind", ANY_PORT, cwd=app.parent) as dev,
        Watched(dev.event("ready")["pid"]) as watched,
    ):
        dev.signal(signal.SIGKILL)

        assert watched.all_gone()
