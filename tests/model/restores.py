"""More worlds with restores: two of one side, calls that nobody can ask for again, and replies that are taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.model.config import Config

_A_TWICE: Final = Config("", calls=1, caller_restored=True, caller_restores=2)
_B_TWICE: Final = Config("", calls=1, replier_restored=True, replier_restores=2)
_HEARS: Final = Config("", places=1, calls=1, reply_runs=True, refuse=True, replier_restored=True)

CORRECT: Final = (
    replace(_A_TWICE, name="1-caller-restored-twice", refuse=True),
    replace(_A_TWICE, name="1-number-later-caller-restored-twice", numbering="later"),
    replace(_B_TWICE, name="1-replier-restored-twice", refuse=True, park=True, cancel=True),
    Config("2-replier-restored-forgets", replier_restored=True, forgets=True),
    Config("1-replier-restored-forgets-cancel", calls=1, replier_restored=True, forgets=True, cancel=True, refuse=True),
    replace(_HEARS, name="reply-run-replier-restored"),
    replace(_HEARS, name="reply-run-replier-restored-twice", replier_restores=2),
    replace(_HEARS, name="reply-run-caller-restored", calls=2, replier_restored=False, caller_restored=True),
)

LARGE: Final = (
    replace(_A_TWICE, name="2-caller-restored-twice", calls=2),
    replace(_A_TWICE, name="1-caller-restored-twice-and-replier", replier_restored=True, refuse=True),
    replace(_A_TWICE, name="handler-1-call-caller-restored-twice", calls=3, places=1, refuse=True),
    replace(_B_TWICE, name="2-replier-restored-twice", calls=2),
    replace(_HEARS, name="reply-run-both-restored", calls=2, caller_restored=True),
    Config("1-both-restored-forgets", calls=1, replier_restored=True, caller_restored=True, forgets=True, refuse=True),
)

_UNSAFE: Final = Config("", expect=("safety",), sound_pruning=False)
_STUCK: Final = Config("", expect=("liveness",), sound_pruning=False)

BROKEN: Final = (
    replace(
        _UNSAFE, name="x-caller-epoch-given-twice", caller_restored=True, caller_restores=2, epochs_are_fresh=False
    ),
    replace(
        _UNSAFE,
        name="x-replier-epoch-given-twice",
        calls=1,
        refuse=True,
        replier_restored=True,
        replier_restores=2,
        epochs_are_fresh=False,
    ),
    replace(_UNSAFE, name="x-forgotten-not-listed", replier_restored=True, forgets=True, forgotten_is_listed=False),
    replace(
        _STUCK,
        name="x-ack-leaves-undecided",
        calls=1,
        replier_restored=True,
        cancel=True,
        ack_ends_undecided=False,
    ),
    replace(_STUCK, name="x-unknown-lane-not-closed", calls=1, caller_restored=True, closes_unknown_lanes=False),
    replace(
        _STUCK,
        name="x-reply-run-not-withdrawn",
        places=1,
        calls=1,
        reply_runs=True,
        refuse=True,
        replier_restored=True,
        reply_runs_withdrawn=False,
    ),
    replace(
        _UNSAFE,
        name="x-reply-run-not-withdrawn-nor-checked",
        places=1,
        calls=1,
        reply_runs=True,
        refuse=True,
        replier_restored=True,
        reply_runs_withdrawn=False,
        handler_commit_checks="still answered",
    ),
)
