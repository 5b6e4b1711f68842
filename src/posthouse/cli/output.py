"""What is printed: data to stdout, as a table for people or one JSON object a line; talk to stderr.

What comes from messages and names of others is printed without its control characters, so that a
dead letter cannot move a person's cursor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import click
import msgspec

_WHOLE: Final = 24
"""Characters: what is no longer is never folded; a terminal that is too narrow folds the line itself."""
_WIDEST: Final = 400
_CODES: Final = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def record(value: Any) -> None:
    """Print one object as a line of JSON."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns; where the terminal is too narrow, long texts fold and names stay whole."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[plain(str(cell)) for cell in row] for row in rows]
    style = "" if os.environ.get("NO_COLOR") else "bold"
    shown = Table(box=None, pad_edge=False, header_style=style, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        name = column.removesuffix("#")
        widest = max(len(text) for text in [name, *(row[number] for row in cells)])
        shown.add_column(
            name,
            overflow="fold",
            justify="right" if column.endswith("#") else "left",
            no_wrap=widest <= _WHOLE,
            min_width=min(widest, _WHOLE),
        )
    for row in cells:
        shown.add_row(*map(Text, row))
    least = sum((column.min_width or 0) + 2 for column in shown.columns)
    # A file or a pipe is as wide as it takes: only a terminal folds.
    console = Console(width=max(Console().width, least) if sys.stdout.isatty() else _WIDEST, highlight=False)
    with console.capture() as captured:  # written by us: rich would end the program when nobody reads it
        console.print(shown)
    sys.stdout.write(captured.get())


def listing(columns: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str]) -> None:
    """Print rows of short cells under their columns, each with a longer text below it."""
    names = [column.removesuffix("#") for column in columns]
    cells = [names, *([plain(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(names))]
    for row, note in zip(cells, ["", *notes], strict=True):
        parts = [
            cell.rjust(width) if column.endswith("#") else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        ]
        line("  ".join(parts).rstrip())
        if note:
            field("", note, indent=0, width=3)


def line(text: str = "") -> None:
    """Print a line of data for people."""
    click.echo(text)


def field(name: str, text: str, *, indent: int = 2, width: int = 12) -> None:
    """Print one named fact for people; on a terminal a long one is folded under itself."""
    fold(text, before=" " * indent + f"{name:{width}} ")


def fold(text: str, *, before: str = "", below: str | None = None) -> None:
    """Print a sentence for people; on a terminal a long one is folded between its words.

    Args:
        text: the sentence.
        before: what stands before it.
        below: what stands before its further lines; as much space as `before` takes, for None.
    """
    before, text = plain(before), plain(text)
    if not sys.stdout.isatty():
        line(before + text)
        return
    import textwrap
    from shutil import get_terminal_size

    below = " " * len(before) if below is None else below
    wide = max(get_terminal_size().columns, len(before) + _WHOLE)
    folded = textwrap.wrap(text, wide, initial_indent=before, subsequent_indent=below, break_on_hyphens=False)
    line("\n".join(folded or [before]))


def say(text: str) -> None:
    """Tell the person something that is no data."""
    click.echo(text, file=sys.stderr)


def write_nowhere(stream: TextIO) -> None:
    """Drop what is still written to a stream that nobody reads any more, or that has no room."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def plain(text: str) -> str:
    """Return text with its control characters made visible."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def colored(text: str, color: str) -> str:
    """Return text in a color for stderr, where that is a terminal that wants colors (NO_COLOR)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty():
        return text
    return f"\x1b[{_CODES[color]}m{text}\x1b[0m"


def moment(at: float | None) -> str:
    """Return an instant as people read it, in UTC; "-" for none."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else "-"


def ahead(at: float | None, now: float) -> str:
    """Return how far ahead, or how long ago, an instant is: "in 5 s", "5 s ago"; "-" for none."""
    if not at or at == float("inf"):
        return "-"
    return f"in {ago(now, at)}" if at > now else f"{ago(at, now)} ago"


def ago(at: float | None, now: float) -> str:
    """Return how long ago an instant was; "-" for none."""
    if not at:
        return "-"
    past = max(0.0, now - at)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if past >= 2 * length:
            return f"{past / length:.0f} {unit}"
    return f"{past:.0f} s"


def size(count: float) -> str:
    """Return bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
