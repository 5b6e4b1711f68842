"""Compares what the services have in their stores with what they should have.

What should be there follows from the deliveries alone; what is there, from the services' own tables in
their stores. What the sender believes, or what went over the wire, does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import github
from sender import Delivery

DONE_FOR: dict[type, list[tuple[str, str]]] = {
    github.Delivered: [("stats", "counted")],
    github.Pushed: [("chat", "told push"), ("directory", "answered")],
    github.Discussed: [("chat", "told talk"), ("directory", "answered")],
    github.Checked: [("guard", "watched")],
    github.Alerted: [("guard", "raised alarm"), ("directory", "answered")],
}
"""Which service has to do what for which news."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one service has to show for one thing that it does.

    Attributes:
        service: whose store it is.
        what: it did.
        expected: deliveries for which it should have been done.
        found: entries that are there.
        lost: deliveries without an entry.
        double: entries beyond the first of a delivery, or of a delivery that has no need of one.
    """

    service: str
    what: str
    expected: int
    found: int
    lost: int
    double: int


class Ledger:
    """All stores together, and the board beside them."""

    def __init__(self, data: Path, board: Path, deliveries: Sequence[Delivery]) -> None:
        self._stores = data / "stores"
        self._board = board
        self._deliveries = {delivery.number for delivery in deliveries}
        self._expected: dict[tuple[str, str], set[str]] = {("relay", "received"): self._deliveries}
        for delivery in deliveries:
            for news in github.news_of(delivery.kind, delivery.number, delivery.body):
                for place in DONE_FOR[type(news)]:
                    self._expected.setdefault(place, set()).add(delivery.number)
        self.expected = sum(map(len, self._expected.values()))

    def lines(self) -> list[Line]:
        """Return what is there now."""
        found: dict[tuple[str, str], Counter[str]] = {place: Counter() for place in self._expected}
        for service in dict.fromkeys(service for service, _ in self._expected):
            for what, delivery in self._rows(service, "SELECT what, delivery FROM entries"):
                found.setdefault((service, what), Counter())[delivery] += 1
        lines: list[Line] = []
        for (service, what), entries in found.items():
            expected = self._expected.get((service, what), set())
            there = expected & entries.keys()
            total = entries.total()
            lines.append(
                Line(service, what, len(expected), total, len(expected) - len(there), double=total - len(there))
            )
        return lines

    def count(self) -> int:
        """Return how many entries there are in all stores; cheap enough to be asked often."""
        services = dict.fromkeys(service for service, _ in self._expected)
        return sum(row[0] for service in services for row in self._rows(service, "SELECT count(*) FROM entries"))

    def last(self, service: str, what: str) -> str:
        """Return the text of the last entry of a kind."""
        rows = self._rows(service, "SELECT text FROM entries WHERE what = ? ORDER BY rowid DESC LIMIT 1", what)
        return rows[0][0] if rows else "nothing"

    def board(self) -> tuple[int, int]:
        """Return of how many deliveries the board knows nothing, and how many it has more than once."""
        lines = self._board.read_text(encoding="utf-8").splitlines() if self._board.exists() else []
        shown = Counter(line.partition(" ")[0] for line in lines)
        return len(self._deliveries - shown.keys()), shown.total() - len(shown)

    def _rows(self, service: str, query: str, *values: str) -> list[Any]:
        path = self._stores / f"{service}.db"
        if not path.exists():
            return []
        file = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            file.set_busy_timeout(5000)
            rows: Any = file.execute(query, values)  # pyright: ignore[reportUnknownMemberType] - apsw's, in part
            return list(rows)
        finally:
            file.close()
