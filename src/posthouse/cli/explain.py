"""`posthouse explain CODE`: what an error code means. Everything it says stands in errors.py."""

from __future__ import annotations

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
    kind = known.get(code) or next((each for each in known.values() if each.__name__ == code), None)
    if kind is None:
        from posthouse.runtime.layers import nearest

        raise UsageError(
            f"there is no code {code!r} of posthouse's own{nearest(code, known)}",
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
