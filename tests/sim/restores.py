"""What is judged of worlds in which stores were put back.

What the lost history of a store has told its own programs and handlers binds nobody any more: the requests that it
made since the backup are as if they had never been made, and what they did elsewhere is an *orphan*. Everything that
the present stores hold is judged like that of any world: an effect once, an outcome that is told to all alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.runtime.steps.closing import ORPHANED
from tests.history.events import Applied, Began, Effect, Ended, Fault, Invoked, Told
from tests.history.story import story_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.history.events import Record
    from tests.history.story import Operation, Story
    from tests.sim.world import World

AUDITOR: Final = "auditor"


def remembered(records: Iterable[Record], sent: set[str]) -> list[Record]:
    """Return the records without what only a lost history says.

    Args:
        records: all of them.
        sent: what runs have sent, as the present stores say.
    """
    every = list(records)
    lost = [each for each in every if isinstance(each, Fault) and each.kind == "restore"]
    if not lost:
        return every
    callers = {each.op: each.caller for each in every if isinstance(each, Invoked)}
    gone = {
        each.op
        for each in every
        if isinstance(each, Invoked) and "~" in each.op and each.op not in sent and _in_lost(each, each.caller, lost)
    }
    return [each for each in every if not _is_forgotten(each, callers, gone, lost)]


def _is_forgotten(record: Record, callers: dict[str, str], gone: set[str], lost: list[Fault]) -> bool:
    if isinstance(record, Invoked | Told | Began | Ended | Effect | Applied) and record.op in gone:
        return True
    return isinstance(record, Told) and record.by != AUDITOR and _in_lost(record, callers.get(record.op, ""), lost)


def _in_lost(record: Record, store: str, lost: list[Fault]) -> bool:
    """Say whether something was noted in a time of a store of which it knows nothing any more."""
    return any(each.what == store and (each.backup_at or 0.0) <= record.at <= each.at for each in lost)


def silences(world: World) -> Iterator[str]:
    """Yield what a restore has changed, and nobody is told; and what is said not to be known although it is."""
    story = story_of(world.records)
    for service, id, op in world.orphans:
        asked = story.operations.get(op)
        callers = {each.caller for each in asked.tries} if asked is not None else set[str]()
        if not any(story.restores.get(caller) for caller in callers):
            yield f"{op} ({id}) took effect in {service}, and no store knows that it asked for it"
    for service, letter in world.letters:
        if letter.code == ORPHANED and not story.restores:
            yield f"{service} tells of an orphan {letter.id}, and nothing was put back"
    for operation in story.operations.values():
        yield from _needless(story, operation)


def _needless(story: Story, operation: Operation) -> Iterator[str]:
    """Yield that an outcome is unknown, or a conflict, of what was settled before the backup was made."""
    if not operation.tries or operation.is_deposit:
        return
    settled = [each.at for each in operation.told if each.outcome in {"done", "not done"} and each.by != AUDITOR]
    if not settled or any(each.provisional for each in operation.told):
        return
    asked, known = operation.asked_at, min(settled)
    for telling in operation.told:
        store = operation.service if telling.outcome == "conflict" else operation.keeper
        if telling.outcome not in {"unknown", "conflict"} or story.may_have_lost(store, asked=asked, known=known):
            continue
        if not all(story.restored(each, after=asked) for each in (operation.keeper, operation.service)):
            yield f"{operation.op} is {telling.outcome}, and it was settled before the backup of {store}"
