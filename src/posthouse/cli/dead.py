"""`posthouse dead`: the messages that were given up, why, and what to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from posthouse.cli import data, exits, output
from posthouse.cli.letters import AT_ONCE, Letter, Wanted
from posthouse.cli.options import Options, common
from posthouse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.cli.stores import Stores
    from posthouse.clock import Instant

_STATES: Final = {"parked": "undecided, may be replayed", "failed": "decided: it is not done; whoever waited was told"}

_LEFT: Final = {
    "decided": "{} left as decided: whoever waited was told that it is not done, and may have acted on that;"
    " --as-new asks the same once more",
    "overtaken": "{} replayed, given up or canceled by somebody else meanwhile",
    "not asked": "{} left: a store was restored, and until its caller asks for it again it must not run",
    "no request": "{} left: nothing to make anew, but run for a reply, an ack or a gap, or word of lost events",
}


@click.group()
def dead() -> None:
    """List, show, replay and drop dead letters, of queues and of stores."""


def _which(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that choose letters by what they have in common."""
    for option in (
        click.option("--cause", default="", help="Only those of this cause, as `ls` shows it; may be abbreviated."),
        click.option("--code", default="", help="Only those with this code."),
        click.option("--queue", "--operation", "operation", default="", help="Only those of this queue, or operation."),
    ):
        command = option(command)
    return command


