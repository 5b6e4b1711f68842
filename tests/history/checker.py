"""Judges a history: records in, findings and counts out. It asks nobody and changes nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from tests.history.order import overtaken
from tests.history.rules import EXACTLY, RULES, is_missing
from tests.history.story import story_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.history.events import Record
    from tests.history.rules import Promise
    from tests.history.story import Story


class Finding(msgspec.Struct, frozen=True):
    """A rule that does not hold.

    Attributes:
        rule: its name.
        op: the operation; "" if it is about a store.
        text: what is wrong, in one sentence.
    """

    rule: str
    op: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.op or 'the end'}: {self.text}"


class Counts(msgspec.Struct, kw_only=True):
    """How much there was of what, whether the promise allows it or not.

    Attributes:
        operations: asked for.
        done: told so; likewise the next four.
        silent: of which no caller was told anything, mostly because it died.
        effects: all of them.
        lost: operations that were accepted and came to nothing.
        double: operations with more than one effect.
        duplicates: effects beyond the first.
        wrong: operations whose caller was told what is not theirs (S3).
        runs: of handlers.
        reruns: runs beyond the first.
        parked: operations that wait for an operator.
        faults: how many of each kind.
    """

    operations: int = 0
    done: int = 0
    not_done: int = 0
    unknown: int = 0
    conflict: int = 0
    not_stored: int = 0
    silent: int = 0
    effects: int = 0
    lost: int = 0
    double: int = 0
    duplicates: int = 0
    wrong: int = 0
    runs: int = 0
    reruns: int = 0
    parked: int = 0
    faults: dict[str, int] = {}


class Report(msgspec.Struct, frozen=True):
    """What the checker says: `assert not report.findings, report`."""

    findings: list[Finding]
    counts: Counts

    @property
    def rules(self) -> Counter[str]:
        """How many findings each rule has."""
        return Counter(finding.rule for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{len(self.findings)} findings {dict(self.rules)}", str(self.counts)]
        return "\n".join([*lines, *map(str, self.findings[:_SHOWN])])


_SHOWN = 30


def check(records: Iterable[Record], promise: Promise, *, quiet: bool = True) -> Report:
    """Judge a history.

    Args:
        records: all of them, in any order. The stores were read when nothing ran any more.
        promise: what the mode of these operations promises.
        quiet: the run came to its end by itself: all were there and connected until nothing was left to do. If it
            was cut off, nothing is said of what should have come to an end (L1, L2).
    """
    story = story_of(records)
    findings = list(_operations(story, promise, quiet=quiet))
    if promise in EXACTLY:
        findings += (Finding("S8", op, text) for op, text in overtaken(story))
        if quiet:
            findings += (Finding("L2", "", text) for text in _left_over(story))
    counts = _count(story)
    counts.wrong = sum(finding.rule == "S3" for finding in findings)
    return Report(findings, counts)


def _operations(story: Story, promise: Promise, *, quiet: bool) -> Iterator[Finding]:
    """Yield what is wrong with single operations. Of what nobody asked for only that is said."""
    rules = [rule for rule in RULES if promise in rule.promises and (quiet or not rule.at_rest)]
    unasked = [rule for rule in rules if rule.name == "S7"]
    for operation in story.operations.values():
        for rule in rules if operation.tries else unasked:
            text = rule.broken(story, operation)
            if text:
                yield Finding(rule.name, operation.op, text)


def _left_over(story: Story) -> Iterator[str]:
    """Yield what should not be left in the stores at the end (L2), but for what waits for an operator."""
    asked = [each.tries[0] for each in story.operations.values() if each.tries]
    stores = {name for each in asked for name in (each.caller, each.service)} - {""}
    waiting: Counter[str] = Counter(each.caller for each in asked if each.op in story.parked)
    for store in sorted(stores):
        left = story.left.get(store)
        if left is None:
            yield f"nobody has counted what is left in {store}"
            continue
        if left.held > len(left.parked):
            yield f"{store} still holds {left.held} requests, and {len(left.parked)} of them are parked"
        if left.open > waiting[store]:
            yield f"{store} has {left.open} requests that are not final, and {waiting[store]} of them are parked"


def _count(story: Story) -> Counts:
    counts = Counts(faults=dict(story.faults), parked=len(story.parked))
    for operation in story.operations.values():
        counts.operations += bool(operation.tries)
        counts.done += operation.has("done")
        counts.not_done += operation.has("not done")
        counts.unknown += operation.has("unknown")
        counts.conflict += operation.has("conflict")
        counts.not_stored += operation.never_stored
        counts.silent += not operation.told
        counts.effects += len(operation.effects)
        counts.lost += is_missing(story, operation)
        counts.double += len(operation.effects) > 1
        counts.duplicates += max(0, len(operation.effects) - 1)
        counts.runs += operation.runs
        counts.reruns += max(0, operation.runs - 1)
    return counts
