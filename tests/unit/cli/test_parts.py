"""The small rules of the command line: waits, sizes, times, addresses."""

from __future__ import annotations

import io
import json
import logging
import os
import sys

import pytest

from posthouse.cli.banner import base_url
from posthouse.cli.children import said
from posthouse.cli.data import shown
from posthouse.cli.logs import ForPeople, ForPrograms
from posthouse.cli.notices import notice
from posthouse.cli.options import Options
from posthouse.cli.output import ago, ahead, fold, listing, moment, plain, size, table
from posthouse.cli.up import LONGEST_WAIT, wait_before


def test_restarts_wait_longer_each_time_up_to_a_limit():
    waits = [wait_before(restart) for restart in range(1, 30)]
    waits_of_who_served = [wait_before(restart, had_served=True) for restart in range(1, 30)]

    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT
    assert waits_of_who_served == [min(wait, 1.0) for wait in waits]


@pytest.mark.parametrize(("as_json", "stream"), [(True, "stdout"), (False, "stderr")])
def test_a_reader_that_goes_away_stops_no_notice(as_json: bool, stream: str, monkeypatch: pytest.MonkeyPatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8", buffering=1) as nobody:
        monkeypatch.setattr(sys, stream, nobody)

        for _ in range(3):
            notice(Options(json=as_json), "prices started", event="started")


def test_data_is_shown_indented_and_cannot_move_the_cursor():
    assert shown('{"a":"\x9b2J"}'.encode()) == '{\n  "a": "\\x9b2J"\n}'
    assert shown(b"no json") == "b'no json'"


class Terminal(io.StringIO):
    """A terminal that keeps what it is shown."""

    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_folds_long_texts_and_no_name(monkeypatch: pytest.MonkeyPatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")

    table(
        ["QUEUE", "STORED#", "CODE", "REASON"],
        [("prices.quote", "1,000", "handler.failed", "it failed " * 10 + "x" * 100)],
    )

    lines = screen.getvalue().splitlines()
    assert lines[0].split() == ["QUEUE", "STORED", "CODE", "REASON"]
    assert lines[1].split()[:3] == ["prices.quote", "1,000", "handler.failed"]
    assert 5 < len(lines) < 15
    assert max(map(len, lines)) < 80
    assert "\x1b" not in screen.getvalue()


def test_a_sentence_is_folded_between_its_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fold("one two three " * 10, before="so far: ")
    in_a_pipe = capsys.readouterr().out
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")

    fold("one two three " * 10, before="so far: ")
    fold("x" * 60, before="an-id-that-is-long: ", below="  ")

    assert len(in_a_pipe.splitlines()) == 1
    first, *rest = screen.getvalue().splitlines()
    assert first == "so far: one two three one two three one"
    assert rest[0] == "        two three one two three one two"
    assert max(map(len, screen.getvalue().splitlines())) <= 44


def test_a_listing_has_its_texts_below_its_cells(capsys: pytest.CaptureFixture[str]):
    listing(["COUNT#", "CODE"], [("1", "a.b"), ("1,000", "a.longer")], ["why \x1b[2J one", "why two"])

    assert capsys.readouterr().out.splitlines() == [
        "COUNT  CODE",
        "    1  a.b",
        "    why \\x1b[2J one",
        "1,000  a.longer",
        "    why two",
    ]


def test_an_instant_is_ahead_or_was():
    assert [ahead(at, 100.0) for at in (None, 0.0, float("inf"), 105.0, 90.0)] == ["-", "-", "-", "in 5 s", "10 s ago"]


@pytest.mark.parametrize(
    ("status", "says"), [(0, "ended"), (3, "ended with exit status 3"), (-9, "was killed by SIGKILL")]
)
def test_an_exit_status_is_said_in_words(status: int, says: str):
    assert said(status) == says


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_address_can_be_typed(bind: str, url: str):
    assert base_url(bind) == url


def test_sizes_and_times_are_short():
    assert [size(count) for count in (0, 1023, 1536, 3 << 20, 5 << 30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]
    assert [ago(at, 1000.0) for at in (None, 990.0, 700.0, 1001.0)] == ["-", "10 s", "5 m", "0 s"]
    assert (moment(0.0), moment(1.0)) == ("-", "1970-01-01 00:00:01Z")


def test_plain_text_stays_and_control_characters_do_not():
    assert plain("tea, für 2 €") == "tea, für 2 €"
    assert plain("a\x1b]0;x\x07") == "a\\x1b]0;x\\x07"


def test_a_log_line_is_a_sentence_or_an_object():
    record = logging.LogRecord("posthouse.host", logging.WARNING, __file__, 1, "lost %d", (3,), None)

    assert ForPeople().format(record).endswith("warning posthouse.host: lost 3")
    entry = json.loads(ForPrograms().format(record))
    assert (entry["level"], entry["message"]) == ("warning", "lost 3")
