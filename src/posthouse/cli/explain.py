"""`posthouse explain CODE`: what an error code means. Everything it says stands in errors.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.complain import true_now
from posthouse.cli.options import Options, common
from posthouse.errors import (
    ConfigError,
    GroupLostError,
    NotBuiltError,
    PosthouseError,
    StoreHeldError,
    UsageError,
    every_error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


OTHERS: Final[Mapping[str, tuple[str, str]]] = {
    "config.unused": (
        "The configuration names a service or a route that is not there, so that what it says of it does nothing.",
        "Mend the name in posthouse.toml, or take it out.",
    ),
    "event.unknown": (
        "A service hears an event that nobody publishes; it would wait for ever.",
        "Mend the name of the event, or announce the service that publishes it.",
    ),
    "call.not_redriven": (
        "A service was put back to before calls that are settled and not kept any more: what they did may be lost.",
        "Compare both sides for these numbers, put right what is missing, and drop the dead letter.",
    ),
    "request.orphaned": (
        "A caller was put back to before it asked for this; the text says whether it took effect.",
        "Put right what is too much, or tell the caller, and drop the dead letter.",
    ),
    "event.lost": (
        "Events were dropped by retention or lost by a restore of their publisher before a subscription had them.",
        "Read the publisher's present state, and drop the dead letter; an `on_gap` handler is told instead.",
    ),
    "route.conflict": ("Two operations have the same route, so that only one of them is reached.", "Change one."),
    "system": ("The system refused something that the command needs.", "Its text says what, and of which file."),
    "internal": (
        "A fault in posthouse itself.",
        "Run the command again with `--debug`, which shows the traceback, and report that.",
    ),
}
"""Codes that no service raises: what `posthouse check` finds, and how a command ends that failed otherwise."""


class Explanation(msgspec.Struct):
    """A code as scripts read it."""

    code: str
    error: str
    meaning: str
    hint: str
    status: int
    transient: bool


@click.command()
@click.argument("code", required=False)
@common
def explain(options: Options, code: str | None) -> int:
    """Say what the error CODE means and what to do; without CODE, list all codes."""
    known = {kind.code: kind for kind in every_error()}
    if code is None:
        _list(list(known.values()), options)
        return exits.FINE
    if code in OTHERS:
        _show_other(code, options)
        return exits.FINE
    kind = known.get(code) or next((each for each in known.values() if each.__name__ == code), None)
    if kind is None:
        from posthouse.runtime.layers import nearest

        raise UsageError(
            f"there is no code {code!r} of posthouse's own{nearest(code, [*known, *OTHERS])}",
            hint="`posthouse explain` lists all codes; any other code is a Reject that a service declares.",
        )
    _show(kind, options)
    return exits.FINE


def _list(kinds: list[type[PosthouseError]], options: Options) -> None:
    if options.json:
        for kind in kinds:
            output.record(_explanation(kind))
        return
    output.table(["CODE", "MEANING"], [(kind.code, true_now(kind)) for kind in kinds])


def _show(kind: type[PosthouseError], options: Options) -> None:
    if options.json:
        output.record(_explanation(kind))
        return
    output.line(f"{kind.code} ({kind.__name__})")
    output.line()
    output.line(f"  means:  {true_now(kind)}")
    if kind.hint:
        output.line(f"  do:     {kind.hint}")
    output.line(f"  again:  {_again(kind)}")
    if not issubclass(kind, ConfigError):
        output.line(f"  HTTP:   {kind.status} at the gateway")


def _show_other(code: str, options: Options) -> None:
    meaning, hint = OTHERS[code]
    if options.json:
        output.record(Explanation(code, "", meaning, hint, 0, transient=False))
        return
    output.line(code)
    output.line()
    output.line(f"  means:  {meaning}")
    output.line(f"  do:     {hint}")


def _again(kind: type[PosthouseError]) -> str:
    if issubclass(kind, StoreHeldError | GroupLostError):
        return "by itself: the handler is run again; one that holds the slot too long each time is given up in the end"
    if kind.transient:
        return "yes, the same call may succeed later, unchanged"
    if issubclass(kind, ConfigError | UsageError | NotBuiltError):
        return "no, change the program or its configuration first"
    return "no, the same call would end the same way"


def _explanation(kind: type[PosthouseError]) -> Explanation:
    return Explanation(kind.code, kind.__name__, true_now(kind), kind.hint, kind.status, kind.transient)
