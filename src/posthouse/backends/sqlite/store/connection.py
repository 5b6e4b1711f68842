"""How a store sees a connection of apsw, whose own types leave open what a row holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.backends.sqlite.sql import Sql


class Connection(Protocol):
    """As much of a connection of apsw as is used here; its own types leave too much open."""

    in_transaction: bool
    authorizer: Callable[[int, str | None, str | None, str | None, str | None], int] | None

    def cursor(self) -> Sql:
        """Return a new cursor."""
        ...

    def execute(self, statement: str, /) -> Sql:
        """Run a statement with a cursor of its own."""
        ...

    def config(self, option: int, value: int, /) -> int:
        """Set an option of the connection."""
        ...

    def status(self, option: int, /) -> tuple[int, int]:
        """Return a value of SQLite's about itself, now and at most."""
        ...

    def set_busy_timeout(self, milliseconds: int, /) -> None:
        """Wait so long for locks."""
        ...

    def interrupt(self) -> None:
        """Break off what runs; from any thread."""
        ...

    def serialize(self, name: str, /) -> bytes:
        """Return the database as bytes."""
        ...

    def deserialize(self, name: str, image: bytes, /) -> None:
        """Be the database of these bytes."""
        ...

    def close(self) -> None:
        """Close it."""
        ...
