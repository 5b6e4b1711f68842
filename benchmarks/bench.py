"""The bench: where programs run, who takes part, how often; then the tables.

Runs are interleaved: one of each participant, then one of each again, so that a machine that changes
its speed changes it for all. What is missing (a peer's environment, a server) is named and skipped.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.child import Child
from benchmarks.profiles import Profiler
from benchmarks.quiet import Guard

ROOT = Path(__file__).resolve().parents[1]

RABBIT_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Debian's own; the wrapper of that name on the PATH insists on the packaged user and data directory."""

Reading = dict[str, float]
"""What one run measured: values by the name of their measure."""


@dataclass(frozen=True)
class Measure:
    """One column of figures.

    Attributes:
        key: its name in a Reading.
        label: what it is, with its unit.
        scale: what a value is multiplied with to be shown.
    """

    key: str
    label: str
    scale: float = 1.0


@dataclass(frozen=True)
class Participant:
    """One row: who is measured, and how one run of it goes.

    Attributes:
        name: as the table shows it.
        once: makes one run.
        needs: what must be there, "nats-server", "wrk", "peers": else it is skipped.
        runs: most runs of it, for those that take long.
    """

    name: str
    once: Callable[[Bench], Reading]
    needs: tuple[str, ...] = ()
    runs: int = 1000


@dataclass(frozen=True)
class Target:
    """What we aim at.

    Attributes:
        measure: the key of the measure.
        who: whose median.
        bound: the factor, or the value where there is no peer.
        peer: whose median it is compared with; empty for an absolute value.
        most: the bound is an upper one.
        peer_measure: the measure of the peer, if it is another one.
    """

    measure: str
    who: str
    bound: float
    peer: str = ""
    most: bool = False
    peer_measure: str = ""


@dataclass(frozen=True)
class Job:
    """What is measured, and who takes part.

    Attributes:
        name: what selects it: "j1".
        title: one line.
        participants: the first one is what the others' ratios refer to.
        measures: the columns.
        targets: what we aim at.
        note: what a reader must know to compare.
    """

    name: str
    title: str
    participants: Sequence[Participant]
    measures: Sequence[Measure]
    targets: Sequence[Target] = ()
    note: str = ""


@dataclass
class Results:
    """What came of one job: readings by participant, disturbed runs, who was left out and why."""

    job: Job
    readings: dict[str, list[Reading]] = field(default_factory=dict[str, list[Reading]])
    disturbed: dict[str, int] = field(default_factory=dict[str, int])
    skipped: dict[str, str] = field(default_factory=dict[str, str])


