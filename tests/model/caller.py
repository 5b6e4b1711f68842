"""What the caller does: number, send, apply, ack, cancel, and re-drive after the replier's restore.

`steps` are the ways in which it moves by itself, `take` what it does with a message. Faults are in `faults`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.checker import Step
from tests.model.state import (
    ANSWERED,
    CANCEL_WANTED,
    CLOSED,
    CONFLICT,
    DONE,
    FINAL,
    FORGOTTEN,
    HELD,
    NOT_DONE,
    NOTHING,
    OPEN,
    OVER,
    REDRIVING,
    UNKNOWN,
    VOID,
    Ack,
    CallerRow,
    CallerStore,
    Cancel,
    Mail,
    Probe,
    Reply,
    Request,
    Resync,
    Seen,
    State,
    Tops,
    Uncommitted,
    Unsent,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.config import Config


def with_row(store: CallerStore, lane: int, number: int, row: CallerRow) -> CallerStore:
    """Return the store with one row in place of another."""
    rows = store.lanes[lane]
    return with_lane(store, lane, (*rows[:number], row, *rows[number + 1 :]))


def with_lane(store: CallerStore, lane: int, rows: tuple[CallerRow, ...]) -> CallerStore:
    """Return the store with one lane in place of another."""
    return store._replace(lanes=(*store.lanes[:lane], rows, *store.lanes[lane + 1 :]))


def is_final(config: Config, row: CallerRow) -> bool:
    """Return whether an ack may say that the replier can forget the row."""
    return row.state in FINAL or (config.answered_is_acked and row.state == ANSWERED)


def floor(config: Config, store: CallerStore, lane: int) -> int:
    """Return the lowest number that is not final; CLOSED when an old lane has none."""
    rows = store.lanes[lane]
    lowest = 0
    if config.floor_is_lowest_open:
        for row in rows:
            passed = is_final(config, row) or (row.state == HELD and config.numbering == "early")
            if not passed:
                break
            lowest += 1
    else:
        lowest = max((number + 1 for number, row in enumerate(rows) if is_final(config, row)), default=0)
    # An old lane is closed when nothing of it is open, and nobody has to be asked any more what its top is.
    asks = config.restored_probes and _unsure(store)
    if not (rows or config.closes_unknown_lanes):
        return 0
    return CLOSED if lane < store.epoch and lowest == len(rows) and not asks else lowest


def final_numbers(config: Config, store: CallerStore, lane: int) -> tuple[int, ...]:
    """Return the numbers of a lane that an ack may name."""
    return tuple(number for number, row in enumerate(store.lanes[lane]) if is_final(config, row))


def may_send(config: Config, store: CallerStore, lane: int, number: int) -> bool:
    """Return whether order allows to send this row: with a key, no earlier row may hold it."""
    if not (config.ordered and config.order_held_by_caller):
        return True
    earlier = [row for rows in store.lanes[:lane] for row in rows]
    earlier.extend(store.lanes[lane][:number])
    return not any(_holds_key(config, row) for row in earlier)


def _holds_key(config: Config, row: CallerRow) -> bool:
    """Return whether later rows of its key must wait: until the replier has decided, and no longer.

    If they waited for the handler that uses the answer, two handlers could wait for each other.
    """
    return row.state not in FINAL and not (config.answered_frees_key and row.state == ANSWERED)


def _unsure(store: CallerStore) -> bool:
    """Return whether a call waits that may have had a number in a history that a restore has lost."""
    return any(call.born < store.epoch for call in store.waiting)


def request(store: CallerStore, lane: int, number: int) -> Request:
    """Return the REQUEST of a row, as this store would send it now."""
    return Request(lane, number, store.lanes[lane][number].payload, store.epoch, store.peer_epoch)


def steps(config: Config, mail: Mail, state: State) -> Iterator[Step[State]]:
    """Yield what the caller may do by itself."""
    yield from _new_calls(config, mail, state)
    store = state.caller
    if store.waiting:
        yield from _number(config, mail, state)
        if config.cancel:
            yield from _cancel_waiting(config, state)
    for lane, rows in enumerate(store.lanes):
        for number, row in enumerate(rows):
            at = f"{lane}/{number}"
            match row.state:
                case "held":
                    changed = with_row(store, lane, number, row._replace(state=OPEN))
                    yield Step(f"caller commits {at}", True, state._replace(caller=changed))
                    changed = with_row(store, lane, number, row._replace(state=VOID))
                    yield Step(f"caller rolls back {at}", False, state._replace(caller=changed))
                case "open" | "re-driving":
                    if config.resends and state.memory is None and may_send(config, store, lane, number):
                        bit = mail.bit(request(store, lane, number))
                        if not state.net & bit:
                            yield Step(f"caller sends {at}", True, state._replace(net=state.net | bit))
                    if config.cancel and row.state == OPEN:
                        wanted = CANCEL_WANTED if config.cancel_decided_by_replier else NOT_DONE
                        changed = with_row(store, lane, number, row._replace(state=wanted))
                        yield Step(f"application cancels {at}", False, state._replace(caller=changed))
                case "cancel wanted":
                    bit = mail.bit(Cancel(lane, number, store.epoch, store.peer_epoch))
                    if not state.net & bit:
                        yield Step(f"caller sends cancel {at}", True, state._replace(net=state.net | bit))
                case "done" if config.forgets and state.replier.lanes[lane].floor > number:
                    gone = with_row(store, lane, number, row._replace(state=FORGOTTEN))
                    yield Step(f"caller forgets {at}", False, state._replace(caller=gone))
                case _:
                    pass
        lowest, final = floor(config, store, lane), final_numbers(config, store, lane)
        if lowest or final:
            bit = mail.bit(Ack(lane, lowest, final, store.peer_epoch))
            if not state.net & bit:
                label = f"caller acks lane {lane}: floor {lowest}, final {final}"
                yield Step(label, True, state._replace(net=state.net | bit))


def _new_calls(config: Config, mail: Mail, state: State) -> Iterator[Step[State]]:
    """Yield the application's next call: state change and row in one transaction."""
    store = state.caller
    lane, rows = store.epoch, store.lanes[store.epoch]
    match state.memory:
        case None if state.created < config.calls and (not config.places or _made_beside(store) < config.beside):
            payload = state.created
            label = f"application calls {payload}"
            made = state._replace(created=payload + 1)
            if config.numbering == "later":
                changed = store._replace(waiting=(*store.waiting, Waiting(payload, store.epoch)))
                yield Step(label, False, made._replace(caller=changed))
            elif config.numbering != "at commit":
                changed = with_lane(store, lane, (*rows, CallerRow(payload, HELD)))
                yield Step(label, False, made._replace(caller=changed))
            elif config.commits_first:
                changed = with_lane(store, lane, (*rows, CallerRow(payload)))
                memory = Unsent(lane, len(rows)) if config.unsent else None
                yield Step(label, False, made._replace(caller=changed, memory=memory))
            else:  # broken: on the wire first, then in the store
                bit = mail.bit(Request(lane, len(rows), payload, store.epoch, store.peer_epoch))
                yield Step(
                    f"{label} uncommitted", False, made._replace(net=state.net | bit, memory=Uncommitted(payload))
                )
        case Uncommitted(payload):
            changed = with_lane(store, lane, (*rows, CallerRow(payload)))
            yield Step(f"caller commits {payload}", True, state._replace(caller=changed, memory=None))
        case Unsent(lane, number):
            bit = mail.bit(request(store, lane, number))
            yield Step(f"caller sends {lane}/{number}", True, state._replace(net=state.net | bit, memory=None))
        case _:
            pass


