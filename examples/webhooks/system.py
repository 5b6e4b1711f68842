"""The system under the demo: `posthouse up` as a child, and what it says about its own children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

POSTHOUSE = (sys.executable, "-P", "-m", "posthouse.cli")
START_WITHIN = 30.0
END_WITHIN = 45.0


class System:
    """Runs a program with `posthouse up`; entering it starts all, leaving it ends all.

    Attributes:
        kills: how often each part was killed.
        ended: how the parts ended that nobody killed.
    """

    def __init__(self, app: Path, *, data: Path, port: int, board: Path, tell: Callable[[str], object]) -> None:
        self.kills = Counter[str]()
        self.ended: list[str] = []
        self._pids: dict[str, int] = {}
        self._killed: set[int] = set()
        self._data = data
        self._where = ["--data", str(data), "--config", str(app.with_name("posthouse.toml")), "--json"]
        self._command = [*POSTHOUSE, "up", str(app), "--bind", f"127.0.0.1:{port}", *self._where]
        # Settings of the one who runs the demo are for other programs.
        own = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOUSE_")}
        self._environment = {**own, "WEBHOOKS_BOARD": str(board)}
        self._log = data / "log.jsonl"
        self._tell = tell
        self._changed = threading.Condition()
        self._is_ready = self._has_ended = False
        self._ever: set[int] = set()

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which ends its children in order.
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, env=self._environment, start_new_session=True
            )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children notice, and end themselves
        self._reader.join()
        if error is not None and (lines := self.log()):
            self._tell("The last lines of its log:\n" + "\n".join(lines[-10:]))

    def wait_until_ready(self) -> None:
        """Wait until the gateway and all services serve.

        Raises:
            RuntimeError: it ended instead, or took longer than START_WITHIN.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_ready or self._has_ended, START_WITHIN)
            if not self._is_ready or self._has_ended:
                raise RuntimeError("the system did not start")

    def kill(self, part: str) -> int:
        """Kill a part (kill -9), as soon as it runs; return which process that was.

        Raises:
            RuntimeError: it does not run, for START_WITHIN.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: part in self._pids or self._has_ended, START_WITHIN):
                raise RuntimeError(f"{part} was not started again")
            pid = self._pids.pop(part, 0)
            if pid:  # else all has ended, and so does the demo
                self._killed.add(pid)
                os.kill(pid, signal.SIGKILL)
                self.kills[part] += 1
            return pid

    def wipe(self) -> None:
        """Delete the transport under everybody who uses it: queues, contracts, subscriptions, who is there."""
        for path in sorted(self._data.glob("transport.db*")):
            path.unlink(missing_ok=True)

    def wait_until_whole(self) -> None:
        """Wait until each part runs.

        Raises:
            RuntimeError: one does not, for START_WITHIN.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.kills.keys() <= self._pids.keys(), START_WITHIN):
                raise RuntimeError(f"{', '.join(self.kills.keys() - self._pids.keys())}: not started again")

    def under_way(self) -> int:
        """Return how much is not done yet: in queues, asked and not final, or taken and not decided."""
        queued = sum(queue["stored"] for queue in self._ask("queues"))
        asked = sum(row["calls"] for row in self._ask("outbox"))
        return queued + asked + sum(row["requests"] for row in self._ask("inbox") if row["state"] != "parked")

    def dead_letters(self) -> int:
        """Return how many messages were given up."""
        return len(self._ask("dead", "ls"))

    def alive(self) -> list[int]:
        """Return the processes of its children that still run; none once it has ended."""
        return [pid for pid in self._ever if _runs(pid)]

    def log(self) -> list[str]:
        """Return what the processes have written to their log."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def _ask(self, *command: str) -> list[dict[str, Any]]:
        arguments = [*POSTHOUSE, *command, *self._where]
        asked = subprocess.run(arguments, env=self._environment, capture_output=True, text=True, check=False)
        if asked.returncode not in {0, 1}:  # 1 says that there is something to see
            raise RuntimeError(f"posthouse {' '.join(command)}: {asked.stderr}")
        return [json.loads(line) for line in asked.stdout.splitlines()]

    def _read(self) -> None:
        """Follow what `posthouse up` says, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b'{"event":'):
                with self._changed:
                    self._hear(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _hear(self, news: dict[str, Any]) -> None:
        match news:
            case {"event": "ready"}:
                self._is_ready = True
            case {"event": "started", "part": str(part), "pid": int(pid)}:
                self._pids[part] = pid
                self._ever.add(pid)
            case {"event": "died", "part": str(part), "pid": int(pid), "status": int(status)}:
                if pid not in self._killed:
                    self._pids.pop(part, None)
                    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
                    self.ended.append(f"{part} (process {pid}) has ended {how}")
                    self._tell(self.ended[-1])
            case _:
                pass


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
