"""What the publisher does: commit events with a number, push them, send heads, answer pulls, and drop what is old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.checker import Step
from tests.model.events.state import DROPPED, HELD, NOTHING, VOID, Event, Head, Heads, Pull, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.events.rules import Rules
    from tests.model.events.state import Message, Publisher, State


def with_stream(store: Publisher, epoch: int, stream: Stream) -> Publisher:
    """Return the store with one stream in place of another."""
    return store._replace(streams=(*store.streams[:epoch], stream, *store.streams[epoch + 1 :]))


def steps(rules: Rules, state: State) -> Iterator[Step[State]]:
    """Yield what the publisher, or its application, may do."""
    store = state.publisher
    yield from _publish(rules, state)
    for number, payload in enumerate(store.streams[store.epoch].events):
        if payload >= 0:
            pushed = send(rules, state, Event(store.epoch, number, payload, store.epoch))
            yield Step(f"publisher pushes {store.epoch}/{number}", False, pushed)
    if rules.sends_heads:
        yield Step("publisher sends heads", True, send(rules, state, heads(rules, state)))
    if rules.retention:
        yield from _drop(rules, state)


def _publish(rules: Rules, state: State) -> Iterator[Step[State]]:
    """Yield the next commit of an event; its number is taken in that transaction."""
    store = state.publisher
    stream = store.streams[store.epoch]
    payload, number = len(state.history.committed), len(stream.events)
    if rules.numbering == "early":
        if payload + sum(event in {HELD, VOID} for event in stream.events) < rules.events:
            held = with_stream(store, store.epoch, stream._replace(events=(*stream.events, HELD)))
            yield Step(f"publisher takes number {number}", False, state._replace(publisher=held))
        for at, event in enumerate(stream.events):
            if event == HELD:
                yield Step(f"publisher commits {at}", True, _committed(state, at))
                gone = (*stream.events[:at], VOID, *stream.events[at + 1 :])
                rolled_back = with_stream(store, store.epoch, stream._replace(events=gone))
                yield Step(f"publisher rolls back {at}", False, state._replace(publisher=rolled_back))
    elif not rules.commits_first:
        if state.unsent == NOTHING and payload < rules.events:
            sent = send(rules, state, Event(store.epoch, number, payload, store.epoch))
            yield Step(f"publisher sends {number}, uncommitted", False, sent._replace(unsent=number))
        if state.unsent != NOTHING:
            yield Step("publisher commits it", True, _committed(state, state.unsent)._replace(unsent=NOTHING))
            yield Step("publisher crashes", False, state._replace(unsent=NOTHING))
    elif payload < rules.events:
        yield Step(f"publisher commits {store.epoch}/{number}", False, _committed(state, number))


def _committed(state: State, number: int) -> State:
    """Return the state after the commit of the next event under a number."""
    store, history = state.publisher, state.history
    stream = store.streams[store.epoch]
    payload = len(history.committed)
    events = (*stream.events[:number], payload, *stream.events[number + 1 :])
    return state._replace(
        publisher=with_stream(store, store.epoch, stream._replace(events=events)),
        history=history._replace(committed=(*history.committed, (store.epoch, number)), lost=(*history.lost, NOTHING)),
    )


def _drop(rules: Rules, state: State) -> Iterator[Step[State]]:
    """Yield what retention may drop: the oldest event of a stream."""
    store = state.publisher
    for epoch, stream in enumerate(store.streams):
        oldest = next((number for number, payload in enumerate(stream.events) if payload != DROPPED), None)
        if oldest is None or stream.events[oldest] < 0:
            continue
        events = (*stream.events[:oldest], DROPPED, *stream.events[oldest + 1 :])
        mark = oldest + 1 if rules.marks_what_it_drops else stream.first
        history = state.history._replace(dropped=state.history.dropped | {(epoch, oldest)})
        dropped = with_stream(store, epoch, Stream(mark, events))
        yield Step(f"retention drops {epoch}/{oldest}", False, state._replace(publisher=dropped, history=history))


def heads(rules: Rules, state: State) -> Heads:
    """Return the heads of all epochs, as they are now."""
    store = state.publisher
    streams: list[Head] = []
    for epoch in sorted(store.epochs):
        first, events = store.streams[epoch]
        while events and events[-1] in {HELD, VOID}:  # nobody sees a number that is not committed
            events = events[:-1]
        if epoch != store.epoch and (
            not rules.heads_of_all_epochs or (not rules.empty_streams_named and first == len(events))
        ):
            continue
        times: tuple[int, ...] = ()
        if rules.unknown_starts == "by the clock":
            dropped = NOTHING
            if first and rules.mark_has_time:
                dropped = state.history.committed.index((epoch, first - 1))
            times = (dropped, *events[first:])
        streams.append(Head(epoch, first, len(events), times))
    return Heads(store.epoch, tuple(streams))


def answer(rules: Rules, state: State, pull: Pull) -> Iterator[Step[State]]:
    """Yield the answer to a pull: the event if the journal has it, and heads."""
    store = state.publisher
    events = store.streams[pull.epoch].events
    answered = state._replace(net=state.net - {pull})
    old = pull.epoch != store.epoch and not rules.serves_old_streams
    if rules.answers_pulls and pull.number < len(events) and events[pull.number] >= 0 and not old:
        event = Event(pull.epoch, pull.number, events[pull.number], store.epoch)
        answered = send(rules, answered, event)
    if rules.sends_heads:
        answered = send(rules, answered, heads(rules, state))
    yield Step(f"publisher answers {pull}", True, answered)


def send(rules: Rules, state: State, message: Message) -> State:
    """Return the state with a message of the publisher in transit, and its store flushed if the rule says so."""
    kept = state.kept
    name = "event" if isinstance(message, Event) else "heads"
    if kept.publisher_flushed is not None and name in rules.flushed_before:
        kept = kept._replace(publisher_flushed=state.publisher)
    return state._replace(net=state.net | {message}, kept=kept)
