"""What this process holds: which delivery belongs to which lease.

A delivery's tag is its hold and its place in it, and the hold knows what of it is settled. So settling
twice is seen, and an old delivery of a message cannot settle a newer one. Nothing here is on the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.contracts.transport import Delivery


@final
class Hold:
    """Messages that were handed out together.

    Attributes:
        owner: who holds them: the transport that took them, from its opening to its closing.
        queue: the number of their queue.
        first: names the range lease; 0 when each has a lease of its own in `returned`.
        ids: the messages.
        fences: for messages with leases of their own, which hand-over each is.
        settled: for each, whether it is settled, or on its way there.
        open: how many are not.
    """

    __slots__ = ("fences", "first", "ids", "open", "owner", "queue", "settled")

    def __init__(
        self, owner: object, queue: int, *, first: int = 0, ids: Sequence[int], fences: Sequence[int] = ()
    ) -> None:
        self.owner = owner
        self.queue = queue
        self.first = first
        self.ids = ids
        self.fences = fences
        self.settled = bytearray(len(ids))
        self.open = len(ids)


Tag: TypeAlias = tuple[Hold, int]

NO_TAG: Tag = (Hold(None, 0, ids=()), 0)
"""The tag of a delivery that was only looked at."""


def split(delivery: Delivery) -> tuple[Tag, Hold]:
    """Give a delivery of a range a hold of its own; return the tag that it had, and the hold that it has."""
    before: Tag = delivery.tag
    whole, index = before
    whole.settled[index] = 1
    whole.open -= 1
    part = Hold(whole.owner, whole.queue, ids=(whole.ids[index],), fences=(1,))
    delivery.tag = (part, 0)
    return before, part


def join(delivery: Delivery, before: Tag, part: Hold) -> None:
    """Undo `split`, unless the delivery was settled meanwhile."""
    if not part.settled[0]:
        whole, index = delivery.tag = before
        whole.settled[index] = 0
        whole.open += 1
