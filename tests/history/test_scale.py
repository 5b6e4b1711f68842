"""A long history: what is wrong in it is found, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.history.checker import check
from tests.history.events import Acked, Applied, Began, Effect, Ended, Invoked, Left, Recorder, Told, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.history.events import Record


def life(number: int) -> Iterator[Record]:
    """Yield what is seen of one operation when nothing goes wrong: a send on one of a thousand keys."""
    op, run, value = f"op-{number}", f"run-{number}", f"value-{number}"
    yield Invoked(op, "shop", "prices", key=f"key-{number % 1000}", applies=True)
    yield Told(op, "stored")
    yield Began(op, "prices", run)
    yield Ended(op, run, "returned")
    yield Effect(op, "prices", number, value, run)
    yield Acked(op)
    yield Applied(op, "done", value)


def planted(number: int, records: list[Record]) -> None:
    """Plant a lost, a double and an overtaken effect."""
    if number == 5000:
        records[:] = [each for each in records if not isinstance(each, (Effect, Acked, Applied))]
    elif number == 6000:
        records.append(Effect(f"op-{number}", "prices", 10**7, f"value-{number}"))
    elif number == 7000:
        records[:] = [each for each in records if not isinstance(each, Effect)]
        records.append(Effect(f"op-{number}", "prices", -1, f"value-{number}"))


def write(operations: int, note: Callable[[Record], object]) -> None:
    for number in range(operations):
        records = list(life(number))
        planted(number, records)
        for record in records:
            note(record)
    for store in "shop", "prices":
        note(Left(store))


FOUND = [("L1", "op-5000"), ("S1", "op-6000"), ("S8", "op-7000")]


def test_three_faults_in_a_long_history_are_found(tmp_path: Path) -> None:
    write(10_000, Recorder.to_file(tmp_path, "all").note)

    report = check(read(tmp_path), "exactly_once")

    assert [(finding.rule, finding.op) for finding in report.findings] == FOUND
    assert (report.counts.operations, report.counts.effects, report.counts.runs) == (10_000, 10_000, 10_000)


@pytest.mark.slow
def test_three_faults_among_a_million_operations_are_found(tmp_path: Path) -> None:
    write(1_000_000, Recorder.to_file(tmp_path, "all").note)

    report = check(read(tmp_path), "exactly_once")

    assert [(finding.rule, finding.op) for finding in report.findings] == FOUND
    assert report.counts.operations == 1_000_000
