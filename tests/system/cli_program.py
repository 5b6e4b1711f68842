"""A `posthouse` command as a process of its own, for tests that watch it from outside.

What it says on stdout is waited for line by line, under a deadline that fails the test; nothing
sleeps. Whatever a test does, its processes are gone when it ends.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

PATIENCE = 30.0
"""Seconds after which a test that waits has failed; on a busy machine a start takes a few."""

COMMAND = (sys.executable, "-P", "-m", "posthouse.cli")


class Ran(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment() -> dict[str, str]:
    """The environment without the settings of the one who runs the tests."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("POSTHOUSE_", "PYTHONUNBUFFERED"))
    }


def posthouse(*arguments: str, cwd: Path, stdin: str = "") -> Ran:
    """Run a command to its end."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class Program:
    """A command that runs until it is ended."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments, "--json"],
            cwd=cwd,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        self._complained: queue.Queue[str | None] = queue.Queue()
        self._said: queue.Queue[str | None] = queue.Queue()
        self._told: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._hear), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._hear_error), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()  # its children end by themselves: that is one of the promises
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)

    def line(self, is_it: Callable[[str], bool], what: str) -> str:
        """Wait for a line on stdout that is no event; a handler may say it before its program says that it is ready."""
        return self._wait(self._said, is_it, what)

    def error(self, is_it: Callable[[str], bool], what: str) -> str:
        """Wait for a line on stderr."""
        return self._wait(self._complained, is_it, what)

    def _wait(self, lines: queue.Queue[str | None], is_it: Callable[[str], bool], what: str) -> str:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                line = lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"it did not say {what}; stderr: {''.join(self.errors)}") from None
            if line is None:
                raise AssertionError(f"it ended and did not say {what}; stderr: {''.join(self.errors)}")
            if is_it(line):
                return line

    def event(self, event: str, **facts: Any) -> dict[str, Any]:
        """Wait for a line of JSON that tells this event, with these facts."""
        wanted = {"event": event, **facts}

        def is_it(line: str) -> bool:
            return wanted.items() <= json.loads(line).items()

        return json.loads(self._wait(self._told, is_it, str(wanted)))

    def signal(self, which: signal.Signals) -> None:
        """Send a signal to it alone."""
        self.process.send_signal(which)

    def ended(self) -> int:
        """Wait for its end, and return its exit status."""
        status = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def _read(self, stream: Any, put: Callable[[str | None], object]) -> None:
        with stream:
            for line in stream:
                put(line)
        put(None)

    def _hear(self, line: str | None) -> None:
        if line is None or line.startswith("{"):
            self._told.put(line)
        if line is None or not line.startswith("{"):
            self._said.put(line)

    def _hear_error(self, line: str | None) -> None:
        if line is not None:
            self.errors.append(line)
        self._complained.put(line)


def post(url: str, data: object, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Send JSON, and return the status and the JSON of the answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        sent = {"content-type": "application/json", **(headers or {})}
        connection.request("POST", parts.path, json.dumps(data), sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Watched:
    """Processes, watched from now on by descriptors that cannot mean another process later; killed at the end."""

    def __init__(self, *pids: int) -> None:
        self._open = {pid: os.pidfd_open(pid) for pid in pids}

    def all_gone(self) -> bool:
        """Wait until all have ended; False when that does not come."""
        until = time.monotonic() + PATIENCE
        for descriptor in self._open.values():
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
