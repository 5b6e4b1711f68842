"""Nothing that was confirmed is lost, whoever is killed, and whenever.

Each test runs senders and receivers in processes of their own, kills them with SIGKILL, starts others
in their place, and compares two records: what was confirmed to senders, and what receivers handled.
Duplicates are allowed in `queued`, counted, and shown with -s. At the end stand the tests of the test:
with a planted fault each must see a loss.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.system.yard import LENGTH, PATIENCE, Yard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.system

SEED = 20_261
RECEIVERS = [f"receiver {number}" for number in (1, 2, 3)]


@pytest.fixture
def yard() -> Iterator[Yard]:
    with Yard() as yard:
        yield yard


def storm(
    yard: Yard, *, kills: int, letters: int, seed: int, http: bool = False, fault: str = "", victims: Sequence[str] = ()
) -> None:
    """Kill processes at random moments, each time start another in its place, and end all that send.

    Args:
        yard: where they run.
        kills: at least so many.
        letters: at least so many are confirmed.
        seed: of the chance.
        http: send some by HTTP through a gateway, too.
        fault: of storm.py.
        victims: who may be killed; everybody, when nothing is said.
    """
    rng = random.Random(seed)
    port = free_port()
    runs = 0

    def start(name: str) -> None:
        nonlocal runs
        runs += 1
        if name == "gateway":
            yard.gateway(port)
        elif name == "sender":
            yard.sender(name, runs, STORM_FAULT=fault)
        else:
            yard.receiver(name, STORM_FAULT=fault)

    names = [*RECEIVERS, "sender", *(["gateway"] if http else [])]
    for name in names:
        start(name)
    with Poster(yard, port) if http else contextlib.nullcontext():
        while yard.kills.total() < kills or (yard.count("confirmed") < letters and yard.kills.total() < 3 * kills):
            progress = progress_of(yard)
            further = progress + rng.randint(1, 4 * letters // kills)  # a letter counts twice: confirmed, handled
            yard.comes_true(lambda: progress_of(yard) >= further, within=rng.uniform(0.1, 1.0))  # noqa: B023 - asked in this round only
            if progress_of(yard) == progress and rng.random() < 0.7 and not yard.ended():
                continue  # nobody had come so far as to do anything; mostly, let them
            victim = rng.choice(victims or names)
            assert yard.ended() == [], "a process ended by itself"
            yard.kill(victim)
            start(victim)
        yard.wait_for(lambda: yard.count("confirmed") >= letters, "enough letters are confirmed")
    yard.kill("sender")
    if http:
        yard.kill("gateway")


def progress_of(yard: Yard) -> int:
    return yard.count("confirmed") + yard.count("handled")


class Poster(threading.Thread):
    """Posts letters to a gateway that comes and goes; what was answered 202 is recorded as confirmed."""

    def __init__(self, yard: Yard, port: int) -> None:
        super().__init__(name="poster")
        self.confirmed = 0
        self._record = (yard.folder / "records" / "confirmed").open("ab", buffering=0)
        self._port = port
        self._end = threading.Event()

    def __enter__(self) -> Poster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join(PATIENCE)
        self._record.close()
        assert not self.is_alive()
        assert self.confirmed, "the gateway never took anything"

    def run(self) -> None:
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        number = 0
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        while not self._end.wait(0.005):
            number += 1
            name = f"http-{number}"
            try:
                connection.request("POST", "/letters", json.dumps({"name": name}), headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                continue  # not confirmed: it may be stored, or not
            if response.status == 202:
                self._record.write(name.encode().ljust(LENGTH - 1) + b"\n")
                self.confirmed += 1
        connection.close()


def test_no_confirmed_message_is_lost_in_a_storm_of_kills(yard: Yard) -> None:
    storm(yard, kills=42, letters=2_000, seed=SEED, http=True)

    yard.wait_for(lambda: not yard.lost(), "all that was confirmed was handled")
    yard.wait_until_quiet()
    print(
        f"seed {SEED}: {yard.count('confirmed')} confirmed, {yard.kills.total()} kills {dict(yard.kills)},"
        f" 0 lost, {yard.duplicates()} duplicates"
    )
    assert yard.kills.total() >= 40
    assert yard.count("confirmed") >= 2_000
    assert {"receiver", "sender", "gateway"} <= yard.kills.keys()
    assert yard.dead_letters() == []
    assert any(info.receivers for info in yard.queues())


@pytest.mark.parametrize("step", ["before", "within", "after"])
@pytest.mark.parametrize("part", ["claim", "settle"])
def test_a_receiver_that_dies_around_a_transaction_loses_nothing(yard: Yard, part: str, step: str) -> None:
    yard.sender("sender")
    dying = yard.receiver("first", STORM_DIES=f"{part}.{step}.4")
    yard.wait_for(lambda: dying.poll() is not None, "the receiver has killed itself")
    yard.wait_for(lambda: yard.count("confirmed") >= 100, "some were confirmed")
    yard.kill("sender")

    yard.receiver("second")

    yard.wait_for(lambda: not yard.lost(), "all that was confirmed was handled")
    yard.wait_until_quiet()
    assert dying.returncode == -9
    assert yard.dead_letters() == []


@pytest.mark.parametrize("step", ["before", "within", "after"])
def test_a_sender_that_dies_around_a_transaction_loses_nothing_confirmed(yard: Yard, step: str) -> None:
    yard.receiver("receiver")
    dying = yard.sender("first", 1, STORM_DIES=f"send.{step}.5")
    yard.wait_for(lambda: dying.poll() is not None, "the sender has killed itself")

    yard.sender("second", 2)

    yard.wait_for(lambda: yard.count("confirmed") >= 100, "the file takes messages again")
    yard.kill("second")
    yard.wait_for(lambda: not yard.lost(), "all that was confirmed was handled")
    assert dying.returncode == -9


@pytest.mark.parametrize(("fault", "victims"), [("settles-first", RECEIVERS), ("confirms-first", ["sender"])])
def test_the_storm_sees_the_loss_of_a_planted_fault(yard: Yard, fault: str, victims: list[str]) -> None:
    storm(yard, kills=6, letters=300, seed=SEED, fault=fault, victims=victims)

    yard.wait_until_quiet()

    for name in RECEIVERS:
        yard.stop(name, within=PATIENCE)
    print(f"{fault}: {len(yard.lost())} of {yard.count('confirmed')} lost")
    assert yard.lost()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
