"""The rules for one operation, each with the promises that it belongs to.

S1 to S8, L1 and L2 are those of `docs/explanation/protocol.md`; the others have names. A rule returns a sentence
about what is wrong, or "". What a restore may excuse is said beside each rule. Order is in `order`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from posthouse.errors import CallCanceledError
from tests.history.events import Told
from tests.history.story import seen_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.history.events import Applied
    from tests.history.story import Operation, Story

Promise: TypeAlias = Literal["exactly_once", "at_least_once", "at_most_once"]
"""What `journaled`, `queued` and `volatile` promise."""

EXACTLY: Final[frozenset[Promise]] = frozenset({"exactly_once"})
ONCE_AT_MOST: Final[frozenset[Promise]] = frozenset({"exactly_once", "at_most_once"})
EVERY: Final[frozenset[Promise]] = frozenset({"exactly_once", "at_least_once", "at_most_once"})

CANCELED: Final = CallCanceledError.code


def effect_twice(_: Story, operation: Operation) -> str:
    """S1: no effect twice."""
    if len(operation.effects) < 2:
        return ""
    rows = ", ".join(f"{each.service} {each.sequence}" for each in operation.effects)
    return f"it has {len(operation.effects)} effects: {rows}"


def applied_twice(_: Story, operation: Operation) -> str:
    """S2: no reply applied twice."""
    count = len(operation.applied)
    return f"its reply was applied {count} times" if count > 1 else ""


def wrong_reply(story: Story, operation: Operation) -> str:
    """S3: never another request's reply. After a restore of the replier its handler may have given another value."""
    values = {each.value for each in operation.effects}
    for telling in operation.applied + operation.told:
        if telling.echo not in {"", operation.op}:
            return f"its caller was given the reply of {telling.echo}"
        if telling.outcome != "done" or not values or telling.value in values:
            continue
        if not story.may_have_lost(operation.service, asked=operation.asked_at, known=seen_at(telling)):
            return f"its caller was told {telling.value!r}, and its effect gave {min(values)!r}"
    return ""


def done_without_effect(story: Story, operation: Operation) -> str:
    """S4: done, so the effect is there; a restore of the replier may have lost it, and then L1 judges."""
    if operation.effects or not operation.has("done"):
        return ""
    known = min(seen_at(each) for each in operation.outcomes if each.outcome == "done")
    if story.may_have_lost(operation.service, asked=operation.asked_at, known=known):
        return ""
    return "its caller was told that it is done, and there is no effect"


def not_done_with_effect(story: Story, operation: Operation) -> str:
    """S5: not done, so no effect, ever. A conflict is such a decision as well."""
    if not operation.effects:
        return ""
    for telling in operation.outcomes:
        if telling.outcome in {"not done", "conflict"} and not _forgotten(story, operation, telling):
            return f"its caller was told {telling.outcome!r} ({telling.code or 'no code'}), and there is an effect"
    return ""


def _forgotten(story: Story, operation: Operation, *tellings: Told | Applied) -> bool:
    """Return whether restores may have made both sides forget what one of these said.

    One side alone does not suffice: the caller keeps what is final, and the replier what it decided. But what a
    run of a handler was told is not final until it commits, and a request that was canceled before it was
    sent was decided by the caller alone.
    """
    asked, known = operation.asked_at, min(map(seen_at, tellings))
    by_caller = story.may_have_lost(operation.keeper, asked=asked, known=known)
    by_replier = story.may_have_lost(operation.service, asked=asked, known=known)
    if any(isinstance(each, Told) and each.provisional for each in tellings) and by_replier:
        return True
    if any(each.code == CANCELED for each in tellings) and by_caller:
        return True
    return by_caller and by_replier


def unknown_without_restore(story: Story, operation: Operation) -> str:
    """S6: unknown only after the caller's restore. A caller without a store may not know."""
    if operation.is_deposit:
        return ""
    return _without_restore(story, operation, "unknown", operation.keeper)


def conflict_without_restore(story: Story, operation: Operation) -> str:
    """S6: conflict only after the replier's restore."""
    return _without_restore(story, operation, "conflict", operation.service)


def _without_restore(story: Story, operation: Operation, outcome: str, store: str) -> str:
    for telling in operation.outcomes:
        restored = story.restored(store, after=operation.asked_at, before=seen_at(telling))
        if telling.outcome == outcome and not restored:
            return f"its caller was told {outcome!r}, and {store} was not restored between the request and that"
    return ""


def never_asked(_: Story, operation: Operation) -> str:
    """S7: nothing without a request; no effect in a store that was not asked."""
    if operation.tries:
        strange = [each for each in operation.effects if each.service != operation.service]
        return f"it was asked of {operation.service}, and has an effect in {strange[0].service}" if strange else ""
    traces = ", ".join(_traces(operation)) or "the word of its caller"
    return f"nobody asked for it, and there is {traces}"


def _traces(operation: Operation) -> Iterator[str]:
    """Yield what there is of an operation, but for what its caller was told."""
    if operation.effects:
        yield "an effect"
    if operation.runs:
        yield "a run"
    if operation.applied:
        yield "an applied reply"
    if operation.acks:
        yield "an ack"


def not_stored_after_all(_: Story, operation: Operation) -> str:
    """Not stored: every try was told that nothing will happen, and nothing does."""
    if not operation.never_stored:
        return ""
    traces = list(_traces(operation))
    if len(operation.told) > len(operation.tries):
        traces.append("another word of its caller")
    return f"its caller was told that it is not stored, and there is {', '.join(traces)}" if traces else ""


def effect_of_rolled_back_run(story: Story, operation: Operation) -> str:
    """Rolled back: a run that raised leaves no effect."""
    for effect in operation.effects:
        if effect.run in story.raised:
            return f"run {effect.run} raised, and its effect is there"
    return ""


