"""What is shown of long work: a line that is written over on a terminal, and nothing anywhere else."""

from __future__ import annotations

import io
import sys

import pytest

from posthouse.cli.progress import Progress


class Screen(io.StringIO):
    """A stderr that may be a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, kind: str = "xterm") -> str:
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", kind)
    with Progress("copying") as progress:
        progress("bank", 1 << 20, 4 << 20)
    return screen.getvalue()


def test_on_a_terminal_it_is_shown_how_far_it_is_and_taken_away_in_the_end(monkeypatch: pytest.MonkeyPatch):
    text = shown(monkeypatch, terminal=True)

    assert text.count("copying bank: 1.0 MiB of 4.0 MiB") == 1
    assert text.endswith("\r\x1b[K")


@pytest.mark.parametrize(("terminal", "kind"), [(False, "xterm"), (True, "dumb")])
def test_in_a_pipe_and_on_a_dumb_terminal_nothing_is_shown(monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: str):
    assert shown(monkeypatch, terminal=terminal, kind=kind) == ""
