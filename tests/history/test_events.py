"""What was noted is there after a SIGKILL, and what is torn is never taken for something else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from posthouse.errors import (
    DiskFullError,
    ExpiredError,
    OutcomeUnknownError,
    PendingError,
    PosthouseError,
    Reject,
    UsageError,
)
from tests.history.events import (
    SUFFIX,
    Acked,
    Applied,
    Began,
    Effect,
    Ended,
    Fault,
    Invoked,
    Left,
    Record,
    Recorder,
    Told,
    TornHistoryError,
    read,
    refused,
)

ALL: list[Record] = [
    Invoked("1", "shop", "prices", "tea", applies=True),
    Told("1", "done", "9.5\n\u2028", echo="1"),
    Applied("1", "not done", code="rejected"),
    Began("1", "prices", "run 1", attempt=2),
    Ended("1", "run 1", "returned"),
    Effect("1", "prices", 3, "9.5", "run 1"),
    Acked("1"),
    Fault("restore", "shop", backup_at=1.5),
    Left("prices", held=1, open=2, parked=("1",)),
]

NOTES_FOR_EVER = """
import sys
from pathlib import Path
from tests.history.events import Invoked, Recorder

recorder = Recorder.to_file(Path(sys.argv[1]), "client")
for number in range(10**9):
    recorder.note(Invoked(str(number), "shop", "prices", key="x" * (number % 9000)))
    if number % 100 == 0:
        print(number, flush=True)
"""


def test_every_record_is_read_as_it_was_noted(tmp_path: Path) -> None:
    recorder = Recorder.to_file(tmp_path, "client")

    for record in ALL:
        recorder.note(record)

    assert list(read(tmp_path)) == ALL
    assert all(record.by == recorder.by and record.at > 0 for record in ALL)


def test_each_recorder_has_a_file_of_its_own(tmp_path: Path) -> None:
    for number in range(3):
        Recorder.to_file(tmp_path, "client").note(Acked(str(number)))

    assert len(list(tmp_path.iterdir())) == 3
    assert {record.by for record in read(tmp_path)} == {path.name.removesuffix(SUFFIX) for path in tmp_path.iterdir()}


@pytest.mark.system
def test_after_a_sigkill_all_that_was_noted_is_there(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", NOTES_FOR_EVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    with process, process.stdout as told:
        certain = [int(told.readline()) for _ in range(20)][-1]
        process.send_signal(signal.SIGKILL)

    numbers = [int(record.op) for record in read(tmp_path) if isinstance(record, Invoked)]

    assert numbers == list(range(len(numbers)))
    assert len(numbers) > certain


@pytest.mark.parametrize("length", range(1, 40))
def test_a_torn_last_line_is_left_out(tmp_path: Path, length: int) -> None:
    recorder = Recorder.to_file(tmp_path, "client")
    for record in ALL:
        recorder.note(record)
    [path] = tmp_path.iterdir()

    path.write_bytes(path.read_bytes()[:-length])

    assert list(read(tmp_path)) == ALL[:-1]


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"type":"Acked"}\n', b'{"type":"Acked","op":"1","extra":1}\n'])
def test_a_whole_line_that_is_no_record_is_an_error_and_says_where(tmp_path: Path, line: bytes) -> None:
    recorder = Recorder.to_file(tmp_path, "client")
    recorder.note(Acked("1"))
    [path] = tmp_path.iterdir()

    path.write_bytes(path.read_bytes() + line)

    with pytest.raises(TornHistoryError, match=rf"{path.name}, line 2: "):
        list(read(tmp_path))


def test_times_of_one_recorder_follow_the_order_of_its_notes_even_if_its_clock_stands_still() -> None:
    records: list[Record] = []
    recorder = Recorder("test", records.append, now=lambda: 7.0)

    for _ in range(3):
        recorder.note(Acked("1"))

    assert 7.0 == records[0].at < records[1].at < records[2].at < 7.0001


def test_a_record_that_names_who_saw_it_keeps_the_name() -> None:
    records: list[Record] = []

    Recorder("test", records.append).note(Told("1", "done", by="client 2"))

    assert records[0].by == "client 2"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Reject("sold out", code="sold_out"), Told("1", "not done", code="sold_out")),
        (ExpiredError(), Told("1", "not done", code="deadline.expired")),
        (PendingError(), Told("1", "pending", code="call.pending")),
        (OutcomeUnknownError(), Told("1", "unknown", code="outcome.unknown")),
        (DiskFullError(), Told("1", "not stored", code="disk.full")),
    ],
)
def test_an_error_says_what_its_caller_was_told(error: PosthouseError, told: Told) -> None:
    assert refused("1", error) == told


def test_an_error_that_tells_nothing_of_the_outcome_is_not_noted() -> None:
    with pytest.raises(UsageError):
        refused("1", UsageError("wrong"))
