"""Deposits of callers without a store: how often one takes effect, whatever fails.

A command line or a script has no store and makes a queued deposit with an idempotency key: it sends until the
engine has confirmed, then forgets it. The replier adopts the deposit: in one transaction it stores the
key and a row as a request of its own store to itself; then it settles the engine's copy. From there on the row
is worked for like any other, so this world stops looking at how (`replier` does), and asks: is a confirmed
deposit adopted, and no more than once?

Faults: the sender dies, the engine's delivery is repeated, the replier crashes or loses power between any two steps.
The replier's store may be restored once: a deposit that the backup does not know is lost then, and nobody can ask for
it again; what the backup has adopted takes effect without being asked for, once in the restored store.
An engine that loses its data is outside of what a deposit promises (mode `queued`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.model.checker import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.config import Verdict

_COPIES: Final = 2


@dataclass(frozen=True, slots=True)
class Adoption:
    """The rules that are in force; a broken variant turns one of them off."""

    name: str
    key_stored_with_row: bool = True
    settled_after_adoption: bool = True
    flushed_before_settling: bool = True
    key_outlives_row: bool = True
    """the key is kept for as long as the sender may repeat itself (24 h), not only until the row is over"""
    same_key_on_every_send: bool = True
    restored: bool = False
    """the replier may be backed up once and restored once"""
    own_rows_run_after_restore: bool = True
    """what a store asks of itself is run after a restore though nobody asks for it again"""
    expect: tuple[Verdict, ...] = ("holds",)


class Store(NamedTuple):
    """The replier's store, as far as one deposit needs it."""

    keys: frozenset[int]
    waiting: int
    """adopted rows that were not worked for yet"""
    effects: int


class Deposit(NamedTuple):
    """One instant: the sender, the engine, the replier's memory, its store, and what a power cut would leave of it."""

    sending: bool
    sent: int
    confirmed: bool
    queued: tuple[int, ...]
    """the keys of the engine's copies"""
    taken: int | None
    """the key of the copy that the replier holds and has not settled"""
    adopted: bool
    """whether it has done its part for that copy"""
    store: Store
    flushed: Store | None
    backup: Store | None = None
    restored: bool = False


class AdoptionWorld:
    """One deposit, explored by `checker`."""

    def __init__(self, config: Adoption) -> None:
        self.config = config

    def start(self) -> Deposit:
        """Return the state before the deposit is sent."""
        empty = Store(frozenset(), 0, 0)
        return Deposit(True, 0, False, (), None, False, empty, empty)

    def steps(self, state: Deposit) -> Iterator[Step[Deposit]]:
        """Yield every way out of a state."""
        yield from self._sender(state)
        yield from self._replier(state)
        yield from self._faults(state)

    def _sender(self, state: Deposit) -> Iterator[Step[Deposit]]:
        if not state.sending:
            return
        if state.sent < _COPIES:
            key = 0 if self.config.same_key_on_every_send else state.sent
            queued = tuple(sorted((*state.queued, key)))
            yield Step("sender deposits", True, state._replace(sent=state.sent + 1, queued=queued))
        if state.sent:
            yield Step("engine confirms", True, state._replace(sending=False, confirmed=True))
        yield Step("sender dies", False, state._replace(sending=False))

    def _replier(self, state: Deposit) -> Iterator[Step[Deposit]]:
        config, store = self.config, state.store
        if state.taken is None:
            for key in sorted(set(state.queued)):
                rest = list(state.queued)
                rest.remove(key)
                # The engine keeps a copy that was taken until it is settled: `taken` is that copy.
                yield Step("replier takes a copy", True, state._replace(queued=tuple(rest), taken=key, adopted=False))
        elif not config.settled_after_adoption:
            yield Step("replier settles, then adopts", True, self._adopted(state)._replace(taken=None))
            yield Step("replier settles, then crashes", False, state._replace(taken=None))
        elif not state.adopted:
            yield Step("replier adopts", True, self._adopted(state))
        else:
            flushed = store if state.flushed and config.flushed_before_settling else state.flushed
            yield Step("replier settles", True, state._replace(taken=None, adopted=False, flushed=flushed))
        if store.waiting and (config.own_rows_run_after_restore or not state.restored):
            # An adopted row takes effect once: that is what the model of `replier` shows.
            keys = store.keys if config.key_outlives_row else frozenset[int]()
            done = Store(keys, store.waiting - 1, store.effects + 1)
            yield Step("adopted row takes effect", True, state._replace(store=done))
        if state.flushed and state.flushed != store:
            yield Step("replier flushes", True, state._replace(flushed=store))

    def _adopted(self, state: Deposit) -> Deposit:
        """Return the state after the transaction that adopts the taken copy, or finds its key."""
        store = state.store
        if state.taken is None or state.taken in store.keys:
            return state._replace(adopted=True)
        keys = store.keys | {state.taken} if self.config.key_stored_with_row else store.keys
        return state._replace(adopted=True, store=Store(keys, store.waiting + 1, store.effects))

    def _faults(self, state: Deposit) -> Iterator[Step[Deposit]]:
        store = state.store
        back = state.queued if state.taken is None else tuple(sorted((*state.queued, state.taken)))
        if state.taken is not None:
            yield Step("replier crashes", False, state._replace(queued=back, taken=None, adopted=False))
        if state.flushed:
            cut = state._replace(queued=back, taken=None, adopted=False, store=state.flushed, flushed=None)
            yield Step("replier loses power", False, cut)

        if self.config.restored and not state.restored:
            if state.backup is None:
                yield Step("replier is backed up", False, state._replace(backup=store))
            else:
                flushed = state.flushed and state.backup
                back_then = state._replace(store=state.backup, flushed=flushed, backup=None, restored=True)
                yield Step("replier is restored", False, back_then._replace(queued=back, taken=None, adopted=False))

    def violation(self, state: Deposit) -> str | None:
        """Return what is broken, or None."""
        adopted = state.store.effects + state.store.waiting
        if adopted > 1:
            return "S1: a deposit was adopted twice"
        if state.confirmed and not state.restored and not (state.queued or state.taken is not None or adopted):
            return "a confirmed deposit is lost"
        return None

    def is_goal(self, state: Deposit) -> bool:
        """Return whether all is over: nothing on the way, and the effect there unless it was never confirmed."""
        over = not (state.sending or state.queued or state.taken is not None or state.store.waiting)
        return over and (state.store.effects == 1 or not state.confirmed or state.restored)


CORRECT: Final = (Adoption("adoption"), Adoption("adoption-restored", restored=True))
BROKEN: Final = (
    Adoption("x-own-rows-wait", restored=True, own_rows_run_after_restore=False, expect=("liveness",)),
    Adoption("x-adoption-without-key", key_stored_with_row=False, expect=("safety",)),
    Adoption("x-adoption-settled-first", settled_after_adoption=False, expect=("safety",)),
    Adoption("x-adoption-unflushed", flushed_before_settling=False, expect=("safety",)),
    Adoption("x-adoption-key-goes-with-row", key_outlives_row=False, expect=("safety",)),
    Adoption("x-adoption-new-key-on-resend", same_key_on_every_send=False, expect=("safety",)),
)
