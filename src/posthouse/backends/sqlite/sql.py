"""How our statements see a cursor of apsw: with values in, and rows of what the statement selects out.

apsw's own types know only that a value may be anything; a statement knows more, and says so where its
rows are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

Value: TypeAlias = str | int | float | bytes | None
Values: TypeAlias = Sequence[Value] | Mapping[str, Value]


class _Connection(Protocol):
    def changes(self) -> int: ...


class Sql(Protocol):
    """A cursor inside a transaction."""

    @property
    def connection(self) -> _Connection:
        """The connection, which knows how many rows the last statement changed."""
        ...

    def execute(self, statement: str, values: Values = ..., /) -> Sql:
        """Run a statement."""
        ...

    def executemany(self, statement: str, values: Iterable[Values], /) -> Sql:
        """Run a statement for each of these."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Walk through the rows."""
        ...
