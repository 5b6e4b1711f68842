"""What the replier does: receive, claim, run, decide, answer, drop, park, and announce a new epoch.

`steps` are the ways in which it moves by itself, `take` what it does with a message. Faults are in `faults`.

An attempt is a number that no other running handler of the same row holds; the store compares attempts for
equality alone, so the model may use a number again once nobody holds it, and states stay few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.checker import Step
from tests.model.state import (
    ABSENT,
    DONE,
    DROPPED,
    FAILED,
    NOT_DONE,
    NOTHING,
    OVER,
    PARKED,
    RECEIVED,
    RUNNING,
    UNDECIDED,
    Ack,
    Cancel,
    Mail,
    Probe,
    ReplierLane,
    ReplierRow,
    ReplierStore,
    Reply,
    Request,
    Resync,
    State,
    Tops,
    Worker,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.config import Config

_ABSENT = ReplierRow()


def with_row(store: ReplierStore, lane: int, number: int, row: ReplierRow, effect: int | None = None) -> ReplierStore:
    """Return the store with one row in place of another and, in the same transaction, an effect."""
    known = store.lanes[lane]
    rows = (*known.rows[:number], row, *known.rows[number + 1 :])
    lanes = (*store.lanes[:lane], known._replace(rows=rows), *store.lanes[lane + 1 :])
    effects = store.effects if effect is None else (*store.effects, effect)
    return store._replace(lanes=lanes, effects=effects)


def decided(row: ReplierRow, state: str) -> ReplierRow:
    """Return the row with its outcome; who asked in which epoch of ours matters no more."""
    return ReplierRow(state, row.payload if state == DONE else NOTHING)


def outcome(config: Config, store: ReplierStore, lane: int, number: int) -> str | None:
    """Return what is answered for a number: None if it is undecided or absent, "" for silence."""
    known = store.lanes[lane]
    if number < known.floor:
        return OVER
    match known.rows[number].state:
        case "absent" | "received" | "running" | "parked":
            return None
        case "done":
            return DONE if config.answers_again else ""
        case "dropped":
            return OVER
        case _:
            return NOT_DONE


def resync(config: Config, store: ReplierStore, lane: int) -> Resync:
    """Return the notice of this store's epoch.

    The epoch is the store's, so the floors of all lanes travel with it: a notice for one lane would hide what
    was rolled back in another. And they are the floors of the restore, not today's.
    """
    if not config.resync_names_all_lanes:
        return Resync((store.lanes[lane].floor,) * len(store.lanes), store.epoch)
    today = tuple(known.floor for known in store.lanes)
    return Resync(store.restore_floors if config.resync_floors_of_restore else today, store.epoch)


def steps(config: Config, mail: Mail, state: State) -> Iterator[Step[State]]:
    """Yield what the replier may do by itself."""
    for worker in dict.fromkeys(state.workers):
        yield from _finish(config, mail, state, worker)
    store = state.replier
    for lane, known in enumerate(store.lanes):
        for number, row in enumerate(known.rows):
            at = f"{lane}/{number}"
            match row.state:
                case "received":
                    yield from _claim(config, state, lane, number)
                case "running":
                    if config.lapse:
                        ended = with_row(store, lane, number, lease_ended(row))
                        yield Step(f"replier: lease on {at} ends", False, state._replace(replier=ended))
                case "parked":
                    if _is_wanted(config, store, row, confirmed=config.parked_confirmed):
                        replayed = with_row(store, lane, number, decided(row, DONE), effect=row.payload)
                        yield Step(f"operator replays {at}", True, state._replace(replier=replayed))
                    rejected = with_row(store, lane, number, decided(row, NOT_DONE))
                    yield Step(f"operator rejects {at}", True, state._replace(replier=rejected))
                case "failed":
                    replayed = with_row(store, lane, number, decided(row, DONE), effect=row.payload)
                    yield Step(
                        f"operator replays what was told as failed {at}", False, state._replace(replier=replayed)
                    )
                case _:
                    pass
            if config.forgets_by_timer and row.state in {DONE, NOT_DONE}:
                forgotten = with_row(store, lane, number, _ABSENT)
                yield Step(f"replier forgets {at} by timer", False, state._replace(replier=forgotten))
    if store.epoch > 0:
        for lane in range(1 if config.resync_names_all_lanes else len(store.lanes)):
            bit = mail.bit(resync(config, store, lane))
            if not state.net & bit:
                yield Step("replier announces its epoch", True, state._replace(net=state.net | bit))


def _is_wanted(config: Config, store: ReplierStore, row: ReplierRow, *, confirmed: bool) -> bool:
    """Return whether an undecided row may be run: the caller asked for it in both stores' present epochs.

    A restore of ours may bring back a request that was decided since; a restore of the caller may have
    lost it, and later calls of its key may have been made. The caller alone knows what it still wants.
    """
    if confirmed and row.confirmed != store.epoch:
        return False
    return row.asker == store.newest_caller or not config.old_callers_rows_wait


def _claim(config: Config, state: State, lane: int, number: int) -> Iterator[Step[State]]:
    """Yield the claim of a received row: its attempt is raised, and who raised it may commit."""
    if len(state.workers) >= config.workers:
        return
    store = state.replier
    row = store.lanes[lane].rows[number]
    if not _is_wanted(config, store, row, confirmed=config.received_confirmed):
        return
    held = {worker.attempt for worker in state.workers if (worker.lane, worker.number) == (lane, number)}
    attempt = next(free for free in range(config.workers + 1) if free not in held)
    claimed = with_row(store, lane, number, row._replace(state=RUNNING, attempt=attempt))
    workers = tuple(sorted((*state.workers, Worker(lane, number, row.payload, attempt))))
    yield Step(f"replier claims {lane}/{number}", True, state._replace(replier=claimed, workers=workers))


def _finish(config: Config, mail: Mail, state: State, worker: Worker) -> Iterator[Step[State]]:
    """Yield the ways in which a running handler may end.

    The reply is put on the wire together with the commit. It may be lost there, so a crash between
    the two is covered.
    """
    store = state.replier
    lane, number, payload = worker.lane, worker.number, worker.payload
    at = f"{lane}/{number}"
    row = store.lanes[lane].rows[number]
    rest = list(state.workers)
    rest.remove(worker)
    free = state._replace(workers=tuple(rest))
    done = ReplierRow(DONE, payload)
    if worker.stage == "owes the row":
        committed = with_row(store, lane, number, done)
        yield Step(f"replier commits the row of {at}", True, free._replace(replier=committed))
        return
    if worker.stage == "owes the effect":
        committed = store._replace(effects=(*store.effects, payload))
        yield Step(f"replier commits the effect of {at}", True, free._replace(replier=committed))
        return
    mine = number >= store.lanes[lane].floor and row.state == RUNNING and row.attempt == worker.attempt
    if config.fenced and not mine:
        yield Step(f"replier: a commit of {at} is fenced off", True, free)
        return

    if config.transaction == "effect first":
        committed = store._replace(effects=(*store.effects, payload))
        owing = tuple(sorted((*rest, worker._replace(stage="owes the row"))))
        yield Step(f"replier commits the effect of {at}", True, state._replace(replier=committed, workers=owing))
    elif config.transaction == "row first":
        committed = with_row(store, lane, number, done)
        owing = tuple(sorted((*rest, worker._replace(stage="owes the effect"))))
        net = state.net | mail.bit(_reply(config, committed, lane, number, row.asker))
        yield Step(f"replier commits the row of {at}", True, state._replace(replier=committed, workers=owing, net=net))
    else:
        committed = with_row(store, lane, number, done, effect=payload)
        net = state.net | mail.bit(_reply(config, committed, lane, number, row.asker))
        if not config.remembers:
            committed = with_row(committed, lane, number, _ABSENT)
        yield Step(f"replier commits {at}", True, free._replace(replier=committed, net=net))
    if config.refuse and mine:
        refused = with_row(store, lane, number, ReplierRow(NOT_DONE))
        yield Step(f"replier refuses {at}", False, free._replace(replier=refused))
    if config.park and mine:
        kept = row._replace(state=PARKED, attempt=NOTHING) if config.decided_is_final else ReplierRow(FAILED, payload)
        yield Step(f"replier parks {at}", False, free._replace(replier=with_row(store, lane, number, kept)))


def _reply(config: Config, store: ReplierStore, lane: int, number: int, asker: int) -> Reply:
    """Return the REPLY for a number that is decided or over."""
    said = outcome(config, store, lane, number) or DONE
    payload = store.lanes[lane].rows[number].payload if said == DONE else NOTHING
    return Reply(lane, number, said, payload, asker, store.epoch)


def take(config: Config, mail: Mail, state: State, message: Request | Cancel | Ack | Probe) -> Iterator[Step[State]]:
    """Yield what the replier does with a message, nothing if it ignores it."""
    changed, net = state.replier, state.net
    match message:
        case Probe():
            if config.probe_fences and message.caller_epoch > changed.newest_caller:
                changed = _hear_new_caller(config, changed, message.caller_epoch)
            tops = tuple(_top(known) for known in changed.lanes)
            net |= mail.bit(Tops(tops, message.caller_epoch, changed.epoch))
        case Ack() if message.replier_epoch == NOTHING:
            # A restored caller may have nothing to send but acks, and must still learn to whom.
            if config.unbound_ack_answered:
                net |= mail.bit(resync(config, changed, message.lane))
        case Ack():
            changed = _forget(config, changed, message)
        case Request() | Cancel():
            lane, number, asker = message.lane, message.number, message.caller_epoch
            unbound = message.replier_epoch == NOTHING
            if unbound:
                net |= mail.bit(resync(config, changed, lane))
            if unbound and config.unbound_refused:
                pass
            elif not unbound and message.replier_epoch != changed.epoch and config.request_stamp_checked:
                net |= mail.bit(resync(config, changed, lane))
            elif asker < changed.newest_caller and config.old_callers_ignored:
                return
            else:
                changed = _receive(changed, message) if isinstance(message, Request) else _cancel(changed, message)
                if asker > changed.newest_caller:
                    changed = _hear_new_caller(config, changed, asker)
                if outcome(config, changed, lane, number):
                    net |= mail.bit(_reply(config, changed, lane, number, asker))
    if changed != state.replier or net != state.net:
        yield Step(f"replier takes {message}", True, state._replace(replier=changed, net=net))


def _top(known: ReplierLane) -> int:
    """Return the number above all that was ever received in a lane."""
    return max([known.floor, *(number + 1 for number, row in enumerate(known.rows) if row.state != ABSENT)])


def _hear_new_caller(config: Config, store: ReplierStore, epoch: int) -> ReplierStore:
    """Return the store after the first message of a newer epoch of the caller: older claims with a key are over."""
    if config.ordered and config.old_callers_claims_revoked:
        lanes = tuple(
            known._replace(rows=tuple(lease_ended(row) if row.asker < epoch else row for row in known.rows))
            for known in store.lanes
        )
        store = store._replace(lanes=lanes)
    return store._replace(newest_caller=epoch)


def lease_ended(row: ReplierRow) -> ReplierRow:
    """Return the row as it is when nobody may commit it any more."""
    return row._replace(state=RECEIVED, attempt=NOTHING) if row.state == RUNNING else row


def leases_ended(store: ReplierStore) -> ReplierStore:
    """Return the store as it is when no worker lives: nothing is running."""
    lanes = tuple(known._replace(rows=tuple(lease_ended(row) for row in known.rows)) for known in store.lanes)
    return store._replace(lanes=lanes)


def _receive(store: ReplierStore, request: Request) -> ReplierStore:
    """Return the store with the request in it: new, or asked for again."""
    lane, number = request.lane, request.number
    row = store.lanes[lane].rows[number]
    if number < store.lanes[lane].floor:
        return store
    if row.state == ABSENT:
        return with_row(
            store,
            lane,
            number,
            ReplierRow(RECEIVED, request.payload, store.epoch, request.caller_epoch),
        )
    if row.state in UNDECIDED:
        asker = max(row.asker, request.caller_epoch)
        return with_row(store, lane, number, row._replace(confirmed=store.epoch, asker=asker))
    return store


def _cancel(store: ReplierStore, cancel: Cancel) -> ReplierStore:
    """Return the store with the request decided as not done, if nobody runs it and nothing is decided."""
    known = store.lanes[cancel.lane]
    if cancel.number < known.floor or known.rows[cancel.number].state not in {ABSENT, RECEIVED, PARKED}:
        return store
    return with_row(store, cancel.lane, cancel.number, ReplierRow(NOT_DONE))


def _forget(config: Config, store: ReplierStore, ack: Ack) -> ReplierStore:
    """Return the store without what the ack says is over: rows below the floor, outcomes of the numbers above."""
    if ack.replier_epoch != store.epoch and config.ack_stamp_checked:
        return store
    known = store.lanes[ack.lane]
    if config.floor_outlives_rows:
        lowest = max(known.floor, ack.floor)
        rows = tuple(_acked(config, row, number, lowest, ack) for number, row in enumerate(known.rows))
    else:  # broken: the row goes, and nothing is remembered
        lowest = known.floor
        rows = tuple(_ABSENT if number in ack.final else row for number, row in enumerate(known.rows))
    if lowest == known.floor and rows == known.rows:
        return store
    lanes = (*store.lanes[: ack.lane], ReplierLane(lowest, rows), *store.lanes[ack.lane + 1 :])
    return store._replace(lanes=lanes)


def _acked(config: Config, row: ReplierRow, number: int, lowest: int, ack: Ack) -> ReplierRow:
    """Return what is left of a row after an ack."""
    if row.state in UNDECIDED and not config.ack_ends_undecided:
        return row
    if number < lowest:
        return _ABSENT
    return ReplierRow(DROPPED) if number in ack.final and row.state != ABSENT else row
