"""The registry in the same file: contracts, subscriptions, instances.

Every change but a heartbeat raises one counter, and rings every process; the slow poll compares the
counter, should a ring be missed. An instance is gone when it leaves, when its lease runs out, or when
the bell of its process is dead, which is seen at once.

Contracts keep when they were last announced, so that one which was not for long can be told; nothing
forgets them by itself yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import msgspec

from posthouse.backends.sqlite import peers, queues
from posthouse.contracts.registry import Contract, Instance, SubscriptionRecord
from posthouse.message.message import Mode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.database import Database
    from posthouse.backends.sqlite.sql import Sql
    from posthouse.backends.sqlite.waiting import Ring
    from posthouse.clock import Clock, Instant, Seconds

_HEARTBEAT: Final[Seconds] = 5.0
_LEASE: Final[Seconds] = 3 * _HEARTBEAT
_FRESH: Final[Seconds] = 3600.0
"""A contract that is announced again unchanged is marked as seen at most this often."""

_KEEP_CONTRACT: Final = "INSERT OR REPLACE INTO contracts (service, body, announced) VALUES (?, ?, ?)"
_KEEP_SUBSCRIPTION: Final = """
INSERT OR REPLACE INTO subscriptions (name, service, topic, mode, declared) VALUES (?, ?, ?, ?, 1)"""
_UNDECLARE: Final = "UPDATE subscriptions SET declared = 0 WHERE service = ?"
_KEEP_INSTANCE: Final = "INSERT OR REPLACE INTO instances (id, peer, body, until) VALUES (?, ?, ?, ?)"


@final
class SqliteRegistry:
    """Knows contracts, subscriptions and instances; see contracts.registry.Registry.

    Args:
        database: the file, shared with the transport of this process.
        clock: tells when leases end.
    """

    heartbeat: Seconds = _HEARTBEAT

    def __init__(self, database: Database, *, clock: Clock) -> None:
        database.registry_rung = self._poll
        database.polls.append(self._poll)
        database.resets.append(self._reset)
        self._database = database
        self._clock = clock
        self._watchers: list[Callable[[], None]] = []
        self._resets: list[Callable[[], None]] = []
        self._ours: set[str] = set()  # instances that we entered
        self._generation = -1  # that the watchers were told of
        self._is_open = False

    async def open(self) -> None:
        """Open the file."""
        if self._is_open:
            return
        await self._database.open()
        self._generation = await self._database.call(_generation, reads=True)
        self._is_open = True

    async def close(self) -> None:
        """Take our instances out, and close."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if self._ours:
                await self.leave(list(self._ours))
        finally:
            await self._database.close()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` soon after anything but a heartbeat has changed."""
        self._watchers.append(changed)

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the file was deleted, and another one is open."""
        self._resets.append(callback)

    # --- contracts and subscriptions -----------------------------------------------------------------

    async def announce(self, contract: Contract) -> None:
        """Replace the contract of a service, and keep its subscriptions."""
        now = self._clock.now()
        rings = await self._database.call(lambda sql: _announce(sql, contract, now), flush=True)
        self._database.ring(rings)

    async def forget(self, service: str) -> bool:
        """Remove a contract; return whether there was one."""
        return await self._remove("DELETE FROM contracts WHERE service = ?", service)

    async def contracts(self) -> list[Contract]:
        """Return all contracts, by name."""
        rows = await self._database.call(_rows("SELECT body, announced FROM contracts ORDER BY service"), reads=True)
        return [
            msgspec.structs.replace(msgspec.json.decode(body, type=Contract), announced=announced)
            for body, announced in rows
        ]

    async def subscriptions(self) -> list[SubscriptionRecord]:
        """Return all subscriptions, by name."""
        rows = await self._database.call(
            _rows("SELECT name, topic, mode, declared FROM subscriptions ORDER BY name"), reads=True
        )
        return [
            SubscriptionRecord(name=name, topic=topic, mode=Mode(mode), declared=bool(declared))
            for name, topic, mode, declared in rows
        ]

    async def unsubscribe(self, name: str) -> bool:
        """Remove a subscription; return whether there was one."""
        return await self._remove("DELETE FROM subscriptions WHERE name = ?", name)

    async def _remove(self, statement: str, name: str) -> bool:
        def remove(sql: Sql) -> tuple[bool, list[Ring]]:
            sql.execute(statement, (name,))
            return (True, peers.changed(sql)) if sql.connection.changes() else (False, [])

        removed, rings = await self._database.call(remove, flush=True)
        self._database.ring(rings)
        return removed

    # --- instances -----------------------------------------------------------------------------------

    async def register(self, instances: Sequence[Instance]) -> None:
        """Enter these instances, or renew their leases with what changed."""
        now = self._clock.now()
        beats = [msgspec.structs.replace(instance, seen=now) for instance in instances]
        rings = await self._database.call(lambda sql: _register(sql, beats, now + _LEASE))
        self._ours.update(instance.id for instance in instances)
        self._database.ring(rings)

    async def leave(self, ids: Sequence[str]) -> None:
        """Take these instances out, and the queues that go with them."""
        rings = await self._database.call(lambda sql: _leave(sql, ids))
        self._ours.difference_update(ids)
        self._database.ring(rings)

    async def instances(self) -> list[Instance]:
        """Return the instances whose lease is good and whose process lives, oldest first."""
        now = self._clock.now()
        rows = await self._database.call(_rows("SELECT peer, body FROM instances WHERE until > ?", now), reads=True)
        alive = {peer: self._alive(peer) for peer, _ in rows}
        found = [msgspec.json.decode(body, type=Instance) for peer, body in rows if alive[peer]]
        return sorted(found, key=lambda instance: (instance.started, instance.id))

    def _alive(self, peer: str) -> bool:
        bells = self._database.bells
        return peer == self._database.peer or bells is None or bells.alive(peer)

    # --- what wakes us -------------------------------------------------------------------------------

    def _changed(self) -> None:
        for watcher in self._watchers:
            watcher()

    def _reset(self) -> None:
        if self._is_open:
            self._generation = -1  # the new file may have come to the same number
            for tell in self._resets:
                tell()
            self._changed()

    def _poll(self) -> None:
        """Look whether anything has changed, rung or not, and take out instances whose lease has run out."""
        if self._is_open:
            now = self._clock.now()
            self._database.call(lambda sql: (_generation(sql), _expired(sql, now)), reads=True).add_done_callback(
                self._polled
            )

    def _polled(self, polled: asyncio.Future[tuple[int, list[str]]]) -> None:
        if polled.cancelled() or polled.exception() is not None or not self._is_open:
            return  # the next poll will tell
        generation, expired = polled.result()
        if expired:
            now = self._clock.now()
            # looked for anew in the transaction that takes them out: one of them may have come back by then
            self._database.call(lambda sql: _leave(sql, _expired(sql, now))).add_done_callback(self._left)
        if generation != self._generation:
            self._generation = generation
            self._changed()

    def _left(self, left: asyncio.Future[list[Ring]]) -> None:
        if not left.cancelled() and left.exception() is None:
            self._database.ring(left.result())


def _rows(statement: str, *values: str | float) -> Callable[[Sql], list[tuple[Any, ...]]]:
    return lambda sql: sql.execute(statement, values).fetchall()


def _generation(sql: Sql) -> int:
    [[generation]] = sql.execute("SELECT generation FROM changes").fetchall()
    return generation


def _expired(sql: Sql, now: Instant) -> list[str]:
    return [instance for (instance,) in sql.execute("SELECT id FROM instances WHERE until <= ?", (now,)).fetchall()]


def _announce(sql: Sql, contract: Contract, now: Instant) -> list[Ring]:
    body = msgspec.json.encode(msgspec.structs.replace(contract, announced=0.0)).decode()
    found = sql.execute("SELECT body, announced FROM contracts WHERE service = ?", (contract.service,)).fetchall()
    declared = sql.execute(
        "SELECT name, topic, mode FROM subscriptions WHERE service = ? AND declared ORDER BY name", (contract.service,)
    ).fetchall()
    wanted = sorted((record.name, record.topic, int(record.mode)) for record in contract.subscriptions)
    same = bool(found) and found[0][0] == body and declared == wanted
    if not same or now - found[0][1] >= _FRESH:
        sql.execute(_KEEP_CONTRACT, (contract.service, body, now))
    if same:
        return []
    sql.execute(_UNDECLARE, (contract.service,))
    for record in contract.subscriptions:
        sql.execute(_KEEP_SUBSCRIPTION, (record.name, contract.service, record.topic, int(record.mode)))
    return peers.changed(sql)


def _register(sql: Sql, instances: Sequence[Instance], until: Instant) -> list[Ring]:
    news = False
    for instance in instances:
        found = sql.execute("SELECT body FROM instances WHERE id = ?", (instance.id,)).fetchall()
        before = msgspec.json.decode(found[0][0], type=Instance) if found else None
        news = news or before is None or _lasting(before) != _lasting(instance)
        sql.execute(_KEEP_INSTANCE, (instance.id, instance.peer, msgspec.json.encode(instance).decode(), until))
    return peers.changed(sql) if news else []


def _lasting(instance: Instance) -> Instance:
    """Return it without what every heartbeat changes."""
    return msgspec.structs.replace(instance, load=0, seen=0.0)


def _leave(sql: Sql, ids: Sequence[str]) -> list[Ring]:
    rings: list[Ring] = []
    gone = 0
    for instance in ids:
        sql.execute("DELETE FROM instances WHERE id = ?", (instance,))
        gone += sql.connection.changes()
        for (number,) in sql.execute(
            "SELECT number FROM queues WHERE ephemeral = ? AND peer <> ''", (instance,)
        ).fetchall():
            rings += queues.remove(sql, number)
    return rings + peers.changed(sql) if gone else rings
