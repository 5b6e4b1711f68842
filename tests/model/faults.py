"""What befalls a world: crashes, a wipe of all that is in transit, backups and restores.

A crash clears what a side holds in memory. When the replier crashes, the leases of its workers end, so what
they were running is received again; that the lease takes its time is a delay, and every delay is covered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.caller import reopened
from tests.model.checker import Step
from tests.model.replier import leases_ended
from tests.model.state import (
    State,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.config import Config


def steps(config: Config, state: State) -> Iterator[Step[State]]:
    """Yield the faults that may happen now."""
    if state.workers:
        replier = leases_ended(state.replier) if config.reclaims else state.replier
        yield Step("replier crashes", False, state._replace(replier=replier, workers=()))
    if state.memory is not None or state.run is not None:
        yield Step("caller crashes", False, state._replace(memory=None, run=None))
    if state.net:
        yield Step("all in transit is wiped", False, state._replace(net=0))
    yield from _restores(config, state)


def _restores(config: Config, state: State) -> Iterator[Step[State]]:
    """Yield the one backup and the one restore of each side."""
    put_aside = state.backups
    if config.caller_restored and not put_aside.caller_used:
        if put_aside.caller is None:
            yield Step("caller is backed up", False, state._replace(backups=put_aside._replace(caller=state.caller)))
        else:
            store = put_aside.caller
            if config.caller_epochs:
                store = store._replace(epoch=store.epoch + 1)
            if config.restored_asks_again:
                store = store._replace(lanes=tuple(tuple(map(reopened, rows)) for rows in store.lanes))
            used = put_aside._replace(caller=None, caller_used=True)
            yield Step("caller is restored", False, state._replace(caller=store, memory=None, run=None, backups=used))
    if config.replier_restored and not put_aside.replier_used:
        if put_aside.replier is None:
            # No worker lives when a backup is restored, so the backup may be kept without leases.
            kept = put_aside._replace(replier=leases_ended(state.replier))
            yield Step("replier is backed up", False, state._replace(backups=kept))
        else:
            store = put_aside.replier
            store = store._replace(
                epoch=store.epoch + 1 if config.replier_epochs else store.epoch,
                restore_floors=tuple(known.floor for known in store.lanes),
            )
            used = put_aside._replace(replier=None, replier_used=True)
            yield Step("replier is restored", False, state._replace(replier=store, workers=(), backups=used))
