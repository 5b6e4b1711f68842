"""The yard of the journaled crash tests: processes of journaled_storm.py, and what their stores hold.

The stores are read in the files, by plain SQL, and never through what is tested. What they hold at the end goes
into the history, which tests/history judges.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from posthouse.message.codec import decode
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import SELF, lane_of
from posthouse.protocol.outbox import CallState
from posthouse.runtime.steps.wire import Outcome, outcome_of
from tests.history import checker
from tests.history.events import Acked, Applied, Effect, Fault, Invoked, Left, Recorder, Told, read
from tests.system.yard import PATIENCE, Yard

STORM = Path(__file__).with_name("programs") / "journaled_storm.py"
ROOT = Path(__file__).parents[2]
QUIET = 30.0
"""So many seconds after the last kill nothing may be left to do."""

TOLD = {
    CallState.DONE: "done",
    CallState.NOT_DONE: "not done",
    CallState.UNKNOWN: "unknown",
    CallState.CONFLICT: "conflict",
}


class JournaledYard(Yard):
    """Processes of journaled services on one data directory.

    Attributes:
        script: the program.
        runs: how many processes were begun.
        replayed: how many requests an operator had to run again.
        recorder: the test's own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.script = STORM
        self.runs = 0
        self.replayed = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self.recorder = Recorder.to_file(self.records, "yard")
        return self

    @property
    def records(self) -> Path:
        """Where the histories are."""
        return self.folder / "records"

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    def program(self, name: str, role: str, run: int = 1, **says: str) -> subprocess.Popen[bytes]:
        """Start a process of the program.

        Args:
            name: of the process.
            role: what it does.
            run: new for each process that asks.
            says: its variables.
        """
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return self._start(name, [str(self.script), role, str(run)], {"PYTHONPATH": path, **says})

    def begin(self, name: str, **says: str) -> subprocess.Popen[bytes]:
        """Start a process of the program; the first word of its name says what it does."""
        self.runs += 1
        return self.program(name, name.partition(" ")[0], self.runs, **says)

    def __exit__(self, *error: Any) -> None:
        """Kill what is left; what pytest shows with a failure is what the processes said last."""
        quiet = ("Traceback", "WentWrong", "  File", "prices.take ", "prices.line ", "shop.buy ", "    ")
        print(*[line for line in self.log() if line and not line.startswith(quiet)][-60:], sep="\n")
        super().__exit__(*error)

    def note_fault(self, fault: Fault) -> None:
        """Put into the history what is about to be done to the processes."""
        self.recorder.note(fault)

    def kill(self, name: str) -> None:
        """SIGKILL a process, and see it gone."""
        self.note_fault(Fault("kill", name))
        super().kill(name)

    @property
    def asked(self) -> int:
        """How many requests of callers were made, and ended for the caller."""
        path = self.records / "asked"
        return path.stat().st_size if path.exists() else 0

    def enough(self) -> None:
        """Let the callers make no new requests, and wait until they have stopped."""
        (self.records / "enough").touch()
        askers = [p for name, p in self.running.items() if name == "shop" or name.startswith(("cust", "guest"))]
        self.wait_for(
            lambda: all((self.records / f"asked-{process.pid}").exists() for process in askers),
            "those who ask have stopped",
            within=60,
        )

    # --- the stores ----------------------------------------------------------------------------------------

    def stores(self) -> list[str]:
        """Return the services that have a store."""
        return sorted(path.stem for path in (self.data / "stores").glob("*.db"))

    @contextmanager
    def store(self, service: str, *, folder: Path | None = None) -> Generator[sqlite3.Connection]:
        """Open a store to read it."""
        path = (folder or self.data) / "stores" / f"{service}.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            yield connection

    def rows(self, service: str, sql: str, *values: Any, folder: Path | None = None) -> list[Any]:
        """Return what a statement finds in a store; nothing when there is no such store yet."""
        if not ((folder or self.data) / "stores" / f"{service}.db").exists():
            return []
        with self.store(service, folder=folder) as connection:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # its tables are being made
                    return []
                raise

    def open_calls(self, service: str) -> int:
        """Return how many calls of a store are not final."""
        return len(self.rows(service, "SELECT 1 FROM posthouse_calls WHERE state < ?", int(CallState.DONE)))

    def held(self, service: str) -> int:
        """Return how many requests a store holds, but for deposits that are decided: those are kept for a day."""
        found = self.rows(service, "SELECT place, state FROM posthouse_requests")
        return sum(lane_of(place) != SELF or state < RequestState.DONE for place, state in found)

    def parked(self, service: str) -> list[str]:
        """Return the ids of the requests that wait for an operator."""
        return [
            id
            for (id,) in self.rows(
                service, "SELECT id FROM posthouse_requests WHERE state = ?", int(RequestState.PARKED)
            )
        ]

    def left(self) -> dict[str, tuple[int, int]]:
        """Return what is left to do in each store: calls that are not final, requests that are held."""
        return {name: (self.open_calls(name), self.held(name)) for name in self.stores()}

    def wait_until_at_rest(self, *, within: float = QUIET) -> float:
        """Wait until nothing is left to do in any store, and return how long that took.

        What is parked is replayed, as an operator would: three kills at one request are rare, and no finding.
        """
        began = time.monotonic()
        self.wait_and_replay(lambda: not any(map(any, self.left().values())), "all is final", within=within)
        return time.monotonic() - began

    def wait_and_replay(self, condition: Callable[[], bool], what: str, *, within: float) -> None:
        """Wait until something is so, and meanwhile replay what is parked; show what is left if it never is."""

        def replayed() -> bool:
            parked = [name for name in self.stores() if self.parked(name)]
            for name in parked:
                self.replay_parked(name)
            return not parked and condition()

        try:
            self.wait_for(replayed, what, within=within)
        except AssertionError:
            self.show_left()
            raise

    def end(self, *, within: float = QUIET) -> checker.Report:
        """Let all come to rest, end all processes, read the stores, and judge the history."""
        self.enough()
        took = self.wait_until_at_rest(within=within)
        for name in list(self.running):
            assert self.stop(name, within=PATIENCE) in {0, -signal.SIGTERM}
        self.read_stores()
        report = checker.check(read(self.records), "exactly_once")
        print(f"{report.counts}, at rest {took:.1f} s after the last request, {self.replayed} replayed by an operator")
        return report

    def show_left(self) -> None:
        """Print some of what is left to do."""
        for name in self.stores():
            for row in self.rows(
                name, "SELECT * FROM posthouse_calls WHERE state < 5 ORDER BY place LIMIT 5"
            ) + self.rows(name, "SELECT * FROM posthouse_requests LIMIT 5"):
                print(name, [each for each in row if not isinstance(each, bytes)])
            for row in self.rows(name, "SELECT * FROM posthouse_lanes_out"):
                print(name, "lane out", row)
            for row in self.rows(name, "SELECT * FROM posthouse_lanes_in"):
                print(name, "lane in", row)
            for what, table in {"feed": "feeds", "stream": "streams", "member": "members"}.items():
                for row in self.rows(name, f"SELECT * FROM posthouse_{table}"):
                    print(name, what, row)

    def replay_parked(self, service: str) -> None:
        """Run again what is parked, by the command that an operator has for that."""
        letters = self.rows(
            service,
            "SELECT max(number) FROM posthouse_dead WHERE id IN (SELECT id FROM posthouse_requests WHERE state = ?)"
            " GROUP BY id",
            int(RequestState.PARKED),
        )
        said = self.posthouse("dead", "replay", *(f"{service}:{number}" for (number,) in letters))
        assert said.splitlines()[-1] == f"{len(letters)} replayed", said
        self.replayed += len(letters)

    def posthouse(self, *arguments: str) -> str:
        """Run a command of posthouse's own on the data directory, and return what it says."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOUSE_")}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "posthouse.cli", *arguments],
            env={**others, "POSTHOUSE_DATA": str(self.data)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    # --- the end -------------------------------------------------------------------------------------------

    def read_stores(self) -> None:
        """Put into the history what the stores hold; nobody runs any more."""
        note = self.recorder.note
        for name in self.stores():
            if self._has(name, "effects"):
                for sequence, op, value, run in self.rows(name, "SELECT sequence, op, value, run FROM effects"):
                    note(Effect(op, name, sequence=sequence, value=value, run=run))
                for op, outcome, value, code in self.rows(name, "SELECT * FROM applied"):
                    note(Applied(op, outcome, value, code))
                for (op,) in self.rows(name, "SELECT op FROM acked"):
                    note(Acked(op))
            self._read_calls(name)
            self._read_deposits(name)
            parked = tuple(sorted(self._parked_ops(name)))
            note(Left(name, open=self.open_calls(name), held=self.held(name), parked=parked))
        self._read_sent()

    def _has(self, name: str, table: str) -> bool:
        return bool(self.rows(name, "SELECT 1 FROM sqlite_schema WHERE name = ?", table))

    def _read_calls(self, name: str) -> None:
        for frame, state, bytes_ in self.rows(name, "SELECT frame, state, outcome FROM posthouse_calls"):
            op = _op_of(frame)
            told = TOLD.get(CallState(state))
            if told is None:
                self.recorder.note(Told(op, "stored"))
                continue
            self._told(op, told, bytes_)

    def _told(self, op: str, told: Any, bytes_: bytes) -> None:
        outcome = outcome_of(bytes_) if bytes_ else Outcome(b"")
        if outcome.refusal is not None:
            self.recorder.note(Told(op, "not done", code=outcome.refusal.code))
        elif told == "done":
            price = msgspec.json.decode(outcome.data)
            self.recorder.note(Told(op, "done", price["value"], echo=price["op"]))
        else:
            self.recorder.note(Told(op, told))

    def _read_deposits(self, name: str) -> None:
        """What became of the requests of callers without a store; their ids are those of the operations."""
        found = self.rows(
            name,
            "SELECT id, outcome FROM posthouse_requests WHERE id LIKE 'guest-%' AND state >= ?",
            int(RequestState.DONE),
        )
        for op, bytes_ in found:
            self._told(op, "done", bytes_)

    def _parked_ops(self, name: str) -> Iterator[str]:
        found = self.rows(name, "SELECT frame FROM posthouse_requests WHERE state = ?", int(RequestState.PARKED))
        return (_op_of(frame) for (frame,) in found)

    def _read_sent(self) -> None:
        """What a handler sends is stored if that run has committed, and only then."""
        stored = {
            op for name in self.stores() if self._has(name, "sent") for (op,) in self.rows(name, "SELECT op FROM sent")
        }
        asked = [record.op for record in read(self.records) if isinstance(record, Invoked) and "/2/" in record.op]
        for op in asked:
            self.recorder.note(Told(op, "stored" if op in stored else "not stored"))


def _op_of(frame: bytes) -> str:
    return msgspec.json.decode(decode(frame).data)["op"]


def storm(
    yard: JournaledYard,
    *,
    names: list[str],
    kills: int,
    requests: int,
    seed: int,
) -> None:
    """Start processes, kill one of them at random moments, and start another in its place at once."""
    rng = random.Random(seed)
    for name in names:
        yard.begin(name)
    while yard.kills.total() < kills or yard.asked < requests:
        further = yard.asked + rng.randint(1, max(2, 2 * requests // kills))
        yard.comes_true(lambda: yard.asked >= further, within=rng.uniform(0.1, 3.0))  # noqa: B023 - asked in this round only
        assert yard.ended() == [], "a process ended by itself"
        if yard.kills.total() < kills:
            victim = rng.choice(names)
            yard.kill(victim)
            yard.begin(victim)
        elif not yard.comes_true(lambda: yard.asked >= requests, within=PATIENCE):
            raise AssertionError("nothing is asked any more")
