"""What a long-running command says as it goes: a line for people on stderr, or a JSON object on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from posthouse.cli import output

if TYPE_CHECKING:
    from posthouse.cli.options import Options


def notice(options: Options, text: str, **facts: Any) -> None:
    """Tell one thing that happened.

    Args:
        options: whether it is told as JSON.
        text: as a person reads it.
        facts: as a program reads it; the first is `event`.
    """
    stream = sys.stdout if options.json else sys.stderr
    try:
        if options.json:
            output.record(facts)
            stream.flush()
        else:
            output.say(text)
    except BrokenPipeError:  # who read it went away, as `head` does: no reason to stop serving
        output.write_nowhere(stream)
