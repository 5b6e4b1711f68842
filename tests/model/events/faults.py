"""What befalls a world of events: crashes, wipes, power cuts, backups and restores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.checker import Step
from tests.model.events.state import DROPPED, NEVER, NOTHING, State
from tests.model.events.subscription import leases_ended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.events.rules import Rules
    from tests.model.events.state import Publisher


def steps(rules: Rules, state: State) -> Iterator[Step[State]]:
    """Yield the faults that may happen now, and flushes that happen by themselves."""
    kept = state.kept
    if state.workers:
        crashed = state._replace(subscriber=leases_ended(state.subscriber), workers=())
        yield Step("subscriber crashes", False, crashed)
    if state.net:
        yield Step("all in transit is wiped", False, state._replace(net=frozenset()))
    if kept.publisher_restores:
        if kept.publisher_backup is None:
            backed_up = kept._replace(publisher_backup=state.publisher)
            yield Step("publisher is backed up", False, state._replace(kept=backed_up))
        else:
            yield Step("publisher is restored", False, _restored(rules, state, kept.publisher_backup))
    if kept.subscriber_restores:
        if kept.subscriber_backup is None:
            backed_up = kept._replace(subscriber_backup=leases_ended(state.subscriber))
            yield Step("subscriber is backed up", False, state._replace(kept=backed_up))
        else:
            left = kept._replace(
                subscriber_restores=kept.subscriber_restores - 1,
                subscriber_flushed=kept.subscriber_flushed and kept.subscriber_backup,
                restored=True,
            )
            if not left.subscriber_restores:
                left = left._replace(subscriber_backup=None)
            restored = state._replace(subscriber=kept.subscriber_backup, workers=(), kept=left)
            yield Step("subscriber is restored", False, restored)
    yield from _power(state)


def _restored(rules: Rules, state: State, backup: Publisher) -> State:
    """Return the state after a restore of the publisher: a new epoch, and the old streams as far as the backup goes."""
    kept, history = state.kept, state.history
    newest = history.newest_epoch + 1
    store = backup
    if rules.new_epoch_after_restore:
        epoch = newest if rules.epochs_are_fresh else backup.epoch + 1
        store = backup._replace(epoch=epoch, epochs=backup.epochs | {epoch})
    left = kept._replace(
        publisher_restores=kept.publisher_restores - 1,
        publisher_flushed=kept.publisher_flushed and store,
    )
    if not left.publisher_restores:
        left = left._replace(publisher_backup=None)
    lost = tuple(
        newest if with_epoch == NOTHING and number >= len(backup.streams[epoch].events) else with_epoch
        for (epoch, number), with_epoch in zip(history.committed, history.lost, strict=True)
    )
    history = history._replace(newest_epoch=newest, lost=lost)
    return state._replace(publisher=store, kept=left, history=history, unsent=NOTHING)


def _power(state: State) -> Iterator[Step[State]]:
    """Yield flushes, and the one power cut of each side."""
    kept = state.kept
    if kept.publisher_flushed is not None and kept.publisher_flushed != state.publisher:
        flushed = kept._replace(publisher_flushed=state.publisher)
        yield Step("publisher flushes", True, state._replace(kept=flushed))
        yield Step("publisher loses power", False, _unflushed(state, kept.publisher_flushed))
    if kept.subscriber_flushed is not None and kept.subscriber_flushed != state.subscriber:
        flushed = kept._replace(subscriber_flushed=state.subscriber)
        yield Step("subscriber flushes", True, state._replace(kept=flushed))
        cut = kept._replace(subscriber_flushed=None)
        store = leases_ended(kept.subscriber_flushed)
        yield Step("subscriber loses power", False, state._replace(subscriber=store, workers=(), kept=cut))


def _unflushed(state: State, store: Publisher) -> State:
    """Return the state after a power cut of the publisher: what was not flushed was never committed."""
    history = state.history
    lost = tuple(
        NEVER if with_epoch == NOTHING and number >= len(store.streams[epoch].events) else with_epoch
        for (epoch, number), with_epoch in zip(history.committed, history.lost, strict=True)
    )
    dropped = frozenset(
        (epoch, number)
        for epoch, number in history.dropped
        if number < len(store.streams[epoch].events) and store.streams[epoch].events[number] == DROPPED
    )
    history = history._replace(lost=lost, dropped=dropped)
    kept = state.kept._replace(publisher_flushed=None)
    return state._replace(publisher=store, history=history, kept=kept)
