"""The yard of the crash tests: starts and kills processes of storm.py, and reads their records.

Waits are on conditions, with a bound that fails; nothing here measures a time. What was stored is
judged by the records alone: `confirmed` by the senders, `handled` by the receivers.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from posthouse.backends import open_backend
from posthouse.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from posthouse.contracts.transport import DeadLetter, QueueInfo

STORM = Path(__file__).with_name("programs") / "storm.py"
POSTHOUSE = ("-P", "-m", "posthouse.cli")
LENGTH = 16
PATIENCE = 20.0
"""Less than a lease (30 s): what a dead process held must come back because it is dead."""


@dataclass
class Yard:
    """Processes on one data directory; leaving it kills all that are left.

    Attributes:
        folder: for data, records and logs; its path is short, so that its sockets lie in it too.
        running: the processes, by what they do.
        kills: how many were killed so far.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="yard-", dir="/tmp")))
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])
    kills: Counter[str] = field(default_factory=Counter[str])
    _lifeline: tuple[int, int] = (-1, -1)

    def __enter__(self) -> Self:
        self._lifeline = os.pipe()  # the children hold one end, and end when we are gone with the other
        for name in ("data", "records"):
            (self.folder / name).mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        for end in self._lifeline:
            os.close(end)
        if error is not None:  # pytest shows it with the failure
            print(*self.log()[-40:], sep="\n")
        shutil.rmtree(self.folder)

    # --- processes -------------------------------------------------------------------------------------

    def receiver(self, name: str, **says: str) -> subprocess.Popen[bytes]:
        """Start a process that receives, with these of its variables."""
        return self._start(name, [*POSTHOUSE, "run", f"{STORM}:office"], says)

    def sender(self, name: str, run: int = 1, **says: str) -> subprocess.Popen[bytes]:
        """Start a process that sends; each needs a run of its own."""
        return self._start(name, [str(STORM), str(run)], says)

    def gateway(self, port: int) -> subprocess.Popen[bytes]:
        """Start a gateway."""
        return self._start(
            "gateway", [*POSTHOUSE, "_serve", f"--gateway=127.0.0.1:{port}", f"--lifeline={self._lifeline[0]}"], {}
        )

    def _start(self, name: str, arguments: list[str], says: Mapping[str, str]) -> subprocess.Popen[bytes]:
        own = {
            "POSTHOUSE_DATA": str(self.folder / "data"),
            "STORM_RECORDS": str(self.folder / "records"),
            "STORM_LIFELINE": str(self._lifeline[0]),
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOUSE_", "STORM_"))}
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**others, **own, **says},
                pass_fds=self._lifeline[:1],
                stderr=log,
            )
        self.running[name] = process
        return process

    def kill(self, name: str) -> None:
        """SIGKILL a process, and see it gone."""
        process = self.running.pop(name)
        process.kill()
        process.wait(PATIENCE)
        self.kills[name.partition(" ")[0]] += 1

    def stop(self, name: str, *, within: float) -> int:
        """SIGTERM a process, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: it was still there after `within` seconds.
        """
        process = self.running[name]
        process.send_signal(signal.SIGTERM)
        status = process.wait(within)
        del self.running[name]
        return status

    def ended(self) -> list[str]:
        """Return the processes that have ended by themselves."""
        return [name for name, process in self.running.items() if process.poll() is not None]

    def failed(self) -> bool:
        """Say whether a process has ended with an error, other than by a signal."""
        return any((process.poll() or 0) > 0 for process in self.running.values())

    def log(self) -> list[str]:
        """Return what the processes wrote to stderr."""
        return (self.folder / "log").read_text(errors="replace").splitlines()

    # --- records ---------------------------------------------------------------------------------------

    def count(self, record: str) -> int:
        """Return how many lines a record has."""
        path = self.folder / "records" / record
        return path.stat().st_size // LENGTH if path.exists() else 0

    def begun(self, name: str) -> int:
        """Return how many letters a running process has begun with."""
        return self.count(f"begun-{self.running[name].pid}")

    def all_begun(self) -> int:
        """Return how many letters anybody ever began with."""
        return sum(self.count(path.name) for path in (self.folder / "records").glob("begun-*"))

    def names(self, record: str) -> Counter[str]:
        """Return how often each name stands in a record."""
        path = self.folder / "records" / record
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def lost(self) -> set[str]:
        """Return what was confirmed and not handled, yet."""
        return self.names("confirmed").keys() - self.names("handled").keys()

    def duplicates(self) -> int:
        """Return how often something was handled once more."""
        handled = self.names("handled")
        return handled.total() - len(handled)

    # --- the engine, asked by a process of its own -----------------------------------------------------

    def queues(self) -> list[QueueInfo]:
        """Return what the queues hold."""
        return asyncio.run(self._look())[0]

    def dead_letters(self) -> list[DeadLetter]:
        """Return the messages that were given up."""
        return asyncio.run(self._look())[1]

    async def _look(self) -> tuple[list[QueueInfo], list[DeadLetter]]:
        transport, _ = open_backend(f"sqlite:{self.folder / 'data'}", peer=os.urandom(8).hex(), clock=SystemClock())
        await transport.open()
        try:
            return await transport.queues(), await transport.dead()
        finally:
            await transport.close()

    # --- waiting ---------------------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[], bool], what: str, *, within: float = PATIENCE) -> None:
        """Wait until something is so.

        Raises:
            AssertionError: it never was, or a process has ended with an error.
        """
        assert self.comes_true(lambda: condition() or self.failed(), within=within), f"it never came true that {what}"
        assert not self.failed(), f"a process has failed before it came true that {what}"

    def comes_true(self, condition: Callable[[], bool], *, within: float) -> bool:
        """Wait until something is so, and return whether it ever was."""
        until = time.monotonic() + within
        while not condition():
            if time.monotonic() > until:
                return False
            time.sleep(0.002)  # other processes make it true, and nothing tells of it
        return True

    def wait_until_quiet(self) -> None:
        """Wait until no queue holds anything."""
        self.wait_for(lambda: all(info.stored == 0 for info in self.queues()), "all queues are empty")
