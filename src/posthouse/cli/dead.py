"""`posthouse dead`: the messages that were given up, why, and what to do with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import click
import msgspec

from posthouse.cli import data, exits, output
from posthouse.cli.options import Options, common
from posthouse.errors import FrameError, UsageError
from posthouse.message.codec import decode

if TYPE_CHECKING:
    from posthouse.contracts.transport import DeadLetter
    from posthouse.message.message import Message
    from posthouse.runtime.host import Host

_PAGE: Final = 100
_AT_ONCE: Final = 200


class _Letter(msgspec.Struct, omit_defaults=True):
    """A dead letter as scripts read it."""

    id: str
    queue: str
    state: str
    code: str
    reason: str
    attempts: int
    at: float
    message_id: str = ""
    type: str = ""
    source: str = ""
    detail: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


@click.group()
def dead() -> None:
    """List, show, replay and drop dead letters."""


@dead.command()
@click.option("--queue", default="", help="Only those of this queue.")
@click.option("--code", default="", help="Only those with this code.")
@click.option("--each", is_flag=True, help="One line for each, instead of counts.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="With --each: at most so many.")
@common
def ls(options: Options, queue: str, code: str, each: bool, limit: int) -> int:
    """List dead letters: how many of each queue and code. The exit status is 1 when there are any."""
    from posthouse.cli.house import visit

    listing = _Listing(limit)

    async def work(host: Host) -> None:  # one by one: there may be more of them than memory holds
        async for letter in _letters(host, queue, code):
            if options.json:
                output.record(_readable(letter))
            listing.add(letter)

    visit(options, work)
    if not listing.count and not options.json:
        output.say("no dead letters")
    elif not options.json:
        listing.show(each=each)
    return exits.FINDING if listing.count else exits.FINE


@dead.command()
@click.argument("id")
@common
def show(options: Options, id: str) -> int:
    """Show one dead letter: why it died, how often it was tried, and its data."""
    from posthouse.cli.house import visit

    async def work(host: Host) -> DeadLetter | None:
        async for letter in _letters(host, "", ""):
            if letter.id == id or _message(letter, "id") == id:
                return letter
        return None

    letter = visit(options, work)
    if letter is None:
        raise UsageError(f"there is no dead letter {id!r}", hint="`posthouse dead ls --each` lists their ids.")
    readable = _readable(letter)
    if options.json:
        output.record(readable)
        return exits.FINE
    for name, value in (
        ("dead letter", readable.id),
        ("of queue", readable.queue),
        ("state", f"{readable.state}: {_STATES[readable.state]}"),
        ("code", readable.code),
        ("reason", readable.reason),
        ("attempts", readable.attempts),
        ("rejected", output.moment(readable.at)),
        ("message", readable.message_id),
        ("sent by", readable.source),
    ):
        output.line(f"{name:12} {output.plain(str(value))}")
    if readable.detail:
        output.line(f"\n{output.plain(readable.detail.rstrip())}")
    output.line(f"\n{data.shown(bytes(readable.data))}")
    output.line()
    if readable.state == "parked":
        output.say(f"run it again: posthouse dead replay {letter.id}")
    output.say(f"give it up:   posthouse dead drop {letter.id}")
    return exits.FINE


@dead.command()
@click.argument("ids", nargs=-1)
@click.option("--queue", default="", help="All of this queue.")
@click.option("--code", default="", help="All with this code.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@click.option("--failed", is_flag=True, help="Also those that are decided: whoever waited was told they are not done.")
@common
def replay(options: Options, *, ids: tuple[str, ...], queue: str, code: str, dry_run: bool, failed: bool) -> int:
    """Put dead letters back into their queues, as new deliveries: those with IDS, or all of a --queue or --code.

    What is decided stays, unless you say --failed: somebody was told that it is not done, and may
    have acted on it. The exit status is 1 when something that you named was not replayed.
    """
    return _change(options, "replayed", ids, queue=queue, code=code, dry_run=dry_run, decided_too=failed)


@dead.command()
@click.argument("ids", nargs=-1)
@click.option("--queue", default="", help="All of this queue.")
@click.option("--code", default="", help="All with this code.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@common
def drop(options: Options, ids: tuple[str, ...], queue: str, code: str, dry_run: bool) -> int:
    """Delete dead letters for ever: those with IDS, or all of a --queue or --code."""
    return _change(options, "dropped", ids, queue=queue, code=code, dry_run=dry_run)


_STATES: Final = {"parked": "undecided, may be replayed", "failed": "decided: it is not done; whoever waited was told"}


def _change(
    options: Options, done: str, ids: tuple[str, ...], *, queue: str, code: str, dry_run: bool, decided_too: bool = True
) -> int:
    from posthouse.cli.house import visit

    if bool(ids) == bool(queue or code):
        raise UsageError("say which: ids, or a --queue or --code (or both of these)")

    async def work(host: Host) -> tuple[list[str], list[str], list[str]]:
        there = {letter.id: letter.outcome.state async for letter in _letters(host, queue, code)}
        named = [id for id in dict.fromkeys(ids) if id in there] if ids else list(there)
        wanted = [id for id in named if decided_too or there[id] != "failed"]
        missing, decided = sorted(set(ids) - set(there)), [id for id in named if id not in set(wanted)]
        if dry_run:
            return wanted, decided, missing
        act = host.transport.replay if done == "replayed" else host.transport.drop
        changed: list[str] = []
        for start in range(0, len(wanted), _AT_ONCE):
            changed += await act(wanted[start : start + _AT_ONCE])
        return changed, decided, missing

    changed, decided, missing = visit(options, work)
    if options.json:
        for id in changed:
            output.record({"id": id, "outcome": f"would be {done}" if dry_run else done})
        for id in decided:
            output.record({"id": id, "outcome": "decided"})
        for id in missing:
            output.record({"id": id, "outcome": "unknown"})
    else:
        output.line(f"{len(changed)} {'would be ' if dry_run else ''}{done}")
        if decided:
            output.say(
                f"{len(decided)} left as decided: whoever waited was told that it is not done, and may have acted on"
                " that; --failed replays them all the same"
            )
        for id in missing:
            output.say(f"there is no dead letter {id!r}")
    return exits.FINDING if missing or decided else exits.FINE


async def _letters(host: Host, queue: str, code: str) -> AsyncIterator[DeadLetter]:
    after = ""
    while page := await host.transport.dead(queue=queue, after=after, limit=_PAGE):
        for letter in page:
            if not code or letter.outcome.code == code:
                yield letter
        after = page[-1].id


class _Listing:
    """What is shown of the letters that pass by: the first `limit` of them, and how many there are of each group."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._groups: Counter[tuple[str, str, str]] = Counter()
        self._newest: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        self._first: list[tuple[object, ...]] = []

    def add(self, letter: DeadLetter) -> None:
        """Take note of one."""
        self.count += 1
        outcome, at = letter.outcome, output.moment(letter.at)
        group = letter.queue, outcome.state, outcome.code
        self._groups[group] += 1
        self._newest[group] = at, letter.id, outcome.reason
        if len(self._first) < self._limit:
            self._first.append((letter.id, *group, letter.attempts, at, outcome.reason))

    def show(self, *, each: bool) -> None:
        """Print the first letters, or the groups."""
        if each:
            output.table(["ID", "QUEUE", "STATE", "CODE", "ATTEMPTS#", "AT", "REASON"], self._first)
            if self.count > len(self._first):
                output.say(f"{self.count - len(self._first)} more; --limit shows them")
            return
        output.table(
            ["COUNT#", "QUEUE", "STATE", "CODE", "NEWEST", "ID", "REASON"],
            [(count, *group, *self._newest[group]) for group, count in self._groups.most_common()],
        )
        output.say("one of them: posthouse dead show ID; run them again: posthouse dead replay --queue QUEUE")


def _message(letter: DeadLetter, field: str) -> str:
    message = _decoded(letter)
    return str(getattr(message, field)) if message is not None else ""


def _decoded(letter: DeadLetter) -> Message | None:
    try:
        return decode(letter.frame)
    except FrameError:
        return None


def _readable(letter: DeadLetter) -> _Letter:
    message = _decoded(letter)
    readable = _Letter(
        id=letter.id,
        queue=letter.queue,
        state=letter.outcome.state,
        code=letter.outcome.code,
        reason=letter.outcome.reason,
        attempts=letter.attempts,
        at=letter.at,
        detail=letter.outcome.detail,
    )
    if message is not None:
        readable.message_id, readable.type, readable.source = message.id, message.type, message.source
        readable.data = _json(message.data)
    return readable


def _json(bytes_: bytes) -> msgspec.Raw:
    try:
        msgspec.json.decode(bytes_)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(repr(bytes_)))
    return msgspec.Raw(bytes_)
