"""The processes that have the file open: entered, taken out, and cleaned up after when they die."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from posthouse.backends.sqlite.leasing import end_of_holder
from posthouse.backends.sqlite.queues import remove
from posthouse.backends.sqlite.waiting import RECEIVER, REGISTRY, Ring, wake_all

if TYPE_CHECKING:
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant


def join(sql: Sql, peer: str, now: Instant) -> None:
    """Enter this process; its bell hangs already."""
    sql.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", (peer, os.getpid(), now))


def entered(sql: Sql) -> list[str]:
    """Return all processes that were not seen to leave."""
    return [peer for (peer,) in sql.execute("SELECT peer FROM peers").fetchall()]


def leave(sql: Sql, peer: str, now: Instant) -> list[Ring]:
    """Take out a process that ends in order: what it holds goes back as untouched."""
    return _forget(sql, peer, now, untouched=True)


def bury(sql: Sql, peer: str, now: Instant) -> list[Ring]:
    """Take out a process that died: what it held counts as an attempt. Twice is once."""
    return _forget(sql, peer, now, untouched=False)


def _forget(sql: Sql, peer: str, now: Instant, *, untouched: bool) -> list[Ring]:
    rings: list[Ring] = []
    sql.execute("DELETE FROM waiting WHERE peer = ?", (peer,))
    for queue in end_of_holder(sql, peer, now, untouched=untouched):
        rings += wake_all(sql, queue, RECEIVER)
    for (number,) in sql.execute("SELECT number FROM queues WHERE peer = ?", (peer,)).fetchall():
        rings += remove(sql, number)
    sql.execute("DELETE FROM instances WHERE peer = ?", (peer,))
    if sql.connection.changes():
        rings += changed(sql)
    sql.execute("DELETE FROM peers WHERE peer = ?", (peer,))
    return rings


def changed(sql: Sql) -> list[Ring]:
    """Note that the registry has changed; return the rings that say so to every process."""
    sql.execute("UPDATE changes SET generation = generation + 1")
    return [(peer, REGISTRY) for (peer,) in sql.execute("SELECT peer FROM peers").fetchall()]
