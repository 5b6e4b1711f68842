"""What the command line makes of its arguments and of errors: a sentence, a code, an exit status."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from posthouse import errors
from posthouse.cli import exits, main
from posthouse.cli.complain import true_now


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _always(command: click.Command) -> Callable[..., click.Command]:
    def get(*_: object) -> click.Command:
        return command

    return get


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], list[str]]:
    """Put a command in place that raises."""

    def put(error: BaseException) -> list[str]:
        @click.command()
        @click.option("--json", "_json", is_flag=True)
        @click.option("--debug", is_flag=True)
        def command(_json: bool, debug: bool) -> None:
            raise error

        monkeypatch.setattr(main.Commands, "get_command", _always(command))
        return ["run"]

    return put


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.QueueFullError("prices.quote", 5), exits.REFUSED),
        (errors.Reject("no"), exits.REFUSED),
        (errors.FailedError("no"), exits.REFUSED),
        (errors.UnknownServiceError("no"), exits.REFUSED),
        (errors.InvalidDataError("no"), exits.REFUSED),
        (errors.UnavailableError("no"), exits.UNREACHABLE),
        (errors.DiskFullError("no"), exits.UNREACHABLE),
        (errors.StorageError("no"), exits.UNREACHABLE),
        (errors.NotServedError("no"), exits.UNREACHABLE),
        (errors.OutcomeUnknownError("no"), exits.UNREACHABLE),
        (errors.PendingError("no"), exits.UNREACHABLE),
        (errors.ConfigError("no"), exits.USAGE),
        (errors.AddressInUseError("no"), exits.USAGE),
        (errors.ApplicationError("no"), exits.USAGE),
        (errors.UsageError("no"), exits.USAGE),
        (errors.LeaseLostError("no"), exits.FINDING),
        (ValueError("a fault"), exits.FINDING),
        (KeyboardInterrupt(), main.INTERRUPTED),
    ],
)
def test_each_kind_of_error_has_its_exit_status(
    failing: Callable[[BaseException], list[str]],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
):
    command = failing(error)

    assert main.perform(command) == status
    assert "Traceback" not in capsys.readouterr().err


def test_what_the_system_refuses_is_no_fault_of_posthouse(
    failing: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
):
    status = main.perform(failing(OSError(errno.ENOSPC, "No space left on device")))

    assert status == exits.UNREACHABLE
    assert capsys.readouterr().err.splitlines() == [
        "error system: No space left on device",
        "  do:   Make room where the output goes, and run it again.",
    ]


def test_an_error_says_its_code_what_is_true_now_and_what_to_do(
    failing: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
):
    main.perform(failing(errors.QueueFullError("prices.quote", 5)))

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error queue.full: queue 'prices.quote' is at its capacity of 5 messages",
        f"  now:  {true_now(errors.QueueFullError)}",
        f"  do:   {errors.QueueFullError.hint}",
        "  more: posthouse explain queue.full",
    ]


def test_with_json_an_error_is_one_object_on_stderr(
    failing: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
):
    main.perform([*failing(errors.Reject("card refused", code="card.refused", reason="stolen")), "--json"])

    out, err = capsys.readouterr()
    assert out == ""
    told = json.loads(err)
    assert (told["code"], told["error"], told["details"]) == ("card.refused", "card refused", {"reason": "stolen"})


def test_the_code_of_a_users_own_reject_is_not_offered_for_explanation(
    failing: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
):
    main.perform(failing(errors.Reject("no", code="card.refused")))

    assert "posthouse explain" not in capsys.readouterr().err


def test_the_cause_is_told_when_the_text_does_not_say_it(
    failing: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
):
    error = errors.UnavailableError("the file cannot be written")
    error.__cause__ = OSError("read-only file system")

    main.perform(failing(error))

    assert "  why:  read-only file system" in capsys.readouterr().err


def test_control_characters_of_others_are_made_visible(
    failing: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
):
    main.perform(failing(errors.Reject("bad \x1b[2J\x07 text")))

    assert "bad \\x1b[2J\\x07 text" in capsys.readouterr().err


def test_debug_shows_where_an_error_came_from(
    failing: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
):
    main.perform([*failing(errors.ConfigError("no")), "--debug"])

    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["expain"], "did you mean 'explain'"),
        (["explain", "queue.ful"], "did you mean 'queue.full'"),
        (["explain", "--nope"], "--nope"),
        (["run"], "APP"),
        (["call"], "OPERATION"),
        (["call", "prices.quote", "{no json"], "not JSON"),
        (["call", "prices.quote", "@missing.json"], "cannot be read"),
        (["call", "prices.quote", "{}", "--timeout", "soon"], "--timeout"),
        (["call", "prices.quote", "{}", "--timeout", "-1"], "--timeout"),
        (["call", "no name", "{}"], "is not a name"),
        (["send", "prices", "{}"], "is not a name"),
        (["publish", "../x", "{}"], "is not a name"),
        (["queues", "--transport", "box"], "is not a URL"),
        (["queues", "--transport", "sqlite:"], "names no directory"),
        (["queues", "--transport", ""], "is not a URL"),
        (["queues", "--data", ""], "an empty name"),
        (["queues", "--transport", "memory:"], "lives inside one process"),
        (["call", "prices.quote", "[" * 100_000], "nested too deep"),
        (["queues", "--env", "production"], "production"),
        (["queues", "--config", "missing.toml"], "missing.toml cannot be read"),
        (["check", "missing.py"], "there is no file missing.py"),
        (["up", "app.py", "--instances", "prices"], "SERVICE=N"),
        (["up", "app.py", "--instances", "prices=0"], "SERVICE=N"),
        (["dead", "replay"], "say which"),
        (["dead", "drop", "x", "--queue", "y"], "say which"),
        (["dead", "replay", "x", "--cause", "y"], "say which"),
        (["messages", "ls", "--state", "opne"], "did you mean 'open'"),
        (["lanes", "retire", "shop-"], "Quote it"),
        (["lanes", "map", "shop->", "x"], "is not a lane"),
        (["lanes", "retire", "shop->../x"], "is not a name"),
    ],
)
def test_a_wrong_command_line_is_status_2_with_a_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
):
    status = main.perform(arguments)

    out, err = capsys.readouterr()
    assert status == exits.USAGE
    assert says in err
    assert (out, "Traceback" in err) == ("", False)


@pytest.mark.parametrize(
    "command",
    [
        ["queues"],
        ["services"],
        ["dead", "ls"],
        ["messages", "ls"],
        ["messages", "why", "x"],
        ["outbox"],
        ["inbox"],
        ["lanes", "ls"],
        ["lanes", "retire", "shop->prices", "--yes"],
        ["call", "prices.quote", "{}"],
    ],
)
def test_a_command_that_looks_makes_no_data_directory(
    here: Path, command: list[str], capsys: pytest.CaptureFixture[str]
):
    status = main.perform(command)

    assert status == exits.UNREACHABLE
    assert "there is no data directory" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.fixture
def locked(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that may not be looked into; root may look into all, so the kernel's answer is played."""
    folder = here / "locked"
    stat = os.stat

    def refusing(path: Any, *more: Any, **named: Any) -> os.stat_result:
        if str(path).startswith(f"{folder}/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *more, **named)

    monkeypatch.setattr(os, "stat", refusing)
    return folder


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [
        (["services"], "storage.unusable", exits.UNREACHABLE),
        (["dead", "ls"], "storage.unusable", exits.UNREACHABLE),
        (["doctor"], "storage.unusable", exits.UNREACHABLE),
    ],
)
def test_a_directory_that_may_not_be_looked_into_is_told(
    locked: Path, command: list[str], code: str, status: int, capsys: pytest.CaptureFixture[str]
):
    assert main.perform([*command, "--data", str(locked / "data")]) == status

    out, err = capsys.readouterr()
    assert f"{locked / 'data'} cannot be looked into: Permission denied" in out + err
    assert code in out + err
    assert "a fault in posthouse" not in out + err