def _made_beside(store: CallerStore) -> int:
    """Return how many calls the application has made beside its handler."""
    return len(store.waiting) + sum(row.place == NOTHING for rows in store.lanes for row in rows)


def _number(config: Config, mail: Mail, state: State) -> Iterator[Step[State]]:
    """Yield the numbering of the first call that waits, or the question whether it ever had a number."""
    store = state.caller
    first, *rest = store.waiting
    if config.restored_probes and first.born < store.epoch:
        bit = mail.bit(Probe(store.epoch))
        if not state.net & bit:
            yield Step("caller probes", True, state._replace(net=state.net | bit))
        return
    if config.ordered and any(_holds_key(config, row) for rows in store.lanes for row in rows):
        return
    rows = (*store.lanes[store.epoch], CallerRow(first.payload))
    numbered = with_lane(store, store.epoch, rows)._replace(waiting=tuple(rest))
    yield Step(f"caller numbers {first.payload}", True, state._replace(caller=numbered))


def _cancel_waiting(config: Config, state: State) -> Iterator[Step[State]]:
    """Yield the end of each call that waits: nobody else knows of it, unless a history that was lost has sent it."""
    store = state.caller
    for at, call in enumerate(store.waiting):
        left = store._replace(waiting=(*store.waiting[:at], *store.waiting[at + 1 :]))
        if call.born < store.epoch and config.old_unsent_is_unknown:
            changed = left._replace(unknown=(*store.unknown, call.payload))
        else:
            rows = (*store.lanes[store.epoch], CallerRow(call.payload, NOT_DONE))
            changed = with_lane(left, store.epoch, rows)
        yield Step(f"application cancels {call.payload}, which waits", False, state._replace(caller=changed))


