"""Compares what the services have in their books with what they should have.

What should be there follows from the deliveries alone; what is there, from the books alone. What the
sender believes, or what went over the wire, does not count.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import github
from sender import Delivery

HEARS = {
    github.Delivered: ("stats", "delivered"),
    github.Pushed: ("chat", "pushed"),
    github.Discussed: ("chat", "discussed"),
    github.Checked: ("guard", "checked"),
    github.Alerted: ("guard", "alerted"),
}
"""Which service has to enter which event, under which name."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one service has to show for one event.

    Attributes:
        service: whose book it is.
        event: what it heard.
        expected: entries that should be there.
        found: those of them that are.
        again: how often one of them was brought again, and had been entered already.
    """

    service: str
    event: str
    expected: int
    found: int
    again: int


class Ledger:
    """All books together."""

    def __init__(self, books: Path, deliveries: Sequence[Delivery]) -> None:
        self._books = books
        self._expected: dict[tuple[str, str], set[str]] = {
            ("relay", "github"): {delivery.number for delivery in deliveries},
            **{place: set() for place in HEARS.values()},
        }
        for delivery in deliveries:
            for event in github.events_of(delivery.kind, delivery.number, delivery.body):
                self._expected[HEARS[type(event)]].add(delivery.number)

    def lines(self) -> list[Line]:
        """Return what is there now."""
        entries: dict[tuple[str, str], Counter[str]] = {}
        for service in dict.fromkeys(service for service, _ in self._expected):
            for event, delivery, times in self._entries(service):
                entries.setdefault((service, event), Counter())[delivery] = times
        lines: list[Line] = []
        for (service, event), expected in self._expected.items():
            have = entries.get((service, event), Counter())
            found = expected & have.keys()
            lines.append(Line(service, event, len(expected), len(found), sum(have.values()) - len(have)))
        return lines

    def lost(self) -> int:
        """Return how many entries are missing now."""
        return sum(line.expected - line.found for line in self.lines())

    def asked(self) -> int:
        """Return how often the directory has answered."""
        return sum(1 for _ in self._entries("directory"))

    def last(self, service: str, event: str) -> str:
        """Return the text of the last entry of an event in a service's book."""
        rows = self._rows(service, "SELECT text FROM entries WHERE event = ? ORDER BY rowid DESC LIMIT 1", event)
        return rows[0][0] if rows else "nothing"

    def _entries(self, service: str) -> Iterator[tuple[str, str, int]]:
        yield from self._rows(service, "SELECT event, delivery, times FROM entries")

    def _rows(self, service: str, query: str, *values: object) -> list[Any]:
        path = self._books / f"{service}.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
            if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchall():
                return []
            return file.execute(query, values).fetchall()
