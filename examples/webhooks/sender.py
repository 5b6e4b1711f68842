"""GitHub's side of the demo: deliveries as GitHub makes them, sent by HTTP as GitHub sends them.

What the receiver did not take (no connection, or a status of 500 and more) is sent again under the
same number, as somebody would who presses "Redeliver" on GitHub's page of a webhook.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
import tomllib
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE = 30.0
"""Seconds after which a delivery that nobody takes is given up."""


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


def recorded() -> list[Delivery]:
    """Return the recorded deliveries, each with a number of its own."""
    deliveries: list[Delivery] = []
    for line in (HERE / "github-webhooks.jsonl").read_text(encoding="utf-8").splitlines():
        recording = json.loads(line)
        body = json.dumps(recording["payload"], separators=(",", ":"), ensure_ascii=False).encode()
        deliveries.append(Delivery(recording["event"], str(uuid.uuid4()), body))
    return deliveries


def shared_secret() -> bytes:
    """Return the secret that GitHub and the gateway share."""
    settings = tomllib.loads((HERE / "posthouse.toml").read_text(encoding="utf-8"))
    return settings["routes"]["POST /github"]["signature"]["secret"].encode()


class Sender:
    """Sends deliveries to one gateway, over a few connections.

    Attributes:
        again: how often one was sent again.
    """

    def __init__(self, host: str, port: int, *, secret: bytes) -> None:
        self.again = 0
        self._address = (host, port)
        self._secret = secret
        self._of_thread = threading.local()
        self._giving_up = threading.Event()

    def forge(self, delivery: Delivery) -> tuple[int, str]:
        """Send a delivery that somebody else has signed; return the status and the problem's code."""
        status, body = self._post(delivery, delivery.headers(b"a guess"))
        return status, json.loads(body).get("code", "")

    def send_all(self, deliveries: Sequence[Delivery], *, connections: int, taken: Callable[[int], object]) -> None:
        """Send all, each until it is taken.

        Args:
            deliveries: what to send.
            connections: how many at once.
            taken: is told how many have been taken, after each.

        Raises:
            RuntimeError: one was refused, or nobody took it for PATIENCE.
        """
        lock, count = threading.Lock(), 0

        def send(delivery: Delivery) -> None:
            nonlocal count
            try:
                self._send(delivery)
            except BaseException:
                self._giving_up.set()
                raise
            with lock:
                count += 1
                taken(count)

        with ThreadPoolExecutor(connections) as threads:
            sent = [threads.submit(send, delivery) for delivery in deliveries]
            try:
                for done in sent:
                    done.result()
            except BaseException:  # Ctrl-C, too: what was not begun is not sent any more
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, delivery: Delivery) -> None:
        headers = delivery.headers(self._secret)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                status, body = self._post(delivery, headers)
            except (OSError, HTTPException) as error:
                status, body = 0, repr(error).encode()
            if 200 <= status < 300:
                return
            if 0 < status < 500 or time.monotonic() > until or self._giving_up.wait(0.1):
                raise RuntimeError(f"{delivery.kind} {delivery.number} was not taken: {status} {body.decode()}")
            self.again += 1

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
