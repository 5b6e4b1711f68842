"""S8: of one key, what was asked first takes effect first.

One request comes before another if it was known to be stored before the other was asked for. Requests of which
this cannot be said were made at once, and have no order. A key belongs to one caller's store and one service.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.history.story import Operation, Story


def overtaken(story: Story) -> Iterator[tuple[str, str]]:
    """Yield each operation that took effect before one that came before it, and a sentence."""
    lines: dict[tuple[str, str, str], list[Operation]] = {}
    for operation in story.operations.values():
        if operation.effects and operation.tries and operation.tries[0].key and not operation.is_deposit:
            asked = operation.tries[0]
            lines.setdefault((asked.caller, asked.service, asked.key), []).append(operation)
    for (_, _, key), line in lines.items():
        line.sort(key=_place, reverse=True)
        first, first_stored = "", inf  # of those that took effect later than the one we look at
        for operation in line:
            if first_stored < operation.asked_at:
                yield operation.op, f"of key {key}, it took effect before {first}, which was stored before it was asked"
            if operation.stored_at < first_stored:
                first, first_stored = operation.op, operation.stored_at


def _place(operation: Operation) -> int:
    return min(each.sequence for each in operation.effects)
