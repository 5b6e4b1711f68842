"""Who has a store open, and who is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.backends.sqlite.store.processes import Process
from posthouse.contracts.store import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Instant

_BEAT: Final = """
INSERT INTO posthouse_members VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET until = excluded.until, pid = excluded.pid, started = excluded.started,
  namespace = excluded.namespace, boot = excluded.boot
"""
_LEAVE: Final = "DELETE FROM posthouse_members WHERE instance = ?"
_MEMBERS: Final = "SELECT instance, until, pid, started, namespace, boot FROM posthouse_members ORDER BY instance"


class MemberBooks:
    """What is kept of instances."""

    process: Process
    gone: Callable[[str, Process], bool]
    _sql: Sql

    def beat(self, instance: str, until: Instant) -> None:
        """Enter an instance of this process, or renew its lease."""
        self._sql.execute(_BEAT, (instance, until, *self.process))

    def leave(self, instance: str) -> None:
        """Take an instance out."""
        self._sql.execute(_LEAVE, (instance,))

    def members(self) -> list[Member]:
        """Return who has the store open."""
        return [Member(instance, until) for instance, until, *_ in self._sql.execute(_MEMBERS).fetchall()]

    def judged(self, now: Instant) -> dict[str, bool]:
        """Return who has the store open, and whether they are gone: lease over, or process dead."""
        return {
            instance: until <= now or self.gone(instance, Process(*process))
            for instance, until, *process in self._sql.execute(_MEMBERS).fetchall()
        }
