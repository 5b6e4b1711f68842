"""What befalls a world: crashes, a wipe of all that is in transit, backups and restores.

A crash clears what a side holds in memory. When the replier crashes, the leases of its workers end, so what
they were running is received again; that the lease takes its time is a delay, and every delay is covered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.caller import reopened, without_reply_run
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
    if put_aside.caller_left:
        if put_aside.caller is None:
            yield Step("caller is backed up", False, state._replace(backups=put_aside._replace(caller=state.caller)))
        else:
            store = put_aside.caller
            newest = put_aside.newest_caller + 1
            if config.caller_epochs:
                store = store._replace(epoch=newest if config.epochs_are_fresh else store.epoch + 1)
            if config.restored_asks_again:
                store = without_reply_run(config, store)
                store = store._replace(lanes=tuple(tuple(map(reopened, rows)) for rows in store.lanes))
            left = put_aside.caller_left - 1
            used = put_aside._replace(caller_used=True, caller_left=left, newest_caller=newest)
            if not left:
                used = used._replace(caller=None)
            yield Step("caller is restored", False, state._replace(caller=store, memory=None, run=None, backups=used))
    if put_aside.replier_left:
        if put_aside.replier is None:
            # No worker lives when a backup is restored, so the backup may be kept without leases.
            kept = put_aside._replace(replier=leases_ended(state.replier))
            yield Step("replier is backed up", False, state._replace(backups=kept))
        else:
            store = put_aside.replier
            newest = put_aside.newest_replier + 1
            minted = newest if config.epochs_are_fresh else store.epoch + 1
            store = store._replace(
                epoch=minted if config.replier_epochs else store.epoch,
                restore_floors=tuple(known.floor for known in store.lanes),
            )
            left = put_aside.replier_left - 1
            used = put_aside._replace(replier_used=True, replier_left=left, newest_replier=newest)
            if not left:
                used = used._replace(replier=None)
            yield Step("replier is restored", False, state._replace(replier=store, workers=(), backups=used))
