"""Which worlds of events are visited: the correct ones, which must hold, and the broken ones, which must be caught."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.model.events.rules import Rules

_ANY: Final = Rules("", created="at any time")

CORRECT: Final = (
    Rules("events-3", events=3),
    Rules("events-3-window", events=3, window=1),
    Rules("events-2-workers", workers=2, lapse=True, park=True),
    replace(_ANY, name="events-1-two-subscriptions", events=1, subscriptions=2),
    Rules("events-2-retention", retention=True),
    replace(_ANY, name="events-2-made-retention", retention=True),
    replace(_ANY, name="events-2-made-first-retention", retention=True, start="first"),
    replace(_ANY, name="events-2-made-by-the-clock", retention=True, unknown_starts="by the clock"),
    Rules("events-2-publisher-restored", publisher_restores=1),
    Rules("events-1-publisher-restored-retention", events=1, publisher_restores=1, retention=True),
    replace(_ANY, name="events-2-publisher-restored-made", publisher_restores=1),
    Rules("events-2-subscriber-restored", subscriber_restores=1),
    Rules("events-1-subscriber-restored-retention", events=1, subscriber_restores=1, retention=True),
    replace(_ANY, name="events-2-subscriber-restored-made", subscriber_restores=1),
    Rules("events-1-both-restored", events=1, publisher_restores=1, subscriber_restores=1, retention=True),
    Rules("events-2-publisher-power", publisher_power_cut=True),
    Rules("events-1-publisher-power-retention", events=1, publisher_power_cut=True, retention=True),
    replace(_ANY, name="events-2-publisher-power-made", publisher_power_cut=True),
    Rules("events-2-subscriber-power", subscriber_power_cut=True),
    replace(_ANY, name="events-2-subscriber-power-made", subscriber_power_cut=True),
    Rules("events-3-ordered", events=3, ordered=True, workers=1),
    Rules("events-2-ordered-restored", ordered=True, publisher_restores=1, workers=2),
    Rules("events-2-publisher-restored-twice", publisher_restores=2),
)

LARGE: Final = (
    replace(_ANY, name="events-2-subscriber-restored-clock", subscriber_restores=1, unknown_starts="by the clock"),
    replace(_ANY, name="events-2-two-subscriptions", subscriptions=2),
    Rules("events-2-publisher-restored-retention", publisher_restores=1, retention=True),
    Rules("events-2-subscriber-restored-retention", subscriber_restores=1, retention=True),
    Rules("events-3-workers", events=3, workers=2, lapse=True, park=True),
    Rules("events-3-publisher-restored", events=3, publisher_restores=1),
    replace(_ANY, name="events-3-made-by-the-clock", events=3, retention=True, unknown_starts="by the clock"),
    Rules("events-2-both-restored", publisher_restores=1, subscriber_restores=1),
    replace(_ANY, name="events-2-both-restored-made", publisher_restores=1, subscriber_restores=1),
    Rules("events-2-publisher-restored-twice-retention", publisher_restores=2, retention=True),
    Rules("events-2-both-power", publisher_power_cut=True, subscriber_power_cut=True),
    Rules("events-3-ordered-restored-park", events=3, ordered=True, park=True, publisher_restores=1),
)

# A pruned message is a lost one, so a counterexample that is found with pruning is a real one.
_UNSAFE: Final = Rules("", expect=("safety",))
_SILENT: Final = Rules("", expect=("liveness",))
_WORKERS: Final = replace(_UNSAFE, workers=2)
_RESTORED: Final = replace(_SILENT, publisher_restores=1)
_MADE: Final = replace(_SILENT, created="at any time")

BROKEN: Final = (
    # the publisher's numbers and journal
    replace(_SILENT, name="x-number-taken-before-commit", numbering="early"),
    replace(_UNSAFE, name="x-event-before-commit", commits_first=False),
    replace(_UNSAFE, name="x-event-unflushed", publisher_power_cut=True, flushed_before=frozenset({"heads"})),
    replace(_MADE, name="x-heads-unflushed", publisher_power_cut=True, flushed_before=frozenset({"event"})),
    replace(
        _UNSAFE,
        name="x-mark-unflushed",
        publisher_power_cut=True,
        retention=True,
        flushed_before=frozenset({"event"}),
    ),
    replace(_SILENT, name="x-dropped-without-mark", retention=True, marks_what_it_drops=False),
    replace(_SILENT, name="x-no-heads", sends_heads=False),
    replace(_SILENT, name="x-pulls-unanswered", answers_pulls=False),
    replace(_UNSAFE, name="x-gap-told-for-what-is-kept", gap_only_below_mark=False),
    # what a subscription remembers
    replace(_SILENT, name="x-floor-to-highest-done", done_is_a_set=False),
    replace(_WORKERS, name="x-effect-then-number", done_with_effect="effect first"),
    replace(_SILENT, name="x-number-then-effect", workers=2, done_with_effect="number first"),
    replace(_WORKERS, name="x-commit-unfenced", lapse=True, fenced=False),
    replace(_SILENT, name="x-subscriptions-share-numbers", subscriptions=2, own_progress=False),
    replace(_SILENT, name="x-parked-without-payload", park=True, parked_keeps_payload=False),
    replace(_SILENT, name="x-gap-not-told", retention=True, tells_gaps=False),
    # a new subscription
    replace(_MADE, name="x-made-begins-at-next-when-heard", unknown_starts="at next"),
    replace(_MADE, name="x-made-begins-at-first-when-heard", start="first", unknown_starts="at first", retention=True),
    replace(_MADE, name="x-event-opens-feed", event_opens_no_feed=False),
    replace(
        _MADE,
        name="x-clock-without-time-of-mark",
        unknown_starts="by the clock",
        retention=True,
        mark_has_time=False,
    ),
    replace(_MADE, name="x-made-unflushed", subscriber_power_cut=True, creation_flushed=False),
    replace(_MADE, name="x-restored-subscription-is-new", subscriber_restores=1, restored_starts_at_0=False),
    # the publisher restored
    replace(
        _RESTORED, name="x-publisher-restored-no-epoch", new_epoch_after_restore=False, expect=("safety", "liveness")
    ),
    replace(
        _RESTORED,
        name="x-epoch-given-twice",
        publisher_restores=2,
        epochs_are_fresh=False,
        expect=("safety", "liveness"),
    ),
    replace(_RESTORED, name="x-heads-of-newest-epoch-only", heads_of_all_epochs=False, expect=("safety",)),
    replace(_RESTORED, name="x-empty-stream-forgotten", events=1, retention=True, empty_streams_named=False),
    replace(_RESTORED, name="x-old-streams-not-served", serves_old_streams=False),
    replace(_RESTORED, name="x-hole-beyond-restored-head-waits", ended_feeds_are_closed=False),
    replace(_RESTORED, name="x-late-event-of-lost-history", old_stamps_ignored=False),
    replace(_RESTORED, name="x-unnamed-epoch-waits", publisher_restores=2, unnamed_epochs_are_over=False),
    replace(_RESTORED, name="x-restore-not-told", tells_restores="never"),
    # order
    replace(_UNSAFE, name="x-order-with-holes", ordered=True, order_waits_for_holes=False),
    replace(
        _UNSAFE, name="x-order-new-epoch-first", ordered=True, publisher_restores=1, order_waits_for_older_epochs=False
    ),
)

BROKEN_LARGE: Final = (
    replace(_RESTORED, name="x-restore-told-without-gaps-only", retention=True, tells_restores="without gaps"),
)
