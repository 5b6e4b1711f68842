"""A process that is measured: started, listened to, looked at, ended by its id."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.quiet import processes


class Child:
    """One measured process.

    Args:
        argv: its program.
        env: its whole environment.
        folder: where it runs, and where its errors are kept.
        listens: whether it is a program of `talk`, which ends when its standard input does.

    Attributes:
        started: when, on the clock that all processes share.
        port: where it listens, if somebody has noted it.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], folder: Path, listens: bool = True) -> None:
        self.argv = argv
        self._listens = listens
        self._errors = folder / "errors.log"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if listens else subprocess.DEVNULL,
                stdout=subprocess.PIPE if listens else errors,
                stderr=errors,
                env=dict(env),
                cwd=folder,
                start_new_session=True,
            )
        self.started = time.monotonic()
        self.pid = self._process.pid
        self.port = 0
        self._unread = b""

    def expect(self, tag: str, seconds: float = 60.0) -> dict[str, Any]:
        """Return the facts of the next line with this tag.

        Raises:
            RuntimeError: the process ended, or said nothing of the kind in time; with its last words.
        """
        end = time.monotonic() + seconds
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                said, _, facts = line.partition(b" ")
                if said == tag.encode():
                    return json.loads(facts)
                continue
            out: IO[bytes] | None = self._process.stdout
            if out is None or not select.select([out], [], [], max(0.0, end - time.monotonic()))[0]:
                raise RuntimeError(f"{self._who()} did not say {tag} within {seconds:g} s{self.last_words}")
            got = os.read(out.fileno(), 1 << 20)
            if not got:
                raise RuntimeError(f"{self._who()} ended before it said {tag}{self.last_words}")
            self._unread += got

    def go(self) -> None:
        """Tell it to go on."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()

    @property
    def cpu(self) -> float:
        """The seconds of CPU that it has used."""
        found = processes().get(self.pid)
        return found.used if found else 0.0

    @property
    def resident(self) -> int:
        """The bytes of memory that it holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def pin(self, cpus: set[int]) -> None:
        """Keep all of its threads on these CPUs."""
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            os.sched_setaffinity(int(thread), cpus)

    def end(self) -> None:
        """End it: by its standard input, else by SIGTERM, at last by SIGKILL."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
                self._process.wait(10)
            except (OSError, subprocess.TimeoutExpired):
                pass
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self.pid, number)
                try:
                    self._process.wait(5)
                except subprocess.TimeoutExpired:
                    continue
        if self._process.stdout is not None:
            self._process.stdout.close()

    def stop(self) -> None:
        """End it by SIGTERM, as an operator does.

        Raises:
            subprocess.TimeoutExpired: it did not end.
        """
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not written yet is not wanted any more
                    pipe.close()

    def _who(self) -> str:
        return " ".join(self.argv[1:4])

    @property
    def last_words(self) -> str:
        """What it wrote on its standard error, if anything."""
        text = self._errors.read_text(errors="replace").strip() if self._errors.exists() else ""
        return f":\n{text[-2000:]}" if text else ""
