"""`posthouse up`: a process per service, restarted when it dies, all gone at the end."""

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


def started(up: Program, *parts: str) -> dict[str, int]:
    """Wait for the first start of each part, in any order; return their processes."""
    pids: dict[str, int] = {}
    while set(pids) != set(parts):
        told = up.event("started")
        pids[told["part"]] = told["pid"]
    return pids


def test_each_service_has_a_process_and_they_answer_through_the_gateway(app: Path):
    with Program("up", "app.py", "--bind", ANY_PORT, cwd=app.parent) as up:
        pids = started(up, "shop", "prices", "audit", "gateway")
        ready = up.event("ready")

        answer = post(f"{ready['gateway']}/orders", {"sku": "tea", "qty": 2})

        assert answer == (200, {"sku": "tea", "total": 19.0})
        assert len({up.process.pid, *pids.values()}) == 5


def test_a_killed_service_comes_back_and_what_was_asked_meanwhile_is_answered(app: Path):
    with Program("up", "app.py", "--bind", ANY_PORT, cwd=app.parent) as up:
        pids = started(up, "shop", "prices", "audit", "gateway")
        ready = up.event("ready")

        os.kill(pids["prices"], signal.SIGKILL)
        answer = post(f"{ready['gateway']}/orders", {"sku": "tea"}, headers={"prefer": "wait=25"})

        assert up.event("died", part="prices")["status"] == -9
        assert up.event("started", part="prices")["pid"] != pids["prices"]
        assert answer == (200, {"sku": "tea", "total": 9.5})


def test_sigterm_ends_all_in_order_and_leaves_no_process(app: Path):
    with Program("up", "app.py", "--bind", ANY_PORT, "--instances", "prices=2", cwd=app.parent) as up:
        pids = started(up, "shop", "prices/1", "prices/2", "audit", "gateway")
        up.event("ready")
        with Watched(*pids.values()) as watched:
            up.signal(signal.SIGTERM)

            assert up.event("stopped")["part"] == "gateway"
            assert up.ended() == 0
            assert watched.all_gone()
            assert up.errors == []


def test_a_killed_supervisor_leaves_no_process(app: Path):
    with (
        Program("up", "app.py", "--bind", ANY_PORT, cwd=app.parent) as up,
        Watched(*started(up, "shop", "prices", "audit", "gateway").values()) as watched,
    ):
        up.event("ready")

        up.signal(signal.SIGKILL)

        assert watched.all_gone()


def test_a_port_in_use_ends_all(app: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with Program("up", "app.py", "--bind", bind, cwd=app.parent) as up:
            pids = started(up, "shop", "prices", "audit", "gateway")

            assert up.ended() == 2

    assert json.loads(up.errors[0])["code"] == "address.in_use"
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_program_that_cannot_be_loaded_starts_nothing(app: Path):
    app.write_text("import no_such_thing")

    ended = posthouse("up", "app.py", "--bind", ANY_PORT, "--json", cwd=app.parent)

    assert (ended.status, ended.out) == (2, "")
    assert json.loads(ended.err)["code"] == "app.unloadable"


def test_instances_of_a_service_that_there_is_not_are_refused(app: Path):
    ended = posthouse("up", "app.py", "--bind", ANY_PORT, "--instances", "pricse=2", cwd=app.parent)

    assert ended.status == 2
    assert "did you mean 'prices'" in ended.err


def test_all_queues_and_subscriptions_are_there_before_anything_runs(app: Path):
    """What the supervisor does first: a queued event told now is kept for a service that never ran."""
    declared = 'prices.event("quoted", Price'
    assert f"{declared})" in app.read_text()
    app.write_text(app.read_text().replace(f"{declared})", f'{declared}, mode="queued")'))

    announced = posthouse("_announce", "app.py", cwd=app.parent)
    told = posthouse("publish", "prices.quoted", '{"sku": "tea", "total": 1}', "--json", cwd=app.parent)
    queues = posthouse("queues", "--json", cwd=app.parent)

    assert announced.status == 0
    assert told.records[0]["subscriptions"] == ["audit.note"]
    assert {info["spec"]["name"]: info["stored"] for info in queues.records} == {
        "audit.note": 1,
        "prices.quote": 0,
        "shop.buy": 0,
    }


def test_a_gateway_of_its_own_serves_what_another_process_announced(app: Path):
    with Program("run", "app.py:shop", "app.py:prices", cwd=app.parent) as services:
        announced = services.event("ready")  # only now, so that the route is known when the gateway asks
        with Program("gateway", "--bind", ANY_PORT, cwd=app.parent) as gateway:
            ready = gateway.event("ready")

            answer = post(f"{ready['gateway']}/orders", {"sku": "tea"}, headers={"prefer": "wait=25"})
            gateway.signal(signal.SIGTERM)
            services.signal(signal.SIGTERM)

            assert announced["services"] == ["shop", "prices"]
            assert answer == (200, {"sku": "tea", "total": 9.5})
            assert (gateway.ended(), services.ended()) == (0, 0)
