"""The benchmarks are no test; but what they measure must be what they say."""

from __future__ import annotations

import json

import msgspec
import pytest

from benchmarks import quiet, run, talk
from benchmarks.bench import Job, Results
from benchmarks.ours import orders
from benchmarks.tables import json_of, text_of


def test_the_typed_order_is_the_one_that_the_peers_send():
    plain = json.dumps(talk.order(12345), separators=(",", ":")).encode()

    typed = msgspec.json.encode(orders.order(12345))

    assert typed == plain
    assert len(plain) == 297


@pytest.mark.parametrize("job", run.JOBS.values(), ids=lambda job: job.name)
def test_every_aim_names_participants_and_measures_that_there_are(job: Job):
    names = {participant.name for participant in job.participants}
    measures = {measure.key for measure in job.measures}

    for target in job.targets:
        assert {target.who, target.peer or target.who} <= names
        assert {target.measure, target.peer_measure or target.measure} <= measures


def test_a_table_says_whether_an_aim_was_reached():
    job = run.JOBS["j6"]
    fast, heavy = {"start": 0.1, "resident": 90.0 * 2**20}, {"import": 0.05, "import_cpu": 0.04}
    results = Results(job, {job.targets[0].who: [fast], job.targets[2].who: [heavy]})

    text = text_of(results)

    reached = [row.rsplit("|", 2)[1].strip() for row in text.splitlines() if "at most" in row]
    assert reached == ["yes", "NO", "yes"]
    assert [target["reached"] for target in json_of([results])["jobs"]["j6"]["targets"]] == [True, False, True]


def test_a_disturbed_run_is_made_again_and_the_last_one_is_marked(monkeypatch: pytest.MonkeyPatch):
    guard = quiet.Guard(patience=0, tries=3)
    busy: set[str] = guard._busy
    runs: list[int] = []

    def disturbed_twice() -> int:
        runs.append(len(runs))
        if len(runs) < 3:
            busy.add("somebody")
        return len(runs)

    assert guard.measure(disturbed_twice) == (3, False)
    assert guard.measure(lambda: busy.add("somebody")) == (None, True)


def test_only_a_process_outside_of_ours_disturbs():
    me = quiet.os.getpid()
    before = {
        me: quiet._Process(1, 0.0, "bench"),
        5: quiet._Process(me, 0.0, "child"),
        7: quiet._Process(1, 0.0, "other"),
    }
    after = {pid: process._replace(used=1.0) for pid, process in before.items()}

    assert quiet._strangers(before, after, seconds=1.0) == {"other"}
    assert quiet._strangers(before, after, seconds=10.0) == set()
