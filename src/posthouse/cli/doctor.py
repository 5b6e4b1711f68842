"""`posthouse doctor`: looks at what posthouse stands on, and says what to do about what is wrong."""

from __future__ import annotations

import click

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common


@click.command()
@common
def doctor(options: Options) -> int:
    """Look at Python, SQLite, the settings, the data directory, the disk, the clock, the transport and the stores.

    The exit status is 1 when something should be seen to, 3 when the transport or a store cannot be used.
    """
    from posthouse.cli.examination import Verdict, examine

    marks = {Verdict.GOOD: "ok", Verdict.CARE: "care", Verdict.BAD: "bad"}
    worst = exits.FINE
    for result in examine(options):
        if options.json:
            output.record(result)
        else:
            output.fold(result.text, before=f"{marks[result.verdict]:5} {result.name:15} ")
            if result.hint:
                output.fold(result.hint, before=f"{'':21} do: ")
        status = {Verdict.GOOD: exits.FINE, Verdict.CARE: exits.FINDING, Verdict.BAD: exits.UNREACHABLE}[result.verdict]
        worst = max(worst, status)
    return worst
