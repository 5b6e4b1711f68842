"""Which store a file is, and in which life.

The file remembers the machine, the device and the inode that it had. When they are others, it is a copy, or was
put back from one: the original may have gone on, so a new life begins, and whoever speaks with this store
will notice what it has forgotten. To begin one too many costs some questions; to miss one could lose or
repeat an effect.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from posthouse.backends.sqlite.store.reading import remains
from posthouse.backends.sqlite.store.requests import PEERS
from posthouse.backends.sqlite.store.seals import IN, is_sealed, must_be_sealed, seal
from posthouse.protocol.epoch import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant

_log: Final = logging.getLogger("posthouse.store")

CREATED: Final = "created"
MOVED: Final = "moved"
RESTORED: Final = "restored"


_LANES_IN: Final = f"SELECT {IN}, sum FROM posthouse_lanes_in"  # noqa: S608 - names of columns
_LET_GO: Final = """
UPDATE posthouse_requests SET state = 1, instance = '', due = CASE WHEN place BETWEEN ? AND ? THEN 9e999 ELSE ? END
WHERE state = 2
"""
_HOLD: Final = "UPDATE posthouse_requests SET due = 9e999 WHERE place BETWEEN ? AND ? AND state IN (1, 3)"


class Whereabouts(NamedTuple):
    """Where a file lies."""

    machine: str = ""
    device: int = 0
    inode: int = 0


def identify(sql: Sql, where: Whereabouts, *, new_id: Callable[[], str], name: str, now: Instant) -> Identity:
    """Return who the store is; make it one, or begin a new life, where that is due. Inside a transaction.

    Args:
        sql: on the file.
        where: it lies.
        new_id: 128 bits in hex that nobody else has.
        name: of the file, for the log.
        now: what time it is.
    """
    found = sql.execute("SELECT id, epoch, machine, device, inode, sum FROM posthouse_store").fetchall()
    if not found:
        made = new_id()
        id = made[12:] + made[:12]  # its time last: people tell stores by how their ids begin
        sql.execute("INSERT INTO posthouse_store VALUES (1, ?, 1, ?, ?, ?, 0, 0, 0, ?)", (id, *where, seal(id, 1)))
        sql.execute("INSERT INTO posthouse_epochs VALUES (1, ?, ?)", (CREATED, now))
        return Identity(id, 1)
    [[id, epoch, *before, sum]] = found
    must_be_sealed("identity", (id, epoch, sum))
    if Whereabouts(*before) == where:
        return Identity(id, epoch)
    identity = begin_epoch(sql, Identity(id, epoch), where, reason=MOVED, now=now)
    _log.warning(
        "%s lies elsewhere than when it was last open, so it is taken for a copy: the store begins epoch %d, and its"
        " calls are asked for again",
        name,
        identity.epoch,
    )
    return identity


def begin_epoch(sql: Sql, identity: Identity, where: Whereabouts, *, reason: str, now: Instant) -> Identity:
    """Begin a new life of a store, and remember how far each caller's lane was over at this moment.

    What ran runs nowhere in this life: it is received again, and nobody has died at it. In the life that was lost a
    caller may have been told another outcome of what is undecided here. So what others have asked runs only when they
    ask again; what the store asks of itself, and events, may run at once.
    """
    epoch = next_epoch(identity.epoch, now)
    sql.execute(
        "UPDATE posthouse_store SET epoch = ?, machine = ?, device = ?, inode = ?, sum = ?",
        (epoch, *where, seal(identity.id, epoch)),
    )
    sql.execute("INSERT INTO posthouse_epochs VALUES (?, ?, ?)", (epoch, reason, now))
    sql.executemany("INSERT INTO posthouse_epoch_floors VALUES (?, ?, ?, ?, ?)", _floors(sql, epoch))
    sql.execute("DELETE FROM posthouse_members")
    sql.execute(_LET_GO, (*PEERS, now))
    sql.execute(_HOLD, PEERS)
    return Identity(identity.id, epoch)


def _floors(sql: Sql, epoch: int) -> list[tuple[Any, ...]]:
    """Return the rows of how far each lane in is over; that of a damaged lane is a damaged one."""
    rows: list[tuple[Any, ...]] = []
    for row in remains(sql, _LANES_IN, ()):
        lane, floor, ranges = row[0], row[5], row[6]
        sum = seal(epoch, lane, floor, ranges)
        rows.append((epoch, lane, floor, ranges, sum if is_sealed(row) else ~sum))
    return rows


def next_epoch(epoch: int, now: Instant) -> int:
    """Return the epoch of a life that begins now, above all that a peer can have heard of.

    A copy knows the epoch in which it was made, and not those that the original, or another copy, has begun since: one
    more than its own may be taken. So it is the moment, in milliseconds since 1970 (docs/decisions/0014).

    Args:
        epoch: the newest that is known.
        now: what time it is.
    """
    return max(epoch + 1, int(now * 1000))
