"""The commands that ask and look, against services that run; journaled operations have a file of their own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.cli_program import Program, Watched, posthouse

pytestmark = pytest.mark.system

APP = """
from msgspec import Struct
from posthouse import Reject, Service

class Order(Struct):
    sku: str
    qty: int = 1

class Price(Struct):
    total: float

class Unknown(Reject):
    code = "sku.unknown"
    status = 404

prices, audit = Service("prices", capacity=3), Service("audit")
quoted = prices.event("quoted", Price)

@prices.handler(rejects=(Unknown,), mode="queued")
async def quote(order: Order) -> Price:
    if order.sku == "gold":
        raise Unknown("we have no gold", sku=order.sku)
    if order.sku == "broken":
        raise ValueError("it broke")
    return Price(2.5 * order.qty)

@prices.handler(mode="volatile")
async def peek(order: Order) -> Price:
    return Price(1.0)

@prices.handler(attempts=1, mode="queued")
async def stock(order: Order) -> None:
    raise ValueError(f"no room for {order.sku}")

@audit.on(quoted)
async def note(price: Price) -> None:
    print("heard", price.total, flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("talk")
    (place / "app.py").write_text(APP)
    return place


@pytest.fixture(scope="module")
def serving(place: Path) -> Iterator[Program]:
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        yield program
        program.signal(signal.SIGTERM)
        assert program.ended() == 0


def test_a_call_prints_its_reply(serving: Program, place: Path):
    as_text = posthouse("call", "prices.quote", '{"sku": "tea", "qty": 2}', cwd=place)
    as_json = posthouse("call", "prices.quote", '{"sku": "tea", "qty": 2}', "--json", cwd=place)
    volatile = posthouse("call", "prices.peek", '{"sku": "tea"}', "--json", cwd=place)

    assert (as_text.status, json.loads(as_text.out), as_text.err) == (0, {"total": 5.0}, "")
    assert as_json.records[0]["reply"] == {"total": 5.0}
    assert volatile.records[0]["reply"] == {"total": 1.0}


def test_the_data_of_a_call_may_come_from_stdin_or_a_file(serving: Program, place: Path):
    (place / "order.json").write_text('{"sku": "tea", "qty": 4}')

    from_stdin = posthouse("call", "prices.quote", "-", cwd=place, stdin='{"sku": "tea"}')
    from_file = posthouse("call", "prices.quote", "@order.json", cwd=place)

    assert json.loads(from_stdin.out) == {"total": 2.5}
    assert json.loads(from_file.out) == {"total": 10.0}


def test_a_services_own_no_is_status_4_with_its_code_and_details(serving: Program, place: Path):
    refused = posthouse("call", "prices.quote", '{"sku": "gold"}', "--json", cwd=place)

    error = json.loads(refused.err)
    assert (refused.status, refused.out) == (4, "")
    assert (error["code"], error["error"]) == ("sku.unknown", "we have no gold")
    assert error["details"] == {"sku": "gold"}


def test_a_failed_call_is_status_4_and_names_the_dead_letter(serving: Program, place: Path):
    failed = posthouse("call", "prices.quote", '{"sku": "broken"}', cwd=place)

    assert failed.status == 4
    assert "error handler.failed: " in failed.err
    assert "it broke" in failed.err
    assert "Traceback" not in failed.err


def test_what_is_decided_is_not_replayed_unless_it_is_said(serving: Program, place: Path):
    failed = json.loads(posthouse("call", "prices.quote", '{"sku": "broken"}', "--json", cwd=place).err)
    letters = posthouse("dead", "ls", "--queue", "prices.quote", "--json", cwd=place).records
    [letter] = [letter for letter in letters if letter["message_id"] == failed["id"]]

    left = posthouse("dead", "replay", letter["id"], cwd=place)
    told = posthouse("dead", "replay", letter["id"], "--json", cwd=place)
    would = posthouse("dead", "replay", letter["id"], "--as-new", "--dry-run", cwd=place)

    assert letter["state"] == "failed"
    assert (left.status, left.out) == (1, "0 replayed\n")
    assert "1 left as decided" in left.err
    assert told.records == [{"id": letter["id"], "outcome": "decided"}]
    assert (would.status, would.out) == (0, "1 would be replayed\n")


@pytest.mark.parametrize(
    ("operation", "data", "code", "says"),
    [
        ("prices.quote", '{"qty": 1}', "data.invalid", "`sku`"),
        ("prices.quote", '{"sku": "tea", "qty": "two"}', "data.invalid", "$.qty"),
        ("prices.quot", "{}", "service.unknown", "prices.quote"),
        ("pricse.quote", "{}", "service.unknown", "prices"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_is_stored(
    serving: Program, place: Path, *, operation: str, data: str, code: str, says: str
):
    for verb in ("call", "send"):
        refused = posthouse(verb, operation, data, "--json", cwd=place)

        error = json.loads(refused.err)
        assert (refused.status, error["code"]) == (4, code)
        assert says in error["error"]


def test_an_event_is_heard(serving: Program, place: Path):
    told = posthouse("publish", "prices.quoted", '{"total": 123.5}', "--json", cwd=place)

    assert told.records[0]["subscriptions"] == ["audit.note"]
    serving.line(lambda line: line == "heard 123.5\n", "that the event was heard")


def test_an_unknown_event_and_wrong_data_are_refused(serving: Program, place: Path):
    unknown = posthouse("publish", "prices.quotd", "{}", cwd=place)
    wrong = posthouse("publish", "prices.quoted", '{"total": "a lot"}', cwd=place)

    assert (unknown.status, wrong.status) == (4, 4)
    assert "did you mean 'prices.quoted'" in unknown.err
    assert "$.total" in wrong.err


def test_services_are_listed_and_shown(serving: Program, place: Path):
    listed = posthouse("services", "--json", cwd=place)
    shown = posthouse("services", "prices", cwd=place)
    unknown = posthouse("services", "pricse", cwd=place)

    by_name = {record["service"]: record for record in listed.records}
    assert [instance["pid"] for instance in by_name["prices"]["instances"]] == [serving.process.pid]
    assert {op["name"]: op["mode"] for op in by_name["prices"]["contract"]["operations"]} == {
        "prices.quote": "queued",
        "prices.peek": "volatile",
        "prices.stock": "queued",
    }
    assert "request  {sku: string, qty: integer = 1}" in shown.out
    assert "rejects  sku.unknown (HTTP 404)" in shown.out
    assert (unknown.status, "did you mean 'prices'" in unknown.err) == (4, True)


def test_dead_letters_are_listed_shown_replayed_and_dropped(serving: Program, place: Path):
    sent = posthouse("send", "prices.stock", '{"sku": "tea"}', "--json", cwd=place).records[0]["id"]
    serving_has_given_up(serving, sent)

    listed = posthouse("dead", "ls", "--queue", "prices.stock", "--json", cwd=place)
    [letter] = listed.records
    shown = posthouse("dead", "show", sent, cwd=place)
    dry = posthouse("dead", "replay", "--code", letter["code"], "--queue", "prices.stock", "--dry-run", cwd=place)
    again = posthouse("dead", "replay", letter["id"], cwd=place)
    serving_has_given_up(serving, sent)
    [back] = posthouse("dead", "ls", "--queue", "prices.stock", "--json", cwd=place).records
    dropped = posthouse("dead", "drop", back["id"], "no-such-id", "--json", cwd=place)
    empty = posthouse("dead", "ls", "--queue", "prices.stock", cwd=place)

    assert listed.status == 1
    assert (letter["message_id"], letter["data"]) == (sent, {"sku": "tea"})
    assert "no room for tea" in shown.out
    assert (dry.out, again.out) == ("1 would be replayed\n", "1 replayed\n")
    assert dropped.records == [{"id": back["id"], "outcome": "dropped"}, {"id": "no-such-id", "outcome": "unknown"}]
    assert (dropped.status, empty.status) == (1, 0)


def serving_has_given_up(serving: Program, id: str) -> None:
    serving.error(lambda line: "gives up" in line and id in line, f"that it gives up {id}")


def test_an_unknown_dead_letter_is_status_2(serving: Program, place: Path):
    assert posthouse("dead", "show", "no-such-id", cwd=place).status == 2


def test_doctor_finds_nothing_and_check_agrees_with_what_runs(serving: Program, place: Path):
    doctor = posthouse("doctor", "--json", cwd=place)
    check = posthouse("check", "app.py", cwd=place)

    assert doctor.status == 0, doctor.out
    assert "transport" in {record["name"] for record in doctor.records}
    assert check.status == 0, check.out


def test_without_an_instance_queued_waits_and_volatile_is_refused_at_once(tmp_path: Path):
    (tmp_path / "app.py").write_text(APP)
    posthouse("_announce", "app.py", cwd=tmp_path)

    volatile = posthouse("call", "prices.peek", '{"sku": "tea"}', cwd=tmp_path)
    queued = posthouse("call", "prices.quote", '{"sku": "tea"}', "--timeout", "0.2s", cwd=tmp_path)

    assert (volatile.status, queued.status) == (3, 3)
    assert "error service.not_served: " in volatile.err
    assert "error outcome.unknown: " in queued.err


def test_a_full_queue_is_status_4(tmp_path: Path):
    (tmp_path / "app.py").write_text(APP)
    posthouse("_announce", "app.py", cwd=tmp_path)

    sent = [posthouse("send", "prices.quote", '{"sku": "tea"}', cwd=tmp_path).status for _ in range(4)]
    refused = posthouse("send", "prices.quote", '{"sku": "tea"}', "--json", cwd=tmp_path)

    assert sent == [0, 0, 0, 4]
    assert json.loads(refused.err)["code"] == "queue.full"


def test_a_data_directory_that_is_none_or_not_ours_is_named(tmp_path: Path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    for data in ("file", "open"):
        for command in (["run", "app.py"], ["up", "app.py", "--bind", "127.0.0.1:0"], ["doctor"]):
            ended = posthouse(*command, "--data", data, cwd=tmp_path)

            assert ended.status == 3, f"{command} with {data}: {ended}"
            assert "Traceback" not in ended.err
            assert str(tmp_path / data) in ended.err + ended.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_data_directory_without_rights_is_named(tmp_path: Path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "shut").mkdir(mode=0)

    ended = posthouse("run", "app.py", "--data", "shut", "--json", cwd=tmp_path)

    assert (ended.status, json.loads(ended.err)["code"]) == (3, "storage.unusable")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--transport", "box"], "config.invalid"),
        (["--transport", "carrier-pigeon:coop"], "config.invalid"),
        (["--transport", "memory:"], "engine.not_durable"),
        (["--env", "prod"], "config.invalid"),
        (["--config", "missing.toml"], "config.invalid"),
        (["--config", "wrong.toml"], "config.invalid"),
        (["--config", "."], "config.invalid"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_run(tmp_path: Path, arguments: list[str], code: str):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "wrong.toml").write_text("gatway = 1")

    ended = posthouse("run", "app.py", *arguments, "--json", cwd=tmp_path)

    assert (json.loads(ended.err)["code"], ended.out) == (code, "")
    assert ended.status in {2, 3}


def test_ctrl_c_is_quiet(tmp_path: Path):
    (tmp_path / "app.py").write_text(APP)
    posthouse("_announce", "app.py", cwd=tmp_path)

    with Program("run", "app.py", cwd=tmp_path) as run, Watched(run.event("ready")["pid"]):
        run.signal(signal.SIGINT)

        assert run.ended() == 0
        assert run.errors == []
