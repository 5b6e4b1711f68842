"""What this process holds: which delivery belongs to which lease.

A delivery's tag is a number that this process gives out once. So settling twice is seen, and an old
delivery of a message cannot settle a newer one of the same message. Nothing here is on the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Sequence


@final
class Hold:
    """Messages that were handed out together.

    Attributes:
        queue: the number of their queue.
        first: names the range lease; 0 when each has a lease of its own in `returned`.
        base: the tag of the first of them; the others follow.
        ids: the messages, in the order of their tags.
        fences: for messages with leases of their own, which hand-over each is.
        open: how many are not settled.
    """

    __slots__ = ("base", "fences", "first", "ids", "open", "queue")

    def __init__(self, queue: int, first: int, base: int, ids: Sequence[int], fences: Sequence[int]) -> None:
        self.queue = queue
        self.first = first
        self.base = base
        self.ids = ids
        self.fences = fences
        self.open = len(ids)


@final
class Holds:
    """All deliveries of this process that are not settled."""

    __slots__ = ("_next", "by_tag")

    def __init__(self) -> None:
        self._next = 1
        self.by_tag: dict[int, Hold] = {}

    def add(self, queue: int, first: int, ids: Sequence[int], fences: Sequence[int] = ()) -> Hold:
        """Note what was handed out together; its tags are `base` and those that follow."""
        base = self._next
        self._next = end = base + len(ids)
        hold = Hold(queue, first, base, ids, fences)
        self.by_tag.update(dict.fromkeys(range(base, end), hold))
        return hold

    def take(self, tag: int) -> Hold | None:
        """Return the hold of a delivery that is being settled, which it leaves; None if it is not held."""
        hold = self.by_tag.pop(tag, None)
        if hold is not None:
            hold.open -= 1
        return hold

    def put_back(self, tag: int, hold: Hold) -> None:
        """Undo `take`: it was not settled after all."""
        self.by_tag[tag] = hold
        hold.open += 1

    def split(self, tag: int) -> Hold:
        """Give a delivery of a range a hold of its own, which is returned."""
        whole = self.by_tag[tag]
        whole.open -= 1
        self.by_tag[tag] = part = Hold(whole.queue, 0, tag, (whole.ids[tag - whole.base],), (1,))
        return part

    def join(self, tag: int, part: Hold, whole: Hold) -> None:
        """Undo `split`, unless the delivery was settled meanwhile."""
        if self.by_tag.get(tag) is part:
            self.by_tag[tag] = whole
            whole.open += 1
