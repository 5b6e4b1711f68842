"""The small rows that say how far things are, each with one sum over all that stands in it.

Lanes, feeds, streams, subscriptions, keys and the floors of a life are written whole: one sum is enough. Without it a
bit that turns in a lane's floor would make a request one that was done: a lost message. A row that does not fit its
sum is not used. What lists them leaves it out and logs it, so the others go on; who asks for it gets an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from zlib import crc32

import msgspec

from posthouse.backends.sqlite.store.reading import remains
from posthouse.errors import StoreDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from posthouse.backends.sqlite.sql import Sql

T = TypeVar("T")

_pack: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode

_HINT: Final = (
    "The disk, or a program that wrote to the file, has changed it; what belongs to this row stands still, and the rest"
    " goes on. Restore the store from a backup; `posthouse doctor` lists all such rows."
)


class Sealed(NamedTuple):
    """A table whose rows have one sum.

    Attributes:
        what: one of its rows is called.
        columns: what the sum covers, in this order.
        key: tells its rows apart.
    """

    what: str
    columns: str
    key: str

    def select(self, table: str) -> str:
        """Return a SELECT of all rows, with their sums."""
        return f"SELECT {self.columns}, sum FROM {table}"  # noqa: S608 - names of ours


OUT: Final = "lane, service, epoch, peer_store, peer_epoch, next, floor, ranges, pending, waiting, acked, closed"
IN: Final = "lane, caller_store, caller_epoch, service, next, floor, ranges, closed"
FEED: Final = "lane, publisher_store, publisher_epoch, subscription, topic, floor, ranges, next, head"
STREAM: Final = "stream, topic, epoch, next, first, bytes, retain"
KEY: Final = "scope, key, digest, reference, until"

SEALED: Final[Mapping[str, Sealed]] = {
    "posthouse_lanes_out": Sealed("lane out", OUT, "lane"),
    "posthouse_lanes_in": Sealed("lane in", IN, "lane"),
    "posthouse_feeds": Sealed("feed", FEED, "lane"),
    "posthouse_streams": Sealed("stream", STREAM, "stream"),
    "posthouse_subscriptions": Sealed("subscription", "name, topic, created", "name"),
    "posthouse_keys": Sealed("key", KEY, "scope, key"),
    "posthouse_epoch_floors": Sealed("floor of a life", "epoch, lane, floor, ranges", "epoch, lane"),
    "posthouse_store": Sealed("identity", "id, epoch", "id"),
}


def seal(*values: Any) -> int:
    """Return the sum of a row's values, in the order of its columns."""
    return crc32(_pack(values))


def is_sealed(row: Sequence[Any]) -> bool:
    """Say whether a row is as it was written; its sum stands last."""
    return crc32(_pack(row[:-1])) == row[-1]


def must_be_sealed(what: str, row: Sequence[Any]) -> None:
    """See that a row is as it was written.

    Raises:
        StoreDamagedError: it is not.
    """
    if not is_sealed(row):
        raise broken(what, row)


def broken(what: str, row: Sequence[Any]) -> StoreDamagedError:
    """Return the error that says that a row is not as it was written.

    Args:
        what: it is.
        row: begins with what tells it from others.
    """
    named = " ".join(str(value) for value in row[:-1] if isinstance(value, str) and value)
    text = f"the {what} {row[0]} ({named}) is damaged: its checksum does not fit what is stored"
    error = StoreDamagedError(text, row[0] if isinstance(row[0], int) else 0)
    error.hint = _HINT
    return error


def one(sql: Sql, statement: str, values: Sequence[Any], row_of: Callable[[Sequence[Any]], T]) -> T | None:
    """Return what a SELECT finds first; None when it finds nothing.

    Raises:
        StoreDamagedError: it is damaged.
    """
    return next(map(row_of, remains(sql, statement, values)), None)


def seal_all(sql: Sql) -> None:
    """Write the sums of all rows, which had none before."""
    for table, (_, columns, key) in SEALED.items():
        names = key.split(", ")
        at = [columns.split(", ").index(name) for name in names]
        where = " AND ".join(f"{name} = ?" for name in names)
        rows = sql.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608 - names of ours
        sql.executemany(
            f"UPDATE {table} SET sum = ? WHERE {where}",  # noqa: S608 - as above
            [(seal(*row), *(row[index] for index in at)) for row in rows],
        )
