"""What a subscription does: take events and heads, ask for holes, run handlers, and tell what cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.checker import Step
from tests.model.events.state import (
    ABSENT,
    DONE,
    NOTHING,
    PARKED,
    RECEIVED,
    REJECTED,
    RUNNING,
    SKIPPED,
    TOLD,
    UNDECIDED,
    Event,
    Feed,
    Head,
    Heads,
    Pull,
    Row,
    State,
    Subscriber,
    Subscription,
    Worker,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.events.rules import Rules


def fresh(rules: Rules) -> Subscription:
    """Return a subscription that knows nothing: every feed starts at 0."""
    epochs = rules.publisher_restores + 1
    return Subscription(0, NOTHING, (Feed((Row(),) * rules.events),) * epochs)


def with_row(subscription: Subscription, epoch: int, number: int, row: Row) -> Subscription:
    """Return the subscription with one row in place of another."""
    feed = subscription.feeds[epoch]
    rows = (*feed.rows[:number], row, *feed.rows[number + 1 :])
    return with_feed(subscription, epoch, feed._replace(rows=rows))


def with_feed(subscription: Subscription, epoch: int, feed: Feed) -> Subscription:
    """Return the subscription with one feed in place of another."""
    return subscription._replace(feeds=(*subscription.feeds[:epoch], feed, *subscription.feeds[epoch + 1 :]))


def put(state: State, index: int, subscription: Subscription) -> State:
    """Return the state with one subscription in place of another."""
    store = state.subscriber
    return state._replace(subscriber=(*store[:index], subscription, *store[index + 1 :]))


def steps(rules: Rules, state: State) -> Iterator[Step[State]]:
    """Yield what the subscriptions, or their operators, may do by themselves."""
    for worker in dict.fromkeys(state.workers):
        yield from _finish(rules, state, worker)
    for index, subscription in enumerate(state.subscriber):
        if subscription is None:
            yield from _create(rules, state, index)
            continue
        for epoch, feed in enumerate(subscription.feeds):
            for number, row in enumerate(feed.rows):
                at = f"{epoch}/{number} for {index}"
                if row.state == RECEIVED and _may_run(rules, subscription, epoch, number):
                    yield from _start(rules, state, index, epoch, number)
                elif row.state == RUNNING and rules.lapse:
                    ended = with_row(subscription, epoch, number, row._replace(state=RECEIVED, attempt=NOTHING))
                    yield Step(f"lease on {at} ends", False, put(state, index, ended))
                elif row.state == PARKED:
                    again = _effect(subscription, epoch, number, row.payload)
                    again = again._replace(replayed=again.replayed | {row.payload})
                    yield Step(f"operator replays {at}", True, put(state, index, again))
                    given_up = with_row(subscription, epoch, number, Row(REJECTED, row.payload))
                    yield Step(f"operator gives up {at}", False, put(state, index, given_up))
            for number in _holes(rules, feed, _top(feed)):
                asked = state._replace(net=state.net | {Pull(epoch, number)})
                yield Step(f"subscription {index} pulls {epoch}/{number}", True, asked)


def _top(feed: Feed) -> int:
    """Return the number above all that this subscription has in a feed."""
    return max((number + 1 for number, row in enumerate(feed.rows) if row.state != ABSENT), default=0)


def _holes(rules: Rules, feed: Feed, top: int) -> list[int]:
    """Return the numbers below `top` that are waited for."""
    if feed.end != NOTHING and rules.ended_feeds_are_closed:
        top = min(top, feed.end)
    if rules.window:
        top = min(top, _floor(feed) + rules.window)
    return [number for number in range(top) if feed.rows[number].state == ABSENT]


def _floor(feed: Feed) -> int:
    """Return the lowest number that is not over."""
    passed = enumerate(row.state not in {ABSENT, *UNDECIDED} for row in feed.rows)
    return next((number for number, over in passed if not over), len(feed.rows))


def _create(rules: Rules, state: State, index: int) -> Iterator[Step[State]]:
    """Yield the making of a subscription, with the heads that are known then, or none.

    The heads may be old ones: what was committed since is then not skipped, which does no harm.
    """
    history = state.history
    if history.born[index] == NOTHING:
        born = (*history.born[:index], len(history.committed), *history.born[index + 1 :])
        there: frozenset[int] = frozenset()
        if rules.start == "first":
            there = frozenset(event for stream in state.publisher.streams for event in stream.events if event >= 0)
        owed = (*history.owed[:index], there, *history.owed[index + 1 :])
        history = history._replace(born=born, owed=owed)
    again = state.history.born[index] != NOTHING
    new = fresh(rules)
    if rules.unknown_starts == "by the clock" and not (state.kept.restored and rules.restored_starts_at_0):
        new = new._replace(made=len(history.committed))
    made = put(state, index, new)._replace(history=history)
    yield Step(f"subscription {index} is made and knows no heads", again, _flushed(rules, made))
    if state.kept.restored and rules.restored_starts_at_0:
        return
    for heads in state.net:
        if isinstance(heads, Heads):
            made = put(state, index, _begun(rules, heads))._replace(history=history)
            yield Step(f"subscription {index} is made and knows {heads}", again, _flushed(rules, made))


def _flushed(rules: Rules, state: State) -> State:
    """Return the state after the making of a subscription, which is flushed before anybody can rely on it."""
    if state.kept.subscriber_flushed is None or not rules.creation_flushed:
        return state
    return state._replace(kept=state.kept._replace(subscriber_flushed=state.subscriber))


def _begun(rules: Rules, heads: Heads) -> Subscription:
    """Return a new subscription that skips what the feeds which it knows of hold."""
    subscription = fresh(rules)._replace(heard=heads.epoch)
    for head in heads.streams:
        begins = head.next if rules.start == "new" else head.first
        subscription = with_feed(subscription, head.epoch, _opened(subscription.feeds[head.epoch], begins))
    return _older_epochs_end(rules, subscription, heads)


def _opened(feed: Feed, begins: int) -> Feed:
    """Return a feed that begins at a number: what is below is none of its concern."""
    rows = tuple(Row(SKIPPED) if row.state == ABSENT else row for row in feed.rows[:begins])
    return feed._replace(rows=(*rows, *feed.rows[len(rows) :]), open=True)


def _begins(rules: Rules, subscription: Subscription, head: Head) -> int:
    """Return where a feed begins of whose stream the subscription did not know when it was made."""
    match rules.unknown_starts:
        case "at 0":
            return 0
        case "at next":
            return head.next
        case "at first":
            return head.first
        case "by the clock":
            dropped, *kept = head.times
            if dropped >= subscription.made:
                return 0
            return head.first + sum(time < subscription.made for time in kept)


def take_event(rules: Rules, state: State, index: int, event: Event) -> Iterator[Step[State]]:
    """Yield what a subscription does with an event: it is stored, unless it was had or comes too late."""
    subscription = state.subscriber[index]
    if subscription is None:
        return
    feed = subscription.feeds[event.epoch]
    if feed.rows[event.number].state != ABSENT:
        return
    if event.stamp < subscription.heard and rules.old_stamps_ignored:
        return
    if not feed.open and rules.event_opens_no_feed:
        return
    if rules.window and event.number >= _floor(feed) + rules.window:
        return
    if not feed.open:
        subscription = with_feed(subscription, event.epoch, _opened(feed, event.number))
    if not rules.own_progress and any(
        other is not None and other.feeds[event.epoch].rows[event.number].state == DONE for other in state.subscriber
    ):
        taken = with_row(subscription, event.epoch, event.number, Row(SKIPPED))
    else:
        taken = with_row(subscription, event.epoch, event.number, Row(RECEIVED, event.payload))
    yield Step(f"subscription {index} takes {event}", True, put(state, index, taken))


def take_heads(rules: Rules, state: State, index: int, heads: Heads) -> Iterator[Step[State]]:
    """Yield what a subscription does with heads: tell what cannot be had, and ask for what is missing."""
    subscription = state.subscriber[index]
    if subscription is None or (heads.epoch < subscription.heard and rules.old_heads_ignored):
        return
    before = subscription
    if heads.epoch > subscription.heard:
        restored = subscription.heard != NOTHING or len(heads.streams) > 1
        if restored and rules.tells_restores != "never":
            subscription = subscription._replace(epochs_told=subscription.epochs_told | {heads.epoch})
        subscription = subscription._replace(heard=heads.epoch)
        subscription = _older_epochs_end(rules, subscription, heads)
    pulls: set[Pull] = set()
    for head in heads.streams:
        feed = subscription.feeds[head.epoch]
        if not feed.open:
            feed = _opened(feed, _begins(rules, subscription, head))
        feed = _told(rules, feed, 0, head.first if rules.gap_only_below_mark else head.next)
        subscription = with_feed(subscription, head.epoch, feed)
        pulls.update(Pull(head.epoch, number) for number in _holes(rules, feed, head.next))
    if rules.tells_restores == "without gaps" and _gaps(subscription) > _gaps(before):
        subscription = subscription._replace(epochs_told=before.epochs_told)
    if subscription != before or not pulls <= state.net:
        after = put(state, index, subscription)
        yield Step(f"subscription {index} takes {heads}", True, after._replace(net=after.net | pulls))


def _gaps(subscription: Subscription) -> int:
    return sum(row.state == TOLD for feed in subscription.feeds for row in feed.rows)


def _older_epochs_end(rules: Rules, subscription: Subscription, heads: Heads) -> Subscription:
    """Return the subscription with every older epoch of the publisher at its end: nothing more comes from there.

    Heads say how much of it the restored journal still knows. Numbers from there on were given, if at all, in a
    history that is lost: what this subscription has of them stays, and what it has not is told.
    """
    named = {head.epoch: head.next for head in heads.streams}
    for epoch in range(heads.epoch):
        if epoch not in named and not rules.unnamed_epochs_are_over:
            continue
        feed = subscription.feeds[epoch]
        end = named.get(epoch, 0)
        if rules.ended_feeds_are_closed:
            feed = _told(rules, feed, end, _top(feed))
        subscription = with_feed(subscription, epoch, feed._replace(end=end))
    return subscription


def _told(rules: Rules, feed: Feed, first: int, end: int) -> Feed:
    """Return the feed after it was told that what is missing from `first` to `end` cannot be had."""
    passed = Row(TOLD if rules.tells_gaps else SKIPPED)
    between = tuple(passed if row.state == ABSENT else row for row in feed.rows[first:end])
    return feed._replace(rows=(*feed.rows[:first], *between, *feed.rows[first + len(between) :]))


def _may_run(rules: Rules, subscription: Subscription, epoch: int, number: int) -> bool:
    """Return whether an event may be run: where order is asked for, all that could be earlier must be decided."""
    if not rules.ordered:
        return True
    earlier = list(subscription.feeds[epoch].rows[:number])
    if rules.order_waits_for_older_epochs:
        if subscription.heard < epoch:
            return False  # it has not heard yet what the older epochs hold
        for older in subscription.feeds[:epoch]:
            earlier.extend(row for at, row in enumerate(older.rows) if at < older.end or row.state != ABSENT)
    waits_for = {*UNDECIDED, ABSENT} if rules.order_waits_for_holes else UNDECIDED
    return not any(row.state in waits_for for row in earlier)


def _start(rules: Rules, state: State, index: int, epoch: int, number: int) -> Iterator[Step[State]]:
    """Yield the claim of an event, or all of its run where workers are not looked at."""
    subscription = state.subscriber[index]
    if subscription is None:
        return
    row = subscription.feeds[epoch].rows[number]
    at = f"{epoch}/{number} for {index}"
    if not rules.workers:
        done = _effect(subscription, epoch, number, row.payload)
        if not rules.done_is_a_set:
            feed = done.feeds[epoch]
            below = tuple(Row(SKIPPED) if one.state == ABSENT else one for one in feed.rows[:number])
            done = with_feed(done, epoch, feed._replace(rows=(*below, *feed.rows[number:])))
        yield Step(f"handled: {at}", True, put(state, index, done))
        if rules.park:
            yield _park(rules, state, index, epoch, number)
    elif len(state.workers) < rules.workers:
        held = {worker.attempt for worker in state.workers if worker[:3] == (index, epoch, number)}
        attempt = next(free for free in range(rules.workers + 1) if free not in held)
        claimed = with_row(subscription, epoch, number, row._replace(state=RUNNING, attempt=attempt))
        worker = Worker(index, epoch, number, row.payload, attempt)
        workers = tuple(sorted((*state.workers, worker)))
        yield Step(f"claimed: {at}", True, put(state, index, claimed)._replace(workers=workers))


def _park(rules: Rules, state: State, index: int, epoch: int, number: int) -> Step[State]:
    subscription = state.subscriber[index]
    assert subscription is not None
    payload = subscription.feeds[epoch].rows[number].payload
    row = Row(PARKED, payload) if rules.parked_keeps_payload else Row(DONE, payload)
    return Step(
        f"parked: {epoch}/{number} for {index}", False, put(state, index, with_row(subscription, epoch, number, row))
    )


def _effect(subscription: Subscription, epoch: int, number: int, payload: int) -> Subscription:
    """Return the subscription after the transaction that holds the effect and the number."""
    done = with_row(subscription, epoch, number, Row(DONE, payload))
    return done._replace(effects=(*done.effects, payload))


def _finish(rules: Rules, state: State, worker: Worker) -> Iterator[Step[State]]:
    """Yield the ways in which a running handler may end."""
    index, epoch, number = worker.subscription, worker.epoch, worker.number
    rest = list(state.workers)
    rest.remove(worker)
    free = state._replace(workers=tuple(rest))
    subscription = state.subscriber[index]
    if subscription is None:
        return
    at = f"{epoch}/{number} for {index}"
    row = subscription.feeds[epoch].rows[number]
    effect_alone = subscription._replace(effects=(*subscription.effects, worker.payload))
    number_alone = with_row(subscription, epoch, number, Row(DONE, worker.payload))
    mine = row.state == RUNNING and row.attempt == worker.attempt
    if worker.owes == "number":
        yield Step(f"number committed: {at}", True, put(free, index, number_alone))
    elif worker.owes == "effect":
        yield Step(f"effect committed: {at}", True, put(free, index, effect_alone))
    elif rules.fenced and not mine:
        yield Step(f"fenced off: {at}", True, free)
    elif rules.done_with_effect == "one":
        yield Step(f"committed: {at}", True, put(free, index, _effect(subscription, epoch, number, worker.payload)))
        if rules.park and mine:
            yield _park(rules, free, index, epoch, number)
    else:
        owes = "number" if rules.done_with_effect == "effect first" else "effect"
        half = effect_alone if owes == "number" else number_alone
        workers = tuple(sorted((*rest, worker._replace(owes=owes))))
        yield Step(f"half committed: {at}", True, put(state, index, half)._replace(workers=workers))


def leases_ended(store: Subscriber) -> Subscriber:
    """Return the store as it is when no worker epochs."""
    return tuple(
        subscription
        and subscription._replace(
            feeds=tuple(feed._replace(rows=tuple(_released(row) for row in feed.rows)) for feed in subscription.feeds)
        )
        for subscription in store
    )


def _released(row: Row) -> Row:
    return row._replace(state=RECEIVED, attempt=NOTHING) if row.state == RUNNING else row
