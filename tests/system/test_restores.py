"""Stores are backed up at random moments under load and put back: each effect that is missing is made good or listed.

Four services, in processes of their own, on one data directory. A round backs all stores up, lets the work go on, puts
some stores back, lets the work go on again, and judges what the stores hold when all is quiet. Requests and events have
nothing to do with each other, so one round restores a side of each.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from posthouse.message.codec import decode
from posthouse.protocol.outbox import CallState
from tests.system.cli_program import environment
from tests.system.journaled import JournaledYard
from tests.system.yard import PATIENCE, POSTHOUSE

pytestmark = pytest.mark.system

SEED = int(os.environ.get("STORM_SEED", "20271"))
NAMES = ("shop", "prices", "news", "audit")
SIDES = {"caller": ("shop",), "replier": ("prices",), "both": ("shop", "prices")}
EVENT_SIDES = {"publisher": ("news",), "subscriber": ("audit",)}
RECORDS = ("asked", "accepted", "confirmed")
LISTED = (CallState.UNKNOWN, CallState.CONFLICT)


@dataclass
class Round:
    """What a round restores, and what was known when its backup began.

    Attributes:
        restored: the services.
        before: what each record held when the backup began.
        final: the operations whose calls were final then.
        listed: those that were unknown or in conflict then.
        since: what each record got between the beginning of the backup and the last restore.
        orphans: the ids of the requests that the replier held, and the caller did not know, right after a restore.
        epochs: of the lives that the last restore began.
    """

    restored: tuple[str, ...]
    before: dict[str, set[str]]
    final: set[str]
    listed: set[str]
    since: dict[str, set[str]]
    orphans: set[str]
    epochs: dict[str, int]


class RestoreYard(JournaledYard):
    """The four services, and what their restores came to.

    Attributes:
        excused: operations and events that a restore of who made them may have taken back.
        counts: of what was seen.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.script = Path(__file__).with_name("programs") / "restores_storm.py"
        self.rng = random.Random(seed)
        self.excused: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._rounds = 0

    # --- what was noted ------------------------------------------------------------------------------------

    def noted(self) -> dict[str, set[str]]:
        """Return what each record holds."""
        return {name: set(self.names(name)) for name in RECORDS}

    def work_on(self, least: int, most: int) -> None:
        """Wait until some more was accepted, and told."""
        for name in ("accepted", "confirmed"):
            wanted = self.names(name).total() + self.rng.randint(least, most)
            self.wait_for(lambda: self.names(name).total() >= wanted, f"more is {name}", within=30)  # noqa: B023 - asked in this turn only

    # --- a round -------------------------------------------------------------------------------------------

    def go_round(self, restored: tuple[str, ...], *, times: int) -> Round:
        """Back up, restore these services so many times from that backup, and wait until all is quiet."""
        self._rounds += 1
        backup = self.folder / f"backup-{self._rounds}"
        self.work_on(1, 40)
        before, final, listed = self.noted(), self.final(), self.listed()
        since, epochs = before, dict[str, int]()
        self.run("backup", str(backup))
        orphans: set[str] = set()
        for _ in range(times):
            self.work_on(1, 60)
            epochs = self.put_back(backup, restored)
            since = {name: had - before[name] for name, had in self.noted().items()}
            if "shop" in restored:
                kept = orphans if "prices" not in restored else set[str]()  # a restore takes back letters, too
                orphans = kept | (self.held_of_others() - self.known())
            for name in self.rng.sample(restored, len(restored)):
                self.begin(name)
        self.work_on(5, 40)
        self.come_to_rest()
        shutil.rmtree(backup)
        return Round(restored, before, final, listed, since, orphans, epochs)

    def put_back(self, backup: Path, restored: tuple[str, ...]) -> dict[str, int]:
        """End these services one way or the other, and restore them; return the epochs that this begins."""
        for name in self.rng.sample(restored, len(restored)):
            if self.rng.random() < 0.5:
                self.kill(name)
            else:
                assert self.stop(name, within=PATIENCE) in {0, -signal.SIGTERM}
        told = self.run("restore", str(backup), *restored, "--replace", "--json")
        return {each["service"]: each["epoch"] for each in map(json.loads, told.splitlines())}

    def run(self, *arguments: str) -> str:
        """Run a command of posthouse's own that must succeed; return what it says on stdout."""
        done = self.command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of posthouse's own on the data directory."""
        return subprocess.run(
            [sys.executable, *POSTHOUSE, *arguments],
            env={**environment(), "POSTHOUSE_DATA": str(self.data)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def come_to_rest(self) -> None:
        """Let nobody ask or publish any more, and wait until nothing is left to do."""
        (self.records / "pause").write_text(str(self._rounds))
        held = [f"paused-{self.running[name].pid}-{self._rounds}" for name in ("shop", "news")]
        self.wait_for(lambda: all((self.records / name).exists() for name in held), "nobody asks", within=30)
        try:
            self.wait_for(lambda: self.all_know() and self.all_heard(), "each knows the other's life", within=30)
            self.wait_until_at_rest()
        except AssertionError:
            self.show_left()
            raise

    def resume(self) -> None:
        """Let all go on asking and publishing."""
        (self.records / "pause").unlink(missing_ok=True)

    def all_know(self) -> bool:
        """Say whether the caller has heard in which life its replier is."""
        [[epoch]] = self.rows("prices", "SELECT epoch FROM posthouse_store")
        lanes = self.rows("shop", "SELECT peer_epoch FROM posthouse_lanes_out WHERE peer_store <> ''")
        return bool(lanes) and {heard for (heard,) in lanes} == {epoch}

    def all_heard(self) -> bool:
        """Say whether the subscriber is done with all streams of its publisher."""
        streams = dict(self.rows("news", "SELECT epoch, next FROM posthouse_streams"))
        feeds = self.rows("audit", "SELECT publisher_epoch, floor, head FROM posthouse_feeds")
        done = {epoch: floor for epoch, floor, head in feeds if floor == head}
        return bool(streams) and all(done.get(epoch, -1) >= next for epoch, next in streams.items())

    # --- what the stores hold ------------------------------------------------------------------------------

    def calls(self) -> dict[str, CallState]:
        """Return the state of each operation that the caller knows."""
        return {
            op_of(frame): CallState(state)
            for frame, state in self.rows("shop", "SELECT frame, state FROM posthouse_calls")
        }

    def final(self) -> set[str]:
        """Return the operations that the caller knows the end of."""
        return {op for op, state in self.calls().items() if state.final}

    def listed(self) -> set[str]:
        """Return the operations that are unknown or in conflict."""
        return {op for op, state in self.calls().items() if state in LISTED}

    def known(self) -> set[str]:
        """Return the ids of the requests that the caller knows."""
        return {id for (id,) in self.rows("shop", "SELECT id FROM posthouse_calls")}

    def held_of_others(self) -> set[str]:
        """Return the ids of the requests that the replier holds."""
        return {
            id for (id,) in self.rows("prices", "SELECT id FROM posthouse_requests WHERE operation = 'prices.take'")
        }

    def letters(self, service: str, cause: str) -> list[str]:
        """Return the ids of the dead letters of a cause."""
        return [id for (id,) in self.rows(service, "SELECT id FROM posthouse_dead WHERE cause = ?", cause)]

    def ops(self, service: str, table: str) -> Counter[str]:
        """Return how often each operation or event stands in a service's own table."""
        return Counter(op for (op,) in self.rows(service, f"SELECT op FROM {table}"))


def op_of(frame: bytes) -> str:
    return msgspec.json.decode(decode(frame).data)["op"]


# --- the judge --------------------------------------------------------------------------------------------


def judge_requests(yard: RestoreYard, round: Round) -> None:
    calls, effects, applied = yard.calls(), yard.ops("prices", "effects"), yard.ops("shop", "applied")
    of = {state: {op for op, its in calls.items() if its is state} for state in CallState}
    new = yard.listed() - round.listed

    assert twice(effects) == set()
    assert twice(applied) == set()
    assert of[CallState.DONE] - effects.keys() == set(), "done, and without effect"
    assert (of[CallState.NOT_DONE] | of[CallState.CONFLICT]) & effects.keys() == set(), "not done, and with effect"
    assert {op for op in calls if op.startswith("send")} - applied.keys() - of[CallState.UNKNOWN] == set()
    assert yard.noted()["accepted"] - calls.keys() - yard.excused == set(), "accepted, and forgotten"
    assert new & round.final == set(), "it was final before the backup, and is listed"
    assert new <= yard.noted()["asked"]
    assert yard.letters("shop", "call.not_redriven") == []
    if "shop" not in round.restored and "prices" not in round.restored:
        assert new == set()
    assert round.orphans - set(yard.letters("prices", "request.orphaned")) == set(), (
        "its caller forgot it, and nobody is told"
    )
    yard.counts.update(
        {
            "effects": len(effects) - yard.counts["effects"],
            "listed": len(new),
            "orphans at restores": len(round.orphans),
            "in flight": len((round.before["asked"] | round.since["asked"]) - round.final),
        }
    )


def judge_events(yard: RestoreYard, round: Round) -> None:
    heard, confirmed = yard.ops("audit", "heard"), yard.noted()["confirmed"]

    assert twice(heard) == set()
    assert confirmed - heard.keys() - yard.excused == set(), "confirmed, and not heard"
    if "news" in round.restored:
        [[store]] = yard.rows("news", "SELECT id FROM posthouse_store")
        told = yard.letters("audit", "event.lost")
        assert f"news.told {store[:8]}/{round.epochs['news']}" in told, "nobody is told of the new life"
    yard.counts["heard"] = len(heard)


def judge_list(yard: RestoreYard) -> None:
    """See that `posthouse restores` lists what the stores hold, and nothing else."""
    calls = Counter(yard.calls().values())
    wanted: dict[tuple[str, str], int] = {
        ("shop", "unknown"): calls[CallState.UNKNOWN],
        ("shop", "conflict"): calls[CallState.CONFLICT],
        ("prices", "orphan"): len(yard.letters("prices", "request.orphaned")),
        ("audit", "events lost"): len(yard.letters("audit", "event.lost")),
    }
    wanted = {each: count for each, count in wanted.items() if count}
    said = yard.command("restores", "--json")
    told: Counter[tuple[str, str]] = Counter()
    for row in map(json.loads, said.stdout.splitlines()):
        told.update({(row["service"], each["kind"]): each["count"] for each in row["found"]})

    assert told == wanted
    assert said.returncode == bool(wanted)
    for kind, count in wanted.items():
        yard.counts[kind[1]] = count


def judge(yard: RestoreYard, round: Round) -> None:
    """Judge all of a round, at rest."""
    if "shop" in round.restored:
        yard.excused |= round.since["asked"]
    if "news" in round.restored:
        yard.excused |= round.since["confirmed"]
    judge_requests(yard, round)
    judge_events(yard, round)
    judge_list(yard)


def twice(counted: Counter[str]) -> set[str]:
    return {op for op, count in counted.items() if count > 1}


@pytest.mark.parametrize(
    ("rounds", "seed"), [(6, SEED), *(pytest.param(30, SEED + n, marks=pytest.mark.slow) for n in range(1, 11))]
)
def test_what_a_restore_takes_back_is_made_good_or_listed(rounds: int, seed: int) -> None:
    with RestoreYard(seed) as yard:
        kinds = [[*SIDES][turn % 3] for turn in range(rounds)]
        event_kinds = [[*EVENT_SIDES][turn % 2] for turn in range(rounds)]
        yard.rng.shuffle(kinds)
        yard.rng.shuffle(event_kinds)
        for name in NAMES:
            yard.begin(name)

        for kind, event_kind in zip(kinds, event_kinds, strict=True):
            times = yard.rng.choice([1, 1, 2])
            yard.counts.update([kind, event_kind] * times)
            print(f"seed {seed}: {kind}, {event_kind}, {times} times")
            round = yard.go_round((*SIDES[kind], *EVENT_SIDES[event_kind]), times=times)
            judge(yard, round)
            yard.resume()

        print(f"seed {seed}: {dict(yard.counts)}")
