"""Which worlds are visited: the correct ones, which must hold, and the broken ones, which must be caught."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.model.config import Config

CORRECT: Final = (
    Config("2-two-workers", workers=2),
    Config("3", calls=3),
    Config("2-cancel-expiry", workers=2, cancel=True, refuse=True),
    Config("2-parked", workers=2, park=True, cancel=True),
    Config("2-lease-lapses", workers=2, lapse=True, cancel=True),
    Config("3-ordered-cancel", calls=3, ordered=True, cancel=True),
    Config("2-caller-restored", caller_restored=True),
    Config("2-caller-restored-ordered", ordered=True, workers=2, caller_restored=True),
    Config("2-replier-restored", replier_restored=True),
    Config("1-both-restored-ordered", calls=1, ordered=True, caller_restored=True, replier_restored=True),
    Config(
        "1-everything",
        calls=1,
        workers=2,
        cancel=True,
        refuse=True,
        park=True,
        caller_restored=True,
        replier_restored=True,
    ),
    Config("2-number-later", numbering="later", workers=2),
    Config("2-number-later-ordered-caller-restored", numbering="later", ordered=True, caller_restored=True),
    Config("1-number-later-both-restored", calls=1, numbering="later", caller_restored=True, replier_restored=True),
    Config(
        "1-number-later-caller-restored-power",
        calls=1,
        numbering="later",
        caller_restored=True,
        caller_power_cut=True,
        replier_power_cut=True,
    ),
    Config("2-number-later-ordered-cancel", numbering="later", ordered=True, cancel=True),
    Config("1-number-later-cancel-caller-restored", calls=1, numbering="later", cancel=True, caller_restored=True),
    Config("2-caller-loses-power", caller_power_cut=True),
    Config("2-replier-loses-power", replier_power_cut=True, park=True),
    Config("1-both-lose-power", calls=1, caller_power_cut=True, replier_power_cut=True, cancel=True, refuse=True),
    Config("handler-1-call-both-lose-power", places=1, caller_power_cut=True, replier_power_cut=True),
    Config("2-opening", opening=True, cancel=True),
    Config("1-opening-replier-restored", calls=1, opening=True, cancel=True, refuse=True, replier_restored=True),
    Config("1-opening-both-restored", calls=1, opening=True, replier_restored=True, caller_restored=True),
    Config("handler-1-call", places=1, calls=1, refuse=True, park=True),
    Config("handler-2-calls-ends-early", places=2, handler_ends_early=True, refuse=True),
    Config("handler-1-call-replier-restored", places=1, calls=1, replier_restored=True, refuse=True),
    Config("handler-1-call-caller-restored", places=1, caller_restored=True, refuse=True),
    Config(
        "handler-2-calls-ordered-replier-restored",
        places=2,
        ordered=True,
        handler_asks_together=True,
        handler_ends_early=True,
        replier_restored=True,
        refuse=True,
    ),
    Config(
        "handler-2-calls-ordered-caller-restored",
        calls=4,
        places=2,
        ordered=True,
        handler_asks_together=True,
        caller_restored=True,
        refuse=True,
    ),
    Config(
        "handler-and-application-ordered-replier-restored",
        workers=2,
        places=1,
        beside=1,
        ordered=True,
        replier_restored=True,
        refuse=True,
        park=True,
    ),
    Config("2-all-but-restore", workers=2, cancel=True, refuse=True, park=True, ordered=True, lapse=True),
    Config("3-two-workers-ordered", calls=3, workers=2, ordered=True),
)

LARGE: Final = (
    Config("3-number-early-floor-waits", calls=3, numbering="early, floor waits"),
    Config("2-number-later-caller-restored", numbering="later", caller_restored=True),
    Config("2-number-later-cancel-caller-restored", numbering="later", cancel=True, caller_restored=True),
    Config("2-lease-lapses-refuse", workers=2, lapse=True, cancel=True, refuse=True),
    Config(
        "handler-1-call-both-restored",
        places=1,
        calls=1,
        handler_ends_early=True,
        replier_restored=True,
        caller_restored=True,
    ),
    Config(
        "2-number-later-ordered-both-restored",
        numbering="later",
        ordered=True,
        caller_restored=True,
        replier_restored=True,
    ),
    Config("3-number-later-ordered", calls=3, numbering="later", ordered=True, park=True, refuse=True),
    Config("2-caller-restored-ordered-replier-loses-power", ordered=True, caller_restored=True, replier_power_cut=True),
    Config("2-both-lose-power", caller_power_cut=True, replier_power_cut=True),
    Config(
        "1-replier-restored-both-lose-power",
        calls=1,
        replier_restored=True,
        caller_power_cut=True,
        replier_power_cut=True,
        refuse=True,
    ),
    Config(
        "1-caller-restored-both-lose-power",
        calls=1,
        caller_restored=True,
        caller_power_cut=True,
        replier_power_cut=True,
        refuse=True,
    ),
    Config(
        "handler-1-call-replier-restored-caller-loses-power",
        places=1,
        replier_restored=True,
        caller_power_cut=True,
        refuse=True,
    ),
    Config(
        "1-opening-replier-restored-caller-loses-power",
        calls=1,
        opening=True,
        cancel=True,
        replier_restored=True,
        caller_power_cut=True,
    ),
    Config("handler-2-calls-replier-restored", places=2, replier_restored=True, refuse=True, handler_ends_early=True),
    Config("handler-2-calls-caller-restored", places=1, calls=2, caller_restored=True, handler_ends_early=True),
    Config(
        "handler-2-calls-ordered-both-restored",
        calls=4,
        places=2,
        ordered=True,
        caller_restored=True,
        replier_restored=True,
    ),
    Config("handler-1-call-both-restored-refuse", places=1, caller_restored=True, replier_restored=True, refuse=True),
    Config("2-both-restored", caller_restored=True, replier_restored=True),
    Config("2-both-restored-refuse", refuse=True, caller_restored=True, replier_restored=True),
    Config("2-replier-restored-parked", replier_restored=True, park=True, cancel=True),
    Config("2-replier-restored-cancel", replier_restored=True, cancel=True, refuse=True),
    Config("2-caller-restored-cancel", caller_restored=True, cancel=True, refuse=True),
    Config("2-caller-restored-ordered-parked", ordered=True, caller_restored=True, park=True, refuse=True, cancel=True),
    Config("2-replier-restored-ordered", ordered=True, replier_restored=True, refuse=True, park=True),
    Config("2-both-restored-ordered", ordered=True, caller_restored=True, replier_restored=True),
    Config("3-two-workers-cancel", calls=3, workers=2, cancel=True),
    Config("4", calls=4),
    Config("3-caller-restored", calls=3, caller_restored=True),
    Config("3-replier-restored", calls=3, replier_restored=True),
)

# A pruned message is a lost one, so a counterexample that is found with pruning is a real one; only a variant that
# is caught through a message which the correct rules would make dead needs all of them.
_UNSAFE: Final = Config("", expect=("safety",), sound_pruning=False)
_STUCK: Final = Config("", expect=("liveness",), sound_pruning=False)
_WRONG: Final = Config("", expect=("safety", "liveness"), sound_pruning=False)
_BOTH: Final = replace(_UNSAFE, calls=1, caller_restored=True, replier_restored=True, refuse=True)
_HANDLER: Final = replace(_UNSAFE, places=1, calls=1, replier_restored=True, refuse=True)
_FENCED: Final = replace(_UNSAFE, workers=2, ordered=True, caller_restored=True)
_ALL: Final = Config("").flushed_before
_LATER: Final = replace(_UNSAFE, numbering="later", caller_restored=True)

BROKEN: Final = (
    # one transaction, and a row for what was worked for
    replace(_UNSAFE, name="x-no-inbox", remembers=False),
    replace(_UNSAFE, name="x-effect-then-row", transaction="effect first"),
    replace(_UNSAFE, name="x-row-then-effect", transaction="row first"),
    replace(_UNSAFE, name="x-check-then-act", workers=2, lapse=True, fenced=False),
    replace(_STUCK, name="x-running-for-ever", reclaims=False),
    # what is remembered, and until when
    replace(_UNSAFE, name="x-drop-row-on-ack", floor_outlives_rows=False),
    replace(_UNSAFE, name="x-dedupe-time-window", forgets_by_timer=True),
    replace(_STUCK, name="x-duplicate-swallowed", answers_again=False),
    replace(_UNSAFE, name="x-floor-not-contiguous", floor_is_lowest_open=False),
    replace(_STUCK, name="x-no-retry", resends=False, unsent=True),
    replace(_UNSAFE, name="x-number-taken-before-commit", numbering="early"),
    replace(_UNSAFE, name="x-publish-before-commit", commits_first=False),
    replace(_UNSAFE, name="x-apply-every-time", applies_once=False),
    # who decides
    replace(_UNSAFE, name="x-cancel-decided-by-caller", cancel=True, cancel_decided_by_replier=False),
    replace(_LATER, name="x-canceled-unsent-after-restore", calls=1, cancel=True, old_unsent_is_unknown=False),
    replace(_UNSAFE, name="x-replay-after-reply", park=True, decided_is_final=False),
    # restores
    replace(_UNSAFE, name="x-caller-restored-no-epoch", caller_restored=True, caller_epochs=False),
    replace(_UNSAFE, name="x-replier-restored-no-epoch", replier_restored=True, replier_epochs=False),
    replace(
        _UNSAFE,
        name="x-restored-accepts-old-requests",
        replier_restored=True,
        cancel=True,
        request_stamp_checked=False,
    ),
    replace(_WRONG, name="x-restored-accepts-old-acks", replier_restored=True, ack_stamp_checked=False),
    replace(_UNSAFE, name="x-old-replies-count", replier_restored=True, reply_stamp_checked=False),
    replace(
        _STUCK,
        name="x-redrive-over-not-understood",
        sound_pruning=True,
        replier_restored=True,
        redrive_over_is_done=False,
    ),
    replace(
        _STUCK,
        name="x-redrive-refused-unhandled",
        calls=1,
        replier_restored=True,
        refuse=True,
        redrive_refused_is_conflict=False,
    ),
    replace(
        _WRONG,
        name="x-resync-of-one-lane-only",
        sound_pruning=True,
        caller_restored=True,
        replier_restored=True,
        resync_names_all_lanes=False,
    ),
    replace(
        _UNSAFE, name="x-parked-replayed-unconfirmed", calls=1, replier_restored=True, park=True, parked_confirmed=False
    ),
    replace(
        _UNSAFE,
        name="x-received-run-unconfirmed",
        calls=1,
        replier_restored=True,
        cancel=True,
        received_confirmed=False,
    ),
    replace(_BOTH, name="x-over-trusted-after-own-restore", sound_pruning=True, redrive_over_needs_own_epoch=False),
    replace(_BOTH, name="x-resync-with-todays-floors", sound_pruning=True, resync_floors_of_restore=False),
    replace(_BOTH, name="x-old-epoch-answer-accepted", reply_echo_checked=False),
    # calls inside a handler
    replace(
        _UNSAFE, name="x-answered-stays-answered", places=1, calls=1, replier_restored=True, answered_reopens=False
    ),
    replace(_HANDLER, name="x-handler-commit-unchecked", handler_commit_checks="nothing"),
    replace(_HANDLER, name="x-handler-commits-another-answer", handler_commit_checks="still answered"),
    replace(_WRONG, name="x-answered-is-acked", places=1, calls=1, replier_restored=True, answered_is_acked=True),
    replace(
        _HANDLER,
        name="x-restored-caller-keeps-answers",
        sound_pruning=True,
        caller_restored=True,
        restored_asks_again=False,
    ),
    replace(
        _UNSAFE,
        name="x-unused-call-decided-by-caller",
        handler_ends_early=True,
        places=1,
        calls=1,
        unused_decided_by_replier=False,
    ),
    # numbers given after the commit
    replace(_LATER, name="x-restored-caller-numbers-unasked", sound_pruning=True, restored_probes=False),
    replace(_LATER, name="x-probe-does-not-fence", probe_fences=False),
    replace(
        _LATER,
        name="x-order-by-number-only",
        sound_pruning=True,
        caller_restored=False,
        replier_restored=True,
        ordered=True,
        order_held_by_caller=False,
    ),
    # flushes
    replace(_UNSAFE, name="x-request-unflushed", caller_power_cut=True, flushed_before=_ALL - {"request"}),
    replace(_UNSAFE, name="x-reply-unflushed", replier_power_cut=True, flushed_before=_ALL - {"reply"}),
    replace(_UNSAFE, name="x-ack-unflushed", caller_power_cut=True, flushed_before=_ALL - {"ack"}),
    # the opening of a lane
    replace(
        _UNSAFE,
        name="x-unbound-request-accepted",
        calls=1,
        opening=True,
        cancel=True,
        replier_restored=True,
        unbound_refused=False,
    ),
    replace(
        _STUCK, name="x-unbound-ack-ignored", calls=1, opening=True, caller_restored=True, unbound_ack_answered=False
    ),
    # order per key
    replace(_UNSAFE, name="x-order-not-held", ordered=True, order_held_by_caller=False),
    replace(
        _UNSAFE,
        name="x-order-of-answers-taken-back-not-held",
        places=2,
        ordered=True,
        replier_restored=True,
        order_held_by_caller=False,
    ),
    replace(_STUCK, name="x-answered-holds-its-key", places=2, ordered=True, answered_frees_key=False),
    replace(_FENCED, name="x-order-old-callers-heard", old_callers_ignored=False, old_callers_rows_wait=False),
    replace(_FENCED, name="x-order-old-callers-rows-run", old_callers_rows_wait=False),
    replace(_FENCED, name="x-order-old-callers-claims-commit", old_callers_claims_revoked=False),
)