class Bench:
    """Starts programs, and keeps what they share: a server, a folder, the guard.

    Attributes:
        scale: makes every run shorter or longer.
        depth: the deepest backlog of job 5.
        peers: the interpreter of the peers' environment; None without one.
        profiler: looks into our programs, when asked to.
    """

    def __init__(
        self, *, guard: Guard, folder: Path | None, scale: float, depth: int, peers: Path | None, profile: str
    ) -> None:
        self.scale = scale
        self.depth = depth
        self.peers = peers
        self.profiler = Profiler(profile, peers)
        self._guard = guard
        self._home = Path(tempfile.mkdtemp(prefix="bench-", dir=folder))
        self._children: list[Child] = []
        self._servers: dict[str, Child] = {}
        self._mark = 0
        self._epmd = ""

    def close(self) -> None:
        """End everything, and remove what was written."""
        self._end_children(0)
        for server in self._servers.values():
            server.end()
        if self._epmd:  # a daemon that the server has left behind, on a port of ours
            subprocess.run(["epmd", "-port", self._epmd, "-kill"], capture_output=True, check=False)
        shutil.rmtree(self._home, ignore_errors=True)

    def run(self, job: Job, *, runs: int, only: Sequence[str]) -> Results:
        """Run a job: one run of each participant, then one of each again."""
        results = Results(job)
        print(f"\n{job.name}: {job.title}", file=sys.stderr, flush=True)
        chosen = [each for each in job.participants if not only or any(word in each.name.lower() for word in only)]
        for participant in chosen:
            if missing := self._missing(participant.needs):
                results.skipped[participant.name] = missing
                print(f"  {participant.name}: skipped, {missing}", file=sys.stderr, flush=True)
        for number in range(runs):
            for participant in chosen:
                if participant.name not in results.skipped and number < participant.runs:
                    self._run_once(participant, number, results)
        return results

    def _run_once(self, participant: Participant, number: int, results: Results) -> None:
        def once() -> Reading:
            before = len(self._children)
            try:
                return participant.once(self)
            finally:
                self._end_children(before)

        try:
            reading, disturbed = self._guard.measure(once)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            results.skipped[participant.name] = f"failed in run {number + 1}: {str(error).splitlines()[0]}"
            print(f"  {participant.name}: {error}", file=sys.stderr, flush=True)
            return
        results.readings.setdefault(participant.name, []).append(reading)
        results.disturbed[participant.name] = results.disturbed.get(participant.name, 0) + disturbed
        shown = "  ".join(
            f"{m.label} {reading[m.key] * m.scale:,.5g}" for m in results.job.measures if m.key in reading
        )
        print(f"  {number + 1} {participant.name}: {shown}", file=sys.stderr, flush=True)

    # --- what participants use -------------------------------------------------------------------------

    def count(self, usual: int) -> int:
        """Return how many messages a run has."""
        return max(200, int(usual * self.scale))

    def mark(self) -> str:
        """Return a word that no run has had before, for the names of queues and streams."""
        self._mark += 1
        return f"r{os.getpid()}x{self._mark}"

    def place(self) -> Path:
        """Return a new, empty folder."""
        place = self._home / self.mark()
        place.mkdir()
        return place

    def ours(self, program: str, *arguments: object, look: str = "") -> Child:
        """Start a program of `benchmarks.ours`; `look` names it where programs are profiled."""
        env = self._environment()
        child = self._start([sys.executable, "-m", f"benchmarks.ours.{program}", *map(str, arguments)], env, look)
        return child

    def peer(self, program: str, *arguments: object) -> Child:
        """Start a program of `benchmarks.peers`."""
        return self._start([str(self.peers), "-m", f"benchmarks.peers.{program}", *map(str, arguments)])

    def command(self, *argv: object, look: str = "", **variables: str) -> Child:
        """Start a program that does not talk to us; `look` as with `ours`."""
        return self._start([*map(str, argv)], self._environment(**variables), look, listens=False)

    def python(self, *argv: str, python: str = "", limit: float = 60) -> tuple[float, float]:
        """Run a short program, in our environment or in theirs; return the seconds that it took, and those of CPU."""
        argv = (python or sys.executable, *argv)
        env = self._environment()
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, env=env, cwd=self._home, capture_output=True, check=True, timeout=limit)
        took, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def nats(self) -> str:
        """Return the URL of a NATS server, started when first asked for."""
        if "nats" not in self._servers:
            port = free_port()
            place = self.place()
            config = place / "nats.conf"
            config.write_text(
                f'listen: "127.0.0.1:{port}"\nmax_payload: 8MB\n'
                f'jetstream {{ store_dir: "{place}/js", max_file_store: 20GB, max_memory_store: 1GB }}\n'
            )
            self._serve("nats", ["nats-server", "-c", str(config)], port, place)
            self._servers["nats"].port = port
        return f"nats://127.0.0.1:{self._servers['nats'].port}"

    @property
    def nats_server(self) -> Child:
        """The NATS server's process."""
        self.nats()
        return self._servers["nats"]

    def redis(self) -> str:
        """Return the URL of a Redis server that flushes each second, started when first asked for."""
        if "redis" not in self._servers:
            port = free_port()
            place = self.place()
            argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place), "--save", ""]
            self._serve("redis", [*argv, "--appendonly", "yes", "--appendfsync", "everysec"], port, place)
            self._servers["redis"].port = port
        return f"redis://127.0.0.1:{self._servers['redis'].port}/0"

    def rabbit(self) -> str:
        """Return the URL of a RabbitMQ server, started when first asked for."""
        if "rabbit" not in self._servers:
            port, place = free_port(), self.place()
            (place / "enabled_plugins").write_text("[].\n")
            (place / "rabbit.conf").write_text(
                f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users.guest = true\ndisk_free_limit.absolute = 100MB\n"
            )
            ours = {
                "HOME": str(place),
                "RABBITMQ_NODENAME": f"{self.mark()}@localhost",
                "RABBITMQ_MNESIA_BASE": f"{place}/mnesia",
                "RABBITMQ_LOG_BASE": f"{place}/log",
                "RABBITMQ_CONFIG_FILE": f"{place}/rabbit",
                "RABBITMQ_ENABLED_PLUGINS_FILE": f"{place}/enabled_plugins",
                "RABBITMQ_PID_FILE": f"{place}/pid",
                "RABBITMQ_DIST_PORT": str(free_port()),
                "ERL_EPMD_PORT": str(free_port()),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
            }
            self._epmd = ours["ERL_EPMD_PORT"]
            self._serve("rabbit", [RABBIT_SERVER], port, place, {**os.environ, **ours})
            time.sleep(3)  # it listens before it has started all
            self._servers["rabbit"].port = port
        return f"amqp://guest:guest@127.0.0.1:{self._servers['rabbit'].port}/"

    def flush(self) -> float:
        """Return the seconds that the disk takes to flush a page, the middle one of twenty, just now."""
        took: list[float] = []
        path = self.place() / "flush"
        with path.open("wb", buffering=0) as file:
            for _ in range(21):
                file.seek(0)
                file.write(bytes(4096))
                start = time.monotonic()
                os.fsync(file.fileno())
                took.append(time.monotonic() - start)
        return sorted(took[1:])[10]

    @property
    def servers(self) -> list[Child]:
        """The servers that run."""
        return list(self._servers.values())

    @contextmanager
    def pinned(self, *children: Child) -> Generator[None]:
        """Keep these processes on one CPU meanwhile."""
        for child in children:
            child.pin({0})
        try:
            yield
        finally:
            for child in children:
                child.pin(set(range(os.cpu_count() or 1)))

    # --- the inside ------------------------------------------------------------------------------------

    def _missing(self, needs: tuple[str, ...]) -> str:
        for need in needs:
            if need == "peers":
                if self.peers is None:
                    return "the peers' environment is not there"
            elif "-" in need or need == "wrk":
                if shutil.which(need) is None:
                    return f"{need} is not installed"
            elif not self._has_module(need):
                return f"{need} is not in the peers' environment"
        return ""

    def _has_module(self, name: str) -> bool:
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
        return subprocess.run([str(self.peers), "-c", probe], check=False).returncode == 0

    def _start(
        self, argv: list[str], env: dict[str, str] | None = None, look: str = "", *, listens: bool = True
    ) -> Child:
        env = env or self._environment()
        if look:
            self.profiler.prepare(look, env)
        child = Child(argv, env=env, folder=self.place(), listens=listens)
        self._children.append(child)
        if look:
            self.profiler.attach(look, child.pid)
        return child

    def _environment(self, **variables: str) -> dict[str, str]:
        """Return ours, without what would change how programs run."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("POSTHOUSE_", "PYTHON")) and name != "VIRTUAL_ENV"
        }
        return {**kept, "PYTHONPATH": f"{ROOT}/src{os.pathsep}{ROOT}", **variables}

    def _serve(
        self, name: str, argv: list[str], port: int, place: Path, environment: Mapping[str, str] = os.environ
    ) -> None:
        server = self._servers[name] = Child(argv, env=environment, folder=place, listens=False)
        wait_for_port(port, server)

    def _end_children(self, kept: int) -> None:
        for child in reversed(self._children[kept:]):
            child.end()
            self.profiler.detach(child.pid)
            child.kill()
        del self._children[kept:]


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def wait_for_port(port: int, of: Child, seconds: float = 20.0) -> None:
    """Wait until somebody listens.

    Raises:
        RuntimeError: nobody does in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as door:
            if door.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{of.argv[0]} does not listen on port {port}")


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the least, the middle and the most of what was measured."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"min": ordered[0], "median": median, "max": ordered[-1], "runs": len(ordered)}
