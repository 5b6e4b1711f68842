"""One world to explore: its bounds, its faults, and the rules that are in force.

A rule is a switch that is on; a broken variant turns one of them off, and the checker must then find
a counterexample. What a rule does is said where it is asked for, in `caller` and `replier`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "safety", "liveness", "open"]
Transaction = Literal["one", "effect first", "row first"]
Numbering = Literal["at commit", "early", "early, floor waits", "later"]


@dataclass(frozen=True, slots=True)
class Config:
    """Bounds, faults and rules of one world."""

    name: str

    # --- bounds: how much happens
    calls: int = 2
    workers: int = 1
    """instances of the replier that share its store"""

    places: int = 0
    """above 0: the calls are made by one handler, so many of them; `calls` leaves room for those that a restore lost"""
    beside: int = 0
    """... and so many, at most, by the application at any time beside it"""

    # --- what may happen
    cancel: bool = False
    """the application may ask to cancel a call that is open or waits"""
    refuse: bool = False
    """the replier may decide "not done" (expired, failed) in place of the effect"""
    park: bool = False
    """the replier may park a request; an operator replays or rejects it"""
    ordered: bool = False
    """all calls carry one ordering key"""
    lapse: bool = False
    """a worker's lease may end while it still runs"""
    caller_restored: bool = False
    """the caller's store may be backed up once and restored once"""
    replier_restored: bool = False
    caller_restores: int = 1
    """how often, where it is restored; all from one backup"""
    replier_restores: int = 1
    forgets: bool = False
    """the caller forgets what is done and below the floor that the replier has echoed: nobody can be asked again"""
    caller_power_cut: bool = False
    """power may fail once: the caller's store loses what was committed and not flushed"""
    replier_power_cut: bool = False
    opening: bool = False
    """at first the caller knows neither the replier's store nor its epoch"""
    unsent: bool = False
    """show the instant between the caller's commit and its first sending"""

    # --- rules of both: one transaction, flushes
    transaction: Transaction = "one"
    """effect and row in one transaction, or in two"""

    flushed_before: frozenset[str] = frozenset({"request", "cancel", "reply", "ack", "resync", "tops"})
    """before which messages their sender flushes its store"""

    # --- rules of the caller
    numbering: Numbering = "at commit"
    restored_probes: bool = True
    """a restored caller numbers what waits in its store only when the replier has shown that it had no number before"""
    resends: bool = True
    """open calls are sent again from the store"""
    commits_first: bool = True
    """nothing is sent before the row is committed"""
    applies_once: bool = True
    """a reply is applied only to a call that is still open"""
    floor_is_lowest_open: bool = True
    cancel_decided_by_replier: bool = True
    old_unsent_is_unknown: bool = True
    """what is canceled while it waits is not done, but of what waits since before a restore nobody knows"""
    order_held_by_caller: bool = True
    """a row is sent only when every earlier row of its key is answered or final"""
    answered_frees_key: bool = True
    """what is answered is decided at the replier, and nothing of its key waits for the handler's commit"""
    caller_epochs: bool = True
    """a restored caller opens a new lane"""
    reply_stamp_checked: bool = True
    """replies of an older epoch of the replier are ignored"""
    reply_echo_checked: bool = True
    """replies to an older epoch of the caller are ignored"""
    redrive_over_is_done: bool = True
    """while re-driving, OVER says that the effect is in the restored store"""
    redrive_over_needs_own_epoch: bool = True
    """... only in a lane whose caller was never restored"""
    redrive_refused_is_conflict: bool = True
    closes_unknown_lanes: bool = True
    """a restored caller closes what lanes of older epochs it does not name, also those that its backup does not know"""
    forgotten_is_listed: bool = True
    """what a restored replier may have lost and the caller cannot ask for again is unknown, and shown"""
    epochs_are_fresh: bool = True
    """a restored store takes an epoch that no history of it ever had; else the one after that of the backup"""

    answered_reopens: bool = True
    """a new epoch of the replier takes an answer back that no handler has committed"""
    handler_commit_checks: Literal["same answer", "still answered", "nothing"] = "same answer"
    answered_is_acked: bool = False
    """broken: what is answered counts as final before the handler has committed"""
    unused_decided_by_replier: bool = True
    """calls that the committing run did not make are canceled; the replier says what became of them"""
    restored_asks_again: bool = True
    """a restored caller takes back what is answered and not committed: the lost history may have asked anew"""
    reply_runs: bool = False
    """the one call is a `send`, and its reply is heard by a run whose row holds the outcome as it was told"""
    reply_runs_withdrawn: bool = True
    """the row of such a run goes when its answer is taken back"""
    handler_ends_early: bool = False
    """a run of the handler may make fewer calls than an earlier one"""
    handler_asks_together: bool = False
    """the handler may make its next call before it is told of the one before"""

    # --- rules of the replier
    remembers: bool = True
    """a request that was worked for leaves a row"""
    fenced: bool = True
    """a commit requires "running by me, this attempt" """
    reclaims: bool = True
    """what a dead worker was running is run again"""
    answers_again: bool = True
    """a duplicate is given the stored outcome"""
    floor_outlives_rows: bool = True
    forgets_by_timer: bool = False
    ack_ends_undecided: bool = True
    """what an ack names goes without an effect, though a restore has made it undecided again"""
    decided_is_final: bool = True
    replier_epochs: bool = True
    """a restored replier takes a new epoch"""
    request_stamp_checked: bool = True
    unbound_refused: bool = True
    """a request that names no epoch of the replier is answered with RESYNC and nothing else"""
    unbound_ack_answered: bool = True
    """... and so is an ack"""
    ack_stamp_checked: bool = True
    resync_names_all_lanes: bool = True
    resync_floors_of_restore: bool = True
    """RESYNC tells the floors as they were right after the restore"""
    parked_confirmed: bool = True
    """a parked request of an older epoch is replayed only after the caller asked again"""
    received_confirmed: bool = True
    """... and so is a received one run"""
    old_callers_ignored: bool = True
    """requests of an older epoch of the caller than the newest seen are ignored"""
    probe_fences: bool = True
    """a probe makes its epoch the newest that was seen, before it is answered"""
    old_callers_rows_wait: bool = True
    """... and what was received or parked of them is not run until the caller asks again"""
    old_callers_claims_revoked: bool = True
    """... and what runs of them with an ordering key may not commit"""

    expect: tuple[Verdict, ...] = ("holds",)
    sound_pruning: bool = True
    """drop messages that can change nothing any more; off for variants in which they can"""