def test_a_program_or_a_configuration_that_may_not_be_read_is_told(
    locked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert main.perform(["check", str(locked / "app.py")]) == exits.USAGE
    assert "app.py cannot be read: Permission denied" in capsys.readouterr().err

    locked.mkdir()
    monkeypatch.chdir(locked)
    assert main.perform(["services"]) == exits.USAGE
    assert "posthouse.toml cannot be looked for: Permission denied" in capsys.readouterr().err


def test_a_working_directory_that_is_gone_is_told(here: Path, capsys: pytest.CaptureFixture[str]):
    here.rmdir()

    assert main.perform(["services"]) == exits.USAGE
    assert "the working directory is gone" in capsys.readouterr().err


def test_every_code_is_explained(capsys: pytest.CaptureFixture[str]):
    for kind in errors.every_error():
        assert main.perform(["explain", kind.code]) == exits.FINE
        assert true_now(kind) in capsys.readouterr().out


def test_the_list_of_codes_is_one_object_a_line_with_json(capsys: pytest.CaptureFixture[str]):
    assert main.perform(["explain", "--json"]) == exits.FINE

    codes = [json.loads(line)["code"] for line in capsys.readouterr().out.splitlines()]
    assert codes == list(dict.fromkeys(kind.code for kind in errors.every_error()))


def test_every_command_takes_the_common_options_and_has_help(capsys: pytest.CaptureFixture[str]):
    commands: list[list[str]] = []
    for name in main.COMMANDS:
        command = main.cli.get_command(click.Context(main.cli), name)
        within = [*command.commands] if isinstance(command, click.Group) else [""]
        commands += [[name, each] if each else [name] for each in within]

    for command in commands:
        assert main.perform([*command, "--help"]) == exits.FINE
        help_text = capsys.readouterr().out
        for option in ("--json", "--data", "--transport", "--config"):
            assert option in help_text, f"{command} has no {option}"


def test_a_reader_that_has_seen_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "posthouse.cli", "explain"], stdout=nobody, stderr=subprocess.PIPE, check=False
        )

    assert (done.returncode, done.stderr) == (exits.FINE, b"")


def test_help_imports_no_engine_no_http_and_no_table():
    code = (
        "import sys; from posthouse.cli.main import perform; perform(['--help']);"
        "print([name for name in ('apsw', 'rich', 'starlette', 'uvicorn', 'asyncio') if name in sys.modules])"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out.splitlines()[-1] == "[]"