@dead.command()
@_which
@click.option("--each", is_flag=True, help="One line for each, instead of groups.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="With --each: at most so many.")
@common
def ls(options: Options, *, operation: str, code: str, cause: str, each: bool, limit: int) -> int:
    """List dead letters, grouped by cause. The exit status is 1 when there are any."""
    from posthouse.cli.letters import letters
    from posthouse.cli.stores import visit_stores

    listing = _Listing(limit)

    async def work(stores: Stores) -> Instant:
        async for letter in letters(stores, Wanted(operation, code, cause)):
            if options.json:
                output.record(letter)
            listing.add(letter)
        return stores.clock.now()

    now = visit_stores(options, work)
    if not listing.count and not options.json:
        output.say("no dead letters")
    elif not options.json:
        listing.show(each=each, now=now)
    return exits.FINDING if listing.count else exits.FINE


@dead.command()
@click.argument("id")
@common
def show(options: Options, id: str) -> int:
    """Show one dead letter: why it died, how often it was tried, and its data. ID is its own, or the message's."""
    from posthouse.cli.letters import letters
    from posthouse.cli.stores import visit_stores
    from posthouse.runtime.steps.feeding import EVENT_LOST

    async def found(stores: Stores, ids: set[str]) -> Letter | None:
        async for letter in letters(stores, Wanted()):
            if ids & {letter.id, letter.message_id}:
                return letter
        return None

    async def work(stores: Stores) -> Letter | None:
        letter = await found(stores, {id})
        if letter is None and (within := await _letters_within(stores, id)):
            letter = await found(stores, within)
            output.say(f"{id} has no dead letter of its own; this is that of a call which its handler made")
        return letter

    letter = visit_stores(options, work)
    if letter is None:
        raise UsageError(
            f"there is no dead letter {id!r}",
            hint="`posthouse dead ls --each` lists their ids; `posthouse messages get ID` what became of a request.",
        )
    if options.json:
        output.record(letter)
        return exits.FINE
    for name, value in (
        ("dead letter", letter.id),
        ("of", f"{letter.operation}, in its {letter.kept}"),
        ("state", f"{letter.state}: {_STATES[letter.state]}"),
        ("code", letter.code),
        ("reason", letter.reason),
        ("cause", letter.cause),
        ("attempts", str(letter.attempts)),
        ("given up", output.moment(letter.at)),
        ("message", letter.message_id),
        ("sent by", letter.source),
    ):
        output.field(name, value, indent=0)
    if letter.detail:
        output.line(f"\n{output.plain(letter.detail.rstrip())}")
    output.line(f"\n{data.shown(bytes(letter.data))}")
    output.line()
    if letter.code == EVENT_LOST:
        output.say("it tells of events that nobody can give any more; there is nothing to run again")
        output.say(f"take note of it:  posthouse dead drop {letter.id}")
        return exits.FINE
    if letter.kept == "store":
        output.say(f"both sides:    posthouse messages get {letter.message_id}")
    again = "" if letter.state == "parked" else " --as-new"
    output.say(f"run it again:  posthouse dead replay {letter.id}{again}")
    output.say(f"give it up:    posthouse dead drop {letter.id}")
    return exits.FINE


async def _letters_within(stores: Stores, id: str) -> set[str]:
    """Return the letters of the calls that a request's handler made, and theirs: an error that it let pass."""
    from posthouse.cli.conversation import conversations

    left, found = await conversations(stores, id), set[str]()
    while left:
        conversation = left.pop()
        left += conversation.inside
        if conversation.letter is not None:
            found.add(conversation.letter.id)
    return found


@dead.command()
@click.argument("ids", nargs=-1)
@_which
@click.option("--dry-run", is_flag=True, help="Only say which.")
@click.option("--as-new", is_flag=True, help="Also those that are decided: as new requests.")
@common
def replay(
    options: Options, *, ids: tuple[str, ...], operation: str, code: str, cause: str, dry_run: bool, as_new: bool
) -> int:
    """Run dead letters again, with all their attempts before them: those with IDS, or all that the options choose.

    What is decided stays, unless you say --as-new: somebody was told that it is not done, and may have acted on it.
    A journaled one is then a new request, with a new id, that nobody waits for; one of a queue is delivered again
    under its id. The exit status is 1 when something that you named was not replayed.
    """
    wanted = Wanted(operation, code, cause)
    return _change(options, _Change("replayed", as_new=as_new, dry_run=dry_run), ids, wanted)


@dead.command()
@click.argument("ids", nargs=-1)
@_which
@click.option("--dry-run", is_flag=True, help="Only say which.")
@common
def drop(options: Options, *, ids: tuple[str, ...], operation: str, code: str, cause: str, dry_run: bool) -> int:
    """Give dead letters up: those with IDS, or all that the options choose.

    A parked journaled request is decided by that: it is not done, and its caller is told. Of all others only the
    letter goes, for ever.
    """
    wanted = Wanted(operation, code, cause)
    return _change(options, _Change("dropped", as_new=True, dry_run=dry_run), ids, wanted)


class _Change:
    """What is to be done with letters.

    Attributes:
        done: what is said of a letter with which it was done.
        new_ids: the ids of the new requests, by letter.
    """

    def __init__(self, done: str, *, as_new: bool, dry_run: bool) -> None:
        self.done = f"would be {done}" if dry_run else done
        self.is_replay = done == "replayed"
        self.as_new = as_new
        self.really = not dry_run
        self.new_ids: dict[str, str] = {}

    async def queued(self, stores: Stores, letters: list[Letter]) -> dict[str, str]:
        """Do it with letters of the transport; return what became of each."""
        became = {letter.id: "decided" for letter in letters if letter.state == "failed" and not self.as_new}
        wanted = [letter.id for letter in letters if letter.id not in became]
        if not self.really:
            return became | dict.fromkeys(wanted, self.done)
        transport = stores.host.transport
        act = transport.replay if self.is_replay else transport.drop
        for start in range(0, len(wanted), AT_ONCE):
            became |= dict.fromkeys(await act(wanted[start : start + AT_ONCE]), self.done)
        return became

    async def stored(self, stores: Stores, letters: list[Letter]) -> dict[str, str]:
        """Do it with letters of stores; return what became of each."""
        from posthouse.cli import letters as of_stores
        from posthouse.runtime.steps.intervening import Did

        ids = [letter.id for letter in letters]
        if self.is_replay:
            replayed = await of_stores.replay(stores, ids, as_new=self.as_new, really=self.really)
            did = {id: what for id, (what, _new) in replayed.items()}
            self.new_ids = {id: new for id, (what, new) in replayed.items() if new and what is Did.DONE}
        else:
            did = await of_stores.drop(stores, ids, really=self.really)
        return {id: self.done if what is Did.DONE else what.name.lower().replace("_", " ") for id, what in did.items()}


def _change(options: Options, change: _Change, ids: tuple[str, ...], wanted: Wanted) -> int:
    from posthouse.cli.letters import letters
    from posthouse.cli.stores import visit_stores

    if bool(ids) == bool(wanted):
        raise UsageError("say which: ids; or a --queue (--operation), a --code, a --cause, or several of these")

    async def work(stores: Stores) -> dict[str, str]:
        became = dict.fromkeys(ids, "unknown")
        chosen = [letter async for letter in letters(stores, wanted) if not ids or letter.id in became]
        became |= await change.queued(stores, [letter for letter in chosen if letter.kept == "queue"])
        return became | await change.stored(stores, [letter for letter in chosen if letter.kept == "store"])

    became = visit_stores(options, work)
    if options.json:
        for id, outcome in became.items():
            new = {"new_id": change.new_ids[id]} if change.really and id in change.new_ids else {}
            output.record({"id": id, "outcome": outcome, **new})
    else:
        outcomes = list(became.values())
        output.line(f"{outcomes.count(change.done)} {change.done}")
        if change.really:
            for id, new in change.new_ids.items():
                output.line(f"  {id} is asked anew as {new}")
        for left, text in _LEFT.items():
            if count := outcomes.count(left):
                output.say(text.format(count))
        for id in [id for id, outcome in became.items() if outcome == "unknown"]:
            output.say(f"there is no dead letter {id!r}")
    return exits.FINE if all(outcome == change.done for outcome in became.values()) else exits.FINDING


class _Group:
    """Letters of one cause."""

    def __init__(self, letter: Letter) -> None:
        self.count = 0
        self.first = letter.at
        self.newest = letter

    def add(self, letter: Letter) -> None:
        """Take note of one more."""
        self.count += 1
        self.first = min(self.first, letter.at)
        if letter.at >= self.newest.at:
            self.newest = letter


class _Listing:
    """What is shown of the letters that pass by: the first `limit` of them, and the groups."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._groups: dict[tuple[str, str, str, str], _Group] = {}
        self._first: list[Letter] = []

    def add(self, letter: Letter) -> None:
        """Take note of one."""
        self.count += 1
        group = letter.operation, letter.state, letter.code, letter.cause
        if group not in self._groups:
            self._groups[group] = _Group(letter)
        self._groups[group].add(letter)
        if len(self._first) < self._limit:
            self._first.append(letter)

    def show(self, *, each: bool, now: Instant) -> None:
        """Print the first letters, or the groups."""
        if each:
            output.listing(
                ["ID", "OF", "STATE", "CODE", "TRIED#", "AGE"],
                [
                    (
                        letter.id,
                        letter.operation,
                        letter.state,
                        letter.code,
                        letter.attempts,
                        output.ago(letter.at, now),
                    )
                    for letter in self._first
                ],
                [letter.reason for letter in self._first],
            )
            if self.count > len(self._first):
                output.say(f"{self.count - len(self._first)} more; --limit shows them")
            return
        groups = sorted(self._groups.items(), key=lambda pair: -pair[1].count)
        output.listing(
            ["COUNT#", "OF", "STATE", "CODE", "CAUSE", "FIRST", "LAST"],
            [
                (f"{group.count:,}", *key, output.ago(group.first, now), output.ago(group.newest.at, now))
                for key, group in groups
            ],
            [f"{group.newest.id}: {group.newest.reason}" for _key, group in groups],
        )
        output.say("one: posthouse dead show ID; again, all of one: posthouse dead replay --cause CAUSE")