def take(config: Config, state: State, message: Reply | Resync | Tops) -> Iterator[Step[State]]:
    """Yield what the caller does with a message, nothing if it ignores it."""
    match message:
        case Reply():
            changed = _apply(config, state.caller, message)
        case Resync():
            changed = _resync(config, state.caller, message)
        case Tops():
            changed = _settle_waiting(state.caller, message)
    if changed is not None:
        yield Step(f"caller takes {message}", True, state._replace(caller=changed))


def _apply(config: Config, store: CallerStore, reply: Reply) -> CallerStore | None:
    """Return the store with the reply in it, or None if the reply changes nothing."""
    lane, number, outcome = reply.lane, reply.number, reply.outcome
    if number >= len(store.lanes[lane]):
        return None
    if reply.replier_epoch != store.peer_epoch and config.reply_stamp_checked:
        return None
    if reply.caller_epoch != store.epoch and config.reply_echo_checked:
        return None
    row = store.lanes[lane][number]
    match row.state:
        case "open" if row.place != NOTHING and not store.handled and outcome != OVER:
            if config.reply_runs and store.reply_run is None:
                store = store._replace(reply_run=Seen(outcome, store.peer_epoch))
            return with_row(store, lane, number, row._replace(state=ANSWERED, answer=outcome, reply=reply.payload))
        case "open" | "cancel wanted":
            if outcome == DONE:
                changed = with_row(store, lane, number, row._replace(state=DONE, reply=reply.payload))
                if row.place != NOTHING:
                    return changed  # the handler did not use it
                return changed._replace(applied=(*store.applied, row.payload))
            end = {NOT_DONE: NOT_DONE, OVER: UNKNOWN}[outcome]
            return with_row(store, lane, number, row._replace(state=end))
        case "re-driving":
            end = _redriven(config, outcome, own_epoch=lane == store.epoch)
            return None if end is None else with_row(store, lane, number, row._replace(state=end))
        case "done" if outcome == DONE and not config.applies_once and len(store.applied) < 3:
            return store._replace(applied=(*store.applied, row.payload))
        case _:
            return None


def _redriven(config: Config, outcome: str, *, own_epoch: bool) -> str | None:
    """Return the end of a re-driven row: what a restored replier says about a call that was done."""
    if outcome == DONE:
        return DONE
    if outcome == NOT_DONE:
        return CONFLICT if config.redrive_refused_is_conflict else None
    if not config.redrive_over_is_done:
        return None
    # OVER: the restored store holds the effect, unless this store was rolled back as well:
    # then the number may be over for a reason that was forgotten.
    return DONE if own_epoch or not config.redrive_over_needs_own_epoch else UNKNOWN


def _settle_waiting(store: CallerStore, tops: Tops) -> CallerStore | None:
    """Return the store after the answer to a probe: what waits was never numbered, or nobody knows.

    A number that the replier received and this store does not know may have been that of any call that waits.
    """
    if tops.caller_epoch != store.epoch or tops.replier_epoch != store.peer_epoch or not _unsure(store):
        return None
    lost = any(top > len(rows) for top, rows in zip(tops.tops, store.lanes[: store.epoch], strict=False))
    if lost:
        unsure = tuple(call.payload for call in store.waiting if call.born < store.epoch)
        sure = tuple(call for call in store.waiting if call.born == store.epoch)
        return store._replace(waiting=sure, unknown=store.unknown + unsure)
    return store._replace(waiting=tuple(call._replace(born=store.epoch) for call in store.waiting))


def _resync(config: Config, store: CallerStore, resync: Resync) -> CallerStore | None:
    """Return the store as a new epoch of the replier leaves it: what was done above the floors is asked for again."""
    if resync.replier_epoch <= store.peer_epoch:
        return None
    lanes = tuple(
        tuple(_asked_again(config, row, below_floor=number < lowest) for number, row in enumerate(rows))
        for rows, lowest in zip(store.lanes, resync.floors, strict=True)
    )
    if config.answered_reopens:
        store = without_reply_run(config, store)
    return store._replace(lanes=lanes, peer_epoch=resync.replier_epoch)


def without_reply_run(config: Config, store: CallerStore) -> CallerStore:
    """Return the store without the run that would hear an answer which is taken back."""
    return store._replace(reply_run=None) if config.reply_runs_withdrawn else store


def _asked_again(config: Config, row: CallerRow, *, below_floor: bool) -> CallerRow:
    """Return a row as a new epoch of the replier leaves it."""
    if row.state == DONE and not below_floor:
        return row._replace(state=REDRIVING)
    if row.state == FORGOTTEN and not below_floor and config.forgotten_is_listed:
        return row._replace(state=UNKNOWN)
    return reopened(row) if config.answered_reopens else row


def reopened(row: CallerRow) -> CallerRow:
    """Return the row without an answer that no handler has committed."""
    return row._replace(state=OPEN, answer="", reply=NOTHING) if row.state == ANSWERED else row
