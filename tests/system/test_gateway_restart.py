"""A gateway that is killed, or asked to end, between a request and its reply loses neither.

Gateways and the service run in processes of their own, on one data directory; only gateways are killed.
Waits are on conditions, with a bound that fails.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

pytestmark = pytest.mark.system

PROGRAM = Path(__file__).with_name("programs") / "desk.py"
PATIENCE = 20.0
LATER = {"Prefer": "respond-async"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    data: Any


class Desk:
    """A data directory, and processes on it; leaving it kills all that are left."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="desk-", dir="/tmp"))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lifeline = os.pipe()  # the children hold one end, and end when we are gone with the other
        (self._folder / "records").mkdir()
        (self._folder / "data").mkdir()
        self.ports = {name: free_port() for name in ("one", "other")}
        self.threads = ThreadPoolExecutor(32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        for end in self._lifeline:
            os.close(end)
        self.threads.shutdown()
        if error is not None:  # pytest shows it with the failure
            print((self._folder / "log").read_text()[-4000:])
        shutil.rmtree(self._folder)

    def serve(self) -> None:
        """Start the service, and wait until it has announced itself to a gateway, if there is one."""
        self._start("desk", ["run", f"{PROGRAM}:desk"])

    def announce(self) -> None:
        """Have the service known, and not there."""
        self.serve()
        self.gateway("one")
        for name in ("desk", "one"):
            process = self._processes.pop(name)
            process.terminate()
            process.wait(PATIENCE)

    def gateway(self, name: str, **settings: str) -> None:
        """Start a gateway, and wait until it has the route of the service."""
        says = {f"POSTHOUSE_{key.upper()}": value for key, value in settings.items()}
        self._start(name, ["gateway", f"--bind=127.0.0.1:{self.ports[name]}"], **says)
        wait_for(lambda: self._has_route(name), f"the gateway {name} has its route")

    def kill(self, name: str) -> None:
        """SIGKILL a process, and see it gone."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(PATIENCE)

    def signal(self, name: str) -> None:
        """Ask a process to end."""
        self._processes[name].send_signal(signal.SIGTERM)

    def ended(self, name: str) -> int:
        """Wait for the end of a process, and return its exit status."""
        return self._processes.pop(name).wait(PATIENCE)

    def listens(self, name: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports[name])) == 0

    def open_the_gate(self) -> None:
        (self._folder / "records" / "gate").touch()

    def record(self, name: str) -> list[str]:
        path = self._folder / "records" / name
        return path.read_text().split() if path.exists() else []

    # --- HTTP ------------------------------------------------------------------------------------------

    def post(self, sku: str, *, at: str = "one", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._ask("POST", at, "/orders", json.dumps({"sku": sku}), {"content-type": "application/json", **named})

    def posting(self, sku: str, *, at: str = "one", **headers: str) -> Future[Answer]:
        return self.threads.submit(self.post, sku, at=at, **headers)

    def get(self, path: str, *, at: str = "one") -> Answer:
        return self._ask("GET", at, path)

    def outcome(self, path: str, *, at: str = "one") -> Answer:
        """Ask until it is there."""
        wait_for(lambda: self.get(path, at=at).status != 202, f"{path} has its outcome")
        return self.get(path, at=at)

    def _ask(self, method: str, at: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[at], timeout=PATIENCE)
        try:
            connection.request(method, path, body or None, headers or {})
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, dict(response.getheaders()), json.loads(text) if text else None)
        finally:
            connection.close()

    def _has_route(self, name: str) -> bool:
        assert self._processes[name].poll() is None, "the gateway has ended"
        try:
            return bool(self.get("/", at=name).data["routes"])
        except OSError:
            return False

    def _start(self, name: str, arguments: list[str], **says: str) -> None:
        others = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOUSE_", "DESK_"))}
        own = {
            "POSTHOUSE_DATA": str(self._folder / "data"),
            "DESK_RECORDS": str(self._folder / "records"),
            "DESK_LIFELINE": str(self._lifeline[0]),
        }
        with (self._folder / "log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "posthouse.cli", *arguments],
                env={**others, **own, **says},
                cwd=self._folder,
                pass_fds=self._lifeline[:1],
                stdout=log,
                stderr=log,
            )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"it never came true that {what}"
        time.sleep(0.01)  # other processes make it true, and nothing tells of it


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as desk:
        yield desk


def test_a_killed_gateway_has_the_outcome_of_what_it_accepted_when_it_is_there_again(desk: Desk) -> None:
    desk.serve()
    desk.gateway("one")
    accepted = desk.post("tea", **LATER)
    wait_for(lambda: bool(desk.record("begun")), "the service has begun")

    desk.kill("one")
    desk.open_the_gate()  # the reply finds nobody
    wait_for(lambda: bool(desk.record("handled")), "the service has ended")
    desk.gateway("one")

    id = accepted.data["id"]
    outcome = desk.outcome(accepted.headers["location"])
    assert (accepted.status, outcome.status, outcome.data) == (202, 201, f"tea for {id}")
    assert desk.record("handled") == [id]


def test_a_request_to_a_service_that_is_not_there_outlives_the_gateway_that_took_it(desk: Desk) -> None:
    desk.announce()
    desk.gateway("one", gateway_wait="0.01")
    accepted = desk.post("tea")
    desk.kill("one")
    desk.open_the_gate()

    desk.serve()
    desk.gateway("one")

    assert accepted.status == 202
    assert desk.outcome(accepted.headers["location"]).data == f"tea for {accepted.data['id']}"
    assert desk.record("handled") == [accepted.data["id"]]


def test_a_client_whose_gateway_was_killed_asks_again_with_its_key_and_nothing_is_done_twice(desk: Desk) -> None:
    desk.serve()
    desk.gateway("one", gateway_wait="60")
    first = desk.posting("tea", idempotency_key="k")
    wait_for(lambda: bool(desk.record("begun")), "the service has begun")

    desk.kill("one")
    assert isinstance(first.exception(PATIENCE), OSError | http.client.HTTPException)
    desk.gateway("one")
    running = desk.post("tea", idempotency_key="k")
    desk.open_the_gate()
    wait_for(lambda: desk.post("tea", idempotency_key="k").status == 201, "the key gives the reply")

    [id] = desk.record("handled")
    assert (running.status, running.data["code"], running.data["id"]) == (409, "idempotency.running", id)
    assert desk.post("tea", idempotency_key="k").data == f"tea for {id}"
    assert desk.post("coffee", idempotency_key="k").data["code"] == "idempotency.conflict"
    assert desk.outcome(f"/requests/{id}").data == f"tea for {id}"


def test_two_gateways_that_are_given_one_key_at_the_same_time_make_one_call(desk: Desk) -> None:
    desk.open_the_gate()
    desk.serve()
    desk.gateway("one")
    desk.gateway("other")

    for key in map(str, range(20)):
        before = len(desk.record("handled"))
        asked = [desk.posting("tea", at=at, idempotency_key=key) for at in ("one", "other") * 4]
        answers = [each.result(PATIENCE) for each in asked]

        [id] = desk.record("handled")[before:]
        assert {answer.status for answer in answers} <= {201, 409}
        assert {answer.data for answer in answers if answer.status == 201} == {f"tea for {id}"}
        assert {answer.data["id"] for answer in answers if answer.status == 409} <= {id}
        for at in ("one", "other"):
            assert desk.post("tea", at=at, idempotency_key=key).data == f"tea for {id}"
            assert desk.get(f"/requests/{id}", at=at).data == f"tea for {id}"


def test_a_gateway_goes_on_with_what_its_sibling_was_asked_when_that_is_killed(desk: Desk) -> None:
    desk.announce()
    desk.gateway("one", gateway_wait="0.01")
    desk.gateway("other")
    accepted = desk.post("tea")

    desk.kill("one")
    desk.open_the_gate()
    desk.serve()

    assert desk.outcome(accepted.headers["location"], at="other").data == f"tea for {accepted.data['id']}"
    assert desk.record("handled") == [accepted.data["id"]]


@pytest.mark.parametrize(("grace", "signals"), [("0.2", 1), ("60", 2)], ids=["the grace is over", "asked twice"])
def test_who_waits_when_the_gateway_is_asked_to_end_is_told_where_to_ask(desk: Desk, grace: str, signals: int) -> None:
    desk.serve()
    desk.gateway("one", gateway_wait="60", grace=grace)
    first = desk.posting("tea")
    wait_for(lambda: bool(desk.record("begun")), "the service has begun")

    desk.signal("one")
    if signals == 2:
        wait_for(lambda: not desk.listens("one"), "the gateway has begun to end")
        desk.signal("one")

    answer = first.result(PATIENCE)
    assert desk.ended("one") == 0
    assert (answer.status, answer.data["state"]) == (202, "pending")
    desk.gateway("one")
    desk.open_the_gate()
    assert desk.outcome(answer.headers["location"]).data == f"tea for {answer.data['id']}"
    assert desk.record("handled") == [answer.data["id"]]


def test_in_a_storm_of_kills_what_is_asked_again_until_it_is_answered_is_done_once(desk: Desk) -> None:
    desk.open_the_gate()
    desk.serve()
    for name in ("one", "other"):
        desk.gateway(name)
    over = threading.Event()
    asking = [desk.threads.submit(insist, desk, f"client-{client}", over) for client in range(4)]

    try:
        for name in ("one", "other") * 4:
            before = len(desk.record("handled"))
            desk.kill(name)
            desk.gateway(name)
            wait_for(lambda before=before: len(desk.record("handled")) > before + 20, "it goes on")
    finally:
        over.set()

    answers = [answer for each in asking for answer in each.result(PATIENCE)]
    assert len(set(answers)) == len(answers)
    assert sorted(answer.rpartition(" ")[2] for answer in answers) == sorted(desk.record("handled"))


def insist(desk: Desk, client: str, over: threading.Event) -> list[str]:
    """Post one order after the other, each with a key and until it is answered; return the replies."""
    replies: list[str] = []
    gateways = itertools.cycle(("one", "other"))
    while not over.is_set():
        key = f"{client}-{len(replies)}"
        answer = None
        while answer is None or answer.status != 201:
            try:
                answer = desk.post(key, at=next(gateways), idempotency_key=key)
            except (OSError, http.client.HTTPException):
                if over.is_set():  # nobody is killed any more
                    raise
            else:
                assert answer.status in {201, 202, 409}, answer
        replies.append(answer.data)
    return replies
