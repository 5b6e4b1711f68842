"""GitHub's side of the demo: deliveries as GitHub makes them, sent by HTTP as GitHub sends them.

What was not taken is sent again under the same number, as somebody would who presses "Redeliver" on
GitHub's page of a webhook. A connection that breaks is no answer: the delivery may have been taken, and
whoever sends it again cannot know. That it takes effect once all the same is the gateway's affair.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
import tomllib
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
PATIENCE = 30.0
"""Seconds after which a delivery that nobody takes is given up."""

_LATER = frozenset({404, 409})
"""404: a gateway that was started again knows no route, until the services have told theirs to the new
transport. 409: the same delivery is still at work."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One of GitHub's deliveries.

    Attributes:
        kind: what happened, as X-GitHub-Event says it.
        number: as X-GitHub-Delivery says it; the same when it is sent again.
        body: the payload.
    """

    kind: str
    number: str
    body: bytes

    def headers(self, secret: bytes) -> dict[str, str]:
        """Return the headers that GitHub sends, with the signature that this secret makes."""
        return {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Delivery": self.number,
            "X-GitHub-Event": self.kind,
            "X-GitHub-Hook-ID": "292430182",
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret, self.body, hashlib.sha256).hexdigest(),
        }


def recorded(rounds: int, rng: Random) -> list[Delivery]:
    """Return the recorded deliveries, so many times, each with a number of its own."""
    deliveries: list[Delivery] = []
    lines = (HERE / "github-webhooks.jsonl").read_text(encoding="utf-8").splitlines()
    for recording in map(json.loads, lines * rounds):
        body = json.dumps(recording["payload"], separators=(",", ":"), ensure_ascii=False).encode()
        number = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        deliveries.append(Delivery(recording["event"], number, body))
    return deliveries


def shared_secret() -> bytes:
    """Return the secret that GitHub and the gateway share."""
    settings = tomllib.loads((HERE / "posthouse.toml").read_text(encoding="utf-8"))
    return settings["routes"]["POST /github"]["signature"]["secret"].encode()


class Sender:
    """Sends deliveries to one gateway, over a few connections.

    Attributes:
        taken: how many were taken so far.
        again: how often one was sent again that may have been taken: its connection broke, or the answer was no yes.
    """

    def __init__(self, host: str, port: int, *, secret: bytes) -> None:
        self.taken = 0
        self.again = 0
        self._address = (host, port)
        self._secret = secret
        self._counting = threading.Lock()
        self._of_thread = threading.local()
        self._giving_up = threading.Event()

    def forge(self, delivery: Delivery) -> tuple[int, str]:
        """Send a delivery that somebody else has signed; return the status and the problem's code."""
        status, body = self._post(delivery, delivery.headers(b"a guess"))
        return status, json.loads(body).get("code", "")

    def send_all(self, deliveries: Sequence[Delivery], *, connections: int, rate: float) -> None:
        """Send all, each until it is taken.

        Args:
            deliveries: what to send.
            connections: how many at once.
            rate: how many a second; what was held up is sent as fast as it goes.

        Raises:
            RuntimeError: one was refused, or nobody took it for PATIENCE.
        """
        began = time.monotonic()

        def send(place: int, delivery: Delivery) -> None:
            if self._giving_up.wait(max(0.0, began + place / rate - time.monotonic())):
                return
            try:
                self._send(delivery)
            except BaseException:
                self._giving_up.set()
                raise

        with ThreadPoolExecutor(connections) as threads:
            sent = [threads.submit(send, place, delivery) for place, delivery in enumerate(deliveries)]
            try:
                for done in sent:
                    done.result()
            except BaseException:  # Ctrl-C, too: what was not begun is not sent any more
                self.give_up()
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def give_up(self) -> None:
        """Send nothing any more."""
        self._giving_up.set()

    def _send(self, delivery: Delivery) -> None:
        headers = delivery.headers(self._secret)
        until = time.monotonic() + PATIENCE
        while True:
            in_doubt = 1
            try:
                status, body = self._post(delivery, headers)
            except ConnectionRefusedError as error:
                status, body, in_doubt = 0, repr(error).encode(), 0
            except (OSError, HTTPException) as error:
                status, body = 0, repr(error).encode()
            if 200 <= status < 300:
                with self._counting:
                    self.taken += 1
                return
            if (0 < status < 500 and status not in _LATER) or time.monotonic() > until or self._giving_up.wait(0.1):
                raise RuntimeError(f"{delivery.kind} {delivery.number} was not taken: {status} {body.decode()}")
            with self._counting:
                self.again += in_doubt

    def _post(self, delivery: Delivery, headers: dict[str, str]) -> tuple[int, bytes]:
        connection: HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = HTTPConnection(*self._address, timeout=PATIENCE)
        try:
            connection.request("POST", "/github", delivery.body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException):
            connection.close()  # the next request opens it again
            raise