def changed(story: Story, operation: Operation) -> str:
    """Changed: an outcome, once told, stays what it is."""
    found = _contradiction(story, operation)
    return f"{found[0].by or 'its caller'} was told {_both(found)}" if found and found[0].by == found[1].by else ""


def differs(story: Story, operation: Operation) -> str:
    """Differs: all who ask are told the same; what the caller's database holds counts as told."""
    found = _contradiction(story, operation)
    return f"{found[0].by} and {found[1].by} were told {_both(found)}" if found and found[0].by != found[1].by else ""


def _both(found: tuple[Told | Applied, Told | Applied]) -> str:
    return " and ".join(f"{each.outcome} {each.value or each.code}".rstrip() for each in found)


def _contradiction(story: Story, operation: Operation) -> tuple[Told | Applied, Told | Applied] | None:
    """Return two tellings that cannot both be true.

    Unknown contradicts nothing, and what was done may become a conflict: S6 judges whether these may be told at
    all. After a restore of the replier what was done may have been done again, with another value.
    """
    if len(operation.told) + len(operation.applied) < 2:
        return None
    tellings = [each for each in operation.outcomes if each.outcome != "unknown"]
    for one, other in pairwise(tellings):
        if one.outcome == other.outcome == "done":
            known = min(seen_at(one), seen_at(other))
            excused = story.may_have_lost(operation.service, asked=operation.asked_at, known=known)
        else:
            refused_now = (one.outcome, other.outcome) == ("done", "conflict")
            excused = refused_now or _forgotten(story, operation, one, other)
        if (one.outcome, one.value, one.code) != (other.outcome, other.value, other.code) and not excused:
            return one, other
    return None


def acked_twice(_: Story, operation: Operation) -> str:
    """Acked twice: the replier takes an ack once."""
    return f"its ack was taken {operation.acks} times" if operation.acks > 1 else ""


def acked_unapplied(story: Story, operation: Operation) -> str:
    """Acked early: only what is applied is acked. The caller's restore may have lost what was applied."""
    if not operation.acks or operation.applied or not operation.tries[0].applies:
        return ""
    if story.restored(operation.keeper, after=operation.asked_at):
        return ""
    return "it was acked, and its reply is not applied"


def is_missing(story: Story, operation: Operation) -> bool:
    """Return whether an accepted operation has come to nothing: no effect, and nobody was told why."""
    if operation.effects or operation.op in story.parked or not operation.has("done", "stored", "pending"):
        return False
    outcomes = operation.outcomes
    return not outcomes or outcomes[-1].outcome == "done"


def lost(story: Story, operation: Operation) -> str:
    """L1: what was accepted is done, or somebody is told why not.

    A restore of the caller may have lost the request, unless the backup holds it. The deposit of a caller without
    a store may be lost with what carries it.
    """
    if not is_missing(story, operation) or done_without_effect(story, operation):
        return ""
    asked = operation.asked_at
    if story.may_have_lost(operation.keeper, asked=asked, known=operation.stored_at):
        return ""
    if operation.is_deposit and (story.wiped(after=asked) or story.restored(operation.service, after=asked)):
        return ""  # what confirmed it was the engine, which may have handed it over after the backup
    if operation.has("done"):
        return f"it was done, {operation.service} was restored, and it was neither done again nor told to be a conflict"
    return "it was accepted, and there is neither an effect nor a decision"


def lost_without_wipe(story: Story, operation: Operation) -> str:
    """L1 for queued messages: what was confirmed has an effect, if the engine keeps what it has."""
    asked = operation.asked_at
    if story.wiped(after=asked) or story.restored(operation.service, after=asked):
        return ""
    return lost(story, operation)


def reply_lost(story: Story, operation: Operation) -> str:
    """L1: a caller that applies replies has applied this one."""
    if operation.applied or operation.acks or not operation.tries[0].applies or operation.op in story.parked:
        return ""
    if not (operation.effects or operation.has("not done")) or operation.has("unknown", "conflict"):
        return ""
    if operation.never_stored or story.may_have_lost(
        operation.keeper, asked=operation.asked_at, known=operation.stored_at
    ):
        return ""
    return "it is decided, and its reply was never applied"


class Rule(NamedTuple):
    """A rule for one operation.

    Attributes:
        name: as findings name it.
        promises: whose rule it is.
        broken: returns what is wrong, or "".
        at_rest: it can be judged only when all that was asked for has come to its end.
    """

    name: str
    promises: frozenset[Promise]
    broken: Callable[[Story, Operation], str]
    at_rest: bool = False


RULES: Final = (
    Rule("S1", ONCE_AT_MOST, effect_twice),
    Rule("S2", ONCE_AT_MOST, applied_twice),
    Rule("S3", EVERY, wrong_reply),
    Rule("S4", EVERY, done_without_effect),
    Rule("S5", EXACTLY, not_done_with_effect),
    Rule("S6", EXACTLY, unknown_without_restore),
    Rule("S6", EXACTLY, conflict_without_restore),
    Rule("S7", EVERY, never_asked),
    Rule("not stored", EVERY, not_stored_after_all),
    Rule("rolled back", EXACTLY, effect_of_rolled_back_run),
    Rule("changed", EVERY, changed),
    Rule("differs", EVERY, differs),
    Rule("acked twice", EXACTLY, acked_twice),
    Rule("acked early", EXACTLY, acked_unapplied),
    Rule("L1", EXACTLY, lost, at_rest=True),
    Rule("L1", EXACTLY, reply_lost, at_rest=True),
    Rule("L1", frozenset({"at_least_once"}), lost_without_wipe, at_rest=True),
)
