"""One world of events to explore: its bounds, its faults, and the rules that are in force.

A broken variant turns one rule off, and the checker must then find a counterexample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.model.config import Verdict


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds, faults and rules of one world."""

    name: str

    # --- bounds and faults
    events: int = 2
    subscriptions: int = 1
    """all in one store"""
    workers: int = 0
    """instances of the subscriber; with 0 a handler starts and commits in one step"""
    lapse: bool = False
    """a worker's lease may end while it still runs"""
    park: bool = False
    window: int = 0
    """so far above its floor a feed reaches; 0 for no bound"""
    ordered: bool = False
    """all events have one key, and the subscriptions ask for order"""
    created: Literal["before", "at any time"] = "before"
    """when the subscriptions are made: before anything is published and heard, or whenever"""
    start: Literal["new", "first"] = "new"
    retention: bool = False
    publisher_restores: int = 0
    """all from one backup"""
    subscriber_restores: int = 0
    publisher_power_cut: bool = False
    subscriber_power_cut: bool = False

    # --- rules of the publisher
    numbering: Literal["at commit", "early"] = "at commit"
    commits_first: bool = True
    """nothing is sent before it is committed"""
    flushed_before: frozenset[str] = frozenset({"event", "heads"})
    """before which messages it flushes its store"""
    sends_heads: bool = True
    heads_of_all_epochs: bool = True
    """HEADS name every epoch of the store, also those of which nothing is left, or of which it never had anything"""
    empty_streams_named: bool = True
    answers_pulls: bool = True
    marks_what_it_drops: bool = True
    """the retention mark is raised in the transaction that drops"""
    new_epoch_after_restore: bool = True
    epochs_are_fresh: bool = True
    """a new epoch is none that any lost history had"""
    serves_old_streams: bool = True
    gap_only_below_mark: bool = True
    """numbers at or above the mark are never told as dropped"""

    # --- rules of a subscription
    done_with_effect: Literal["one", "effect first", "number first"] = "one"
    fenced: bool = True
    """a commit requires "running by me, this attempt" """
    done_is_a_set: bool = True
    """floor and ranges; else the floor is raised to the highest that is done"""
    tells_gaps: bool = True
    own_progress: bool = True
    """each subscription has its own numbers, though they share a store"""
    parked_keeps_payload: bool = True
    ended_feeds_are_closed: bool = True
    """nothing at or above the end of an epoch that is over is waited for"""
    unnamed_epochs_are_over: bool = True
    """an epoch older than that of the heads, which they do not name, ended at 0"""
    old_heads_ignored: bool = True
    """heads of an older epoch of the publisher than the newest that was heard"""
    old_stamps_ignored: bool = True
    """... and events that were sent in one"""
    tells_restores: Literal["always", "without gaps", "never"] = "always"
    """the first heads of a new epoch are told as a restore; else not when they tell a gap as well, or never"""
    unknown_starts: Literal["at 0", "by the clock", "at next", "at first"] = "at 0"
    """where a feed begins whose stream was not known when the subscription was made"""
    mark_has_time: bool = True
    """the publisher knows how old the newest event is that it dropped; a feed that may have missed it begins at 0"""
    event_opens_no_feed: bool = True
    """an event of an unknown stream is not taken before heads have said where to begin"""
    creation_flushed: bool = True
    restored_starts_at_0: bool = True
    """at the first start after a restore, a subscription that the backup does not know starts at 0 everywhere"""
    order_waits_for_holes: bool = True
    order_waits_for_older_epochs: bool = True

    expect: tuple[Verdict, ...] = ("holds",)
    pruned: bool = True
    """drop messages that can change nothing any more; off for variants in which they can"""
