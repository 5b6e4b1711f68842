"""Does what a reader of a page does: writes app.py, starts what serves, types the commands, compares.

What differs from run to run (times, ids, process numbers, ports) is compared as if it did not. What a
page shows may leave out lines, but not change their order.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE: Final = 20.0
SERVERS: Final = ("dev", "up", "run", "gateway")
LOOKS: Final = ("dead ls", "queues", "services")
"""Commands that only look: they are typed again until they show what the page shows."""

_VARIES: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "CAUSE"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{8}\b"), "STORE"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s)\b"), "N s"),
    (re.compile(r"(?<=[\s\"'(])/[\w./-]+/(?=[\w-]+\.py)"), "DIRECTORY/"),
    (re.compile(r"\(in [\w./-]+\)"), "(in DIRECTORY)"),
    (re.compile(r"\s+"), " "),
)


def same(line: str) -> str:
    """Return a line as it is compared."""
    for pattern, word in _VARIES:
        line = pattern.sub(word, line)
    return line.strip()


def missing(shown: Iterable[str], said: Iterable[str]) -> str:
    """Return the first shown line that was not said, in order; "" when all were. A line "..." stands for any."""
    left = iter([same(line) for line in said])
    for line in shown:
        if line.strip() == "...":
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in same(line).split("...")))
        if not any(pattern.fullmatch(each) for each in left):
            return line
    return ""


class Reader:
    """A reader at work in a folder; leaving ends all that was started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[Server] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        own = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOUSE_")}
        self._environment = {**own, "POSTHOUSE_GATEWAY_BIND": f"127.0.0.1:{self._port}", "NO_COLOR": "1"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_servers()

    def write_app(self, text: str) -> None:
        """Write app.py; a `dev` that runs starts anew, which is waited for."""
        (self._folder / "app.py").write_text(text + "\n")
        for server in self._servers:
            server.wait_for(["...app.py changed...", "...ready..."])

    def change_app(self, change: str) -> None:
        """Change app.py as "OLD => NEW" says."""
        old, arrow, new = change.partition(" => ")
        text = (self._folder / "app.py").read_text().rstrip("\n")
        assert arrow, f"{change!r} is not OLD => NEW"
        assert old in text, f"app.py has no {old!r}"
        self.write_app(text.replace(old, new))

    def type(self, command: str, shown: list[str]) -> None:
        """Type a command, and compare what it says.

        Raises:
            AssertionError: it did not say what the page shows.
        """
        words = shlex.split(self._with_port(command))
        if words[0] == "posthouse" and words[1] in SERVERS:
            if words[1] in {"dev", "up"}:
                self._end_servers()
            self._servers.append(Server(self._real(words), self._folder, self._environment, self._port))
            self._servers[-1].wait_for(shown or ["...ready..."])
            return
        again = command.removeprefix("posthouse ").startswith(LOOKS)
        until = time.monotonic() + PATIENCE
        while True:
            said = self._run(words)
            lacks = missing(shown, said)
            if not lacks:
                return
            if not again or time.monotonic() > until:
                raise AssertionError(f"$ {command}\ndid not say: {lacks}\nbut:\n" + "\n".join(said))

    def hear(self, shown: list[str]) -> None:
        """Wait until what serves shows these lines."""
        assert self._servers, "nothing runs that could show this"
        self._servers[-1].wait_for(shown)

    def _run(self, words: list[str]) -> list[str]:
        done = subprocess.run(
            self._real(words),
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.stdout.replace(f":{self._port}", ":8080").splitlines()

    def _real(self, words: list[str]) -> list[str]:
        if words[0] == "posthouse":
            return [sys.executable, "-P", "-m", "posthouse.cli", *words[1:]]
        return ["curl", "--silent", "--show-error", *words[1:]]

    def _with_port(self, text: str) -> str:
        return re.sub(r"\b(localhost|127\.0\.0\.1):8080\b", f"127.0.0.1:{self._port}", text)

    def _end_servers(self) -> None:
        servers, self._servers = self._servers, []
        for server in reversed(servers):
            server.end()


class Server:
    """Something that serves until it is ended, and what it has said."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], port: int) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        self._heard = 0
        self._port = port
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def wait_for(self, shown: list[str]) -> None:
        """Wait until it has said these lines, since the last time that we waited."""
        with self._news:
            there = self._news.wait_for(lambda: not missing(shown, self._said[self._heard :]), PATIENCE)
            assert there, "it did not show:\n" + "\n".join([*shown, "but:", *self._said[self._heard :]])
            self._heard = len(self._said)

    def end(self) -> None:
        """End it, and see it gone."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self._said.append(line.rstrip().replace(f":{self._port}", ":8080"))
                    self._news.notify_all()
