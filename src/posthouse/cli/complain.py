"""How an error is told to a person: what, why, what is true now, what to do, and its code.

With --json it is one object on stderr; stdout is for data alone.
"""

from __future__ import annotations

import errno
import inspect
import sys
import traceback

import click
import msgspec

from posthouse.cli.output import colored, plain
from posthouse.errors import ApplicationError, PosthouseError, Reject, every_error


class Complaint(msgspec.Struct, omit_defaults=True):
    """An error as scripts read it."""

    code: str
    error: str
    now: str = ""
    hint: str = ""
    transient: bool = False
    id: str = ""
    details: dict[str, object] = {}


def of_error(error: PosthouseError, *, as_json: bool, debug: bool = False) -> None:
    """Tell an error of posthouse, or a service's own no."""
    if debug:
        traceback.print_exception(error)
    _tell(
        Complaint(
            code=error.code,
            error=str(error) or type(error).__name__,
            now=true_now(type(error)),
            hint=error.hint.replace(" show ID`", f" show {error.message_id or 'ID'}`"),
            transient=error.transient,
            id=error.message_id or "",
            details=error.details if isinstance(error, Reject) else {},
        ),
        cause=None if isinstance(error, ApplicationError) else error.__cause__,  # its text says it all
        as_json=as_json,
    )


def of_usage(error: click.ClickException, *, as_json: bool) -> None:
    """Tell that the command line itself is wrong."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context is not None else "posthouse"
    _tell(
        Complaint(code="usage", error=error.format_message(), hint=f"`{command} --help` shows how it is written."),
        cause=None,
        as_json=as_json,
    )


def of_system(error: OSError, *, as_json: bool, debug: bool = False) -> None:
    """Tell what the operating system refused, in its own words."""
    if debug:
        traceback.print_exception(error)
    what = f"{error.filename}: " if error.filename else ""
    hint = "Put that right and run it again; --debug shows what needed it."
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        hint = "Make room where the output goes, and run it again."
    _tell(
        Complaint(code="system", error=f"{what}{error.strerror or type(error).__name__}", hint=hint),
        cause=None,
        as_json=as_json,
    )


def of_fault(error: Exception, *, as_json: bool, debug: bool = False) -> None:
    """Tell an error that nobody foresaw."""
    if debug:
        traceback.print_exception(error)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" at {frame.filename}:{frame.lineno}" for frame in last)
    hint = "Please report it, with what `--debug` adds to this."
    _tell(
        Complaint(code="internal", error=f"a fault in posthouse: {type(error).__name__}: {error}{where}", hint=hint),
        cause=None,
        as_json=as_json,
    )


def true_now(kind: type[PosthouseError]) -> str:
    """Return what is true after such an error: the first paragraph of its docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())


def _tell(complaint: Complaint, *, cause: BaseException | None, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(complaint), file=sys.stderr)
        return
    first, *rest = complaint.error.split("\n")
    lines = [f"{colored('error', 'red')} {colored(complaint.code, 'bold')}: {plain(first)}", *map(plain, rest)]
    if cause is not None and str(cause) and str(cause) not in complaint.error:
        lines.append(f"  why:  {plain(str(cause))}")
    if complaint.id:
        lines.append(f"  id:   {plain(complaint.id)}")
    if complaint.now:
        lines.append(f"  now:  {complaint.now}")
    if complaint.hint:
        lines.append(f"  do:   {plain(complaint.hint)}")
    if any(kind.code == complaint.code for kind in every_error()):
        lines.append(f"  more: posthouse explain {complaint.code}")
    click.echo("\n".join(lines), file=sys.stderr)
