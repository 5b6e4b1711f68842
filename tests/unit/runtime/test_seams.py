"""The seams: the same seed gives the same trace of two services, everywhere; and a slip is seen."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from posthouse.clock import SystemClock
from posthouse.runtime import ending
from posthouse.runtime.journal import ending as journal_ending
from posthouse.runtime.seams import Seams, random_ids, seeded_seams, spawn, system_seams
from posthouse.testing.clock import ManualClock
from tests.simulation import trace_of, world

ROOT = Path(__file__).parents[3]


modes = pytest.mark.parametrize("mode", ["queued", "journaled"])


@modes
def test_the_same_seed_gives_the_same_trace(mode: str):
    first, second = trace_of(7, mode=mode), trace_of(7, mode=mode)

    assert first.lines == second.lines
    assert first.digest == second.digest


@modes
def test_another_seed_gives_another_trace(mode: str):
    assert len({trace_of(seed, mode=mode).digest for seed in range(1, 6)}) == 5


def test_the_trace_shows_all_that_can_happen_to_what_is_queued():
    text = "\n".join("\n".join(trace_of(seed, mode="queued").lines) for seed in range(1, 4))

    for part in ("sends prices.quote", "tells", "receives", "runs pack", "Released", "Rejected", "Accepted"):
        assert part in text
    assert "timed out after 3 s" in text
    assert "answer" in text


def test_the_trace_shows_all_that_can_happen_to_what_is_journaled():
    text = "\n".join("\n".join(trace_of(seed).lines) for seed in range(1, 4))

    for part in ("REQUEST prices.quote", "REPLY prices.quote", "ACK prices", "CONTROL pending", "runs pack", "answer"):
        assert part in text
    assert "'prices.quote': {'done'" not in text  # acked, and forgotten
    assert "'open'" not in text


@modes
def test_the_trace_is_the_same_in_another_process(mode: str):
    """Where sets and the hashes of strings have another order."""
    digests = {trace_of(3, mode=mode).digest}
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "3", mode],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        digests.add(ran.stdout.strip())

    assert len(digests) == 1


# --- a slip is seen -----------------------------------------------------------------------------------


def with_own_ids(seed: int) -> Seams:
    return dataclasses.replace(world(seed), new_id=random_ids())


def with_own_chance(seed: int) -> Seams:
    return dataclasses.replace(world(seed), rng=random.Random())


def with_own_clock(seed: int) -> Seams:
    return dataclasses.replace(world(seed), clock=SystemClock())


@modes
@pytest.mark.parametrize("seams", [with_own_ids, with_own_chance, with_own_clock])
def test_who_makes_his_own_ids_throws_his_own_dice_or_has_his_own_clock_is_seen(seams: Any, mode: str):
    assert trace_of(7, mode=mode, seams=seams).digest != trace_of(7, mode=mode, seams=seams).digest


@pytest.mark.parametrize(("mode", "module"), [("queued", ending), ("journaled", journal_ending)])
def test_a_backoff_of_its_own_chance_is_seen(monkeypatch: pytest.MonkeyPatch, mode: str, module: Any):
    settle = module.settle

    def by_chance(*end: Any, **how: Any) -> Any:
        return settle(*end, **{**how, "rng": random.SystemRandom()})

    monkeypatch.setattr(module, "settle", by_chance)

    assert trace_of(7, mode=mode).digest != trace_of(7, mode=mode).digest


# --- the seams themselves -----------------------------------------------------------------------------


def test_ids_are_128_bits_in_hex_and_never_the_same():
    new_id = random_ids()
    ids = {new_id() for _ in range(5000)}

    assert len(ids) == 5000
    assert all(len(id) == 32 and int(id, 16) >= 0 for id in ids)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_hands_out_other_ids_than_its_parent():
    program = (
        "import os\n"
        "from posthouse.runtime.seams import random_ids\n"
        "new_id = random_ids()\n"
        "new_id()\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.write(writer, ''.join(new_id() for _ in range(300)).encode())\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "os.close(writer)\n"
        "child = b''.join(iter(lambda: os.read(reader, 65536), b'')).decode()\n"
        "ours = {new_id() for _ in range(300)}\n"
        "theirs = {child[i : i + 32] for i in range(0, len(child), 32)}\n"
        "print(len(ours), len(theirs), len(ours & theirs))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)

    assert ran.stdout.split() == ["300", "300", "0"]


def test_the_seeded_world_is_the_same_for_the_same_seed():
    one, other = (seeded_seams(5, clock=ManualClock()) for _ in range(2))

    assert [one.new_id() for _ in range(3)] == [other.new_id() for _ in range(3)]
    assert one.rng.random() == other.rng.random()
    assert len(one.new_id()) == 32


def test_the_real_world_is_the_systems():
    seams = system_seams()

    assert isinstance(seams.clock, SystemClock)
    assert seams.spawn is spawn
