"""How many handlers of a service may be at work at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Slots:
    """Places to work at; one is held by each handler at work, none by one that waits for a reply.

    Attributes:
        limit: most places; 1 or more.
        taken: places that are held now.
    """

    limit: int
    taken: int = 0

    def take(self) -> bool:
        """Hold one more place; return whether there was one."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def give(self) -> None:
        """Give a place back.

        Raises:
            ValueError: none is held.
        """
        if self.taken < 1:
            raise ValueError("no place is held")
        self.taken -= 1
