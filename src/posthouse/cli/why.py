"""Why a request is not done yet, in one sentence, and what to do about it: rules over one conversation.

What is not seen is not claimed: a sentence names only what a row, or the registry, says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.cli.output import ago, moment
from posthouse.errors import CallCanceledError, ExpiredError, FailedError
from posthouse.protocol.lane import WINDOW

if TYPE_CHECKING:
    from posthouse.cli.conversation import Conversation, InstanceSeen, RequestSeen
    from posthouse.clock import Instant

SETTLED: Final = frozenset({"done", "not_done"})
DECIDED: Final = SETTLED
UNSETTLED_CALLS: Final = frozenset({"waiting", "open", "cancel_wanted"})


class Why(msgspec.Struct, frozen=True):
    """How it stands.

    Attributes:
        settled: it is decided, and whoever asked has been told.
        why: one sentence.
        do: what to do, or what will happen by itself; empty for nothing.
    """

    settled: bool
    why: str
    do: str = ""


def why(conversation: Conversation, now: Instant) -> Why:
    """Say how it stands with a conversation."""
    call = conversation.call
    if call is None:
        return _without_caller(conversation, now)
    match call.state:
        case "done" | "not_done":
            return Why(True, f"{_outcome(conversation)}; {_acked(conversation)}", _letter(conversation))
        case "unknown":
            return _unknown(conversation)
        case "conflict":
            return Why(
                False,
                f"conflict: {conversation.replier} had done it, was restored, and says no now",
                f"What {conversation.caller} did because of it stands: compare both, and put right what differs.",
            )
        case "redriving":
            began = f"{conversation.replier} was restored after it had done it, and is asked for it again"
            return Why(False, began, "Nothing: it comes to an end by itself.")
        case "answered":
            return _answered(conversation)
        case "waiting":
            return _waiting(conversation, now)
        case "cancel_wanted":
            open = _open(conversation, now)
            return Why(
                False, f"{conversation.caller} wants it no more and says so to {conversation.replier}; {open.why}"
            )
        case _:
            return _open(conversation, now)


# --- the caller's side ------------------------------------------------------------------------------------


def _outcome(conversation: Conversation) -> str:
    outcome, replier = conversation.outcome, conversation.replier
    if outcome is None:
        return "it is over, and what came of it is not kept any more"
    if not outcome.code:
        return f"done by {replier}"
    match outcome.code:
        case CallCanceledError.code:
            return f"canceled: {outcome.message}"
        case ExpiredError.code:
            return f"not done: its deadline passed before {replier} ran it"
        case FailedError.code:
            return f"failed: {outcome.message}"
        case _:
            kept = ", and what it wrote is kept" if outcome.done else ""
            return f"{replier} said no ({outcome.code}): {outcome.message}{kept}"


def _acked(conversation: Conversation) -> str:
    request, call = conversation.request, conversation.call
    lane = None if call is None else call.lane
    if request is not None and request.state:
        return f"{conversation.caller} has it, and {conversation.replier} keeps it until that is acked"
    if (request is not None and request.forgotten) or (lane is not None and 0 <= lane.number < lane.acked):
        return f"{conversation.caller} has it, and has acked it"
    return f"{conversation.caller} has it"


def _letter(conversation: Conversation) -> str:
    for each in (conversation, *conversation.inside):  # an error that a handler lets pass is that of its call
        if each.letter is not None:
            return f"`posthouse dead show {each.letter.id}` has the cause and the data."
    return ""


def _unknown(conversation: Conversation) -> Why:
    call, replier = conversation.call, conversation.replier
    restored = None if call is None else call.restored
    if restored is None:
        reason = f"an operator has retired the lane to {replier} before it was answered"
    else:
        reason = (
            f"{conversation.caller} was restored ({moment(restored.at)}), and {replier} has forgotten what came of it"
        )
    return Why(
        False, f"unknown: {reason}", f"Look at {replier}: it was done there or not; then ask again, or leave it."
    )


def _answered(conversation: Conversation) -> Why:
    call, caller = conversation.call, conversation.caller
    if call is not None and call.wanted_by == "handler":
        text = f"{conversation.replier} has answered; it is final when the handler of {caller} that asked has committed"
        return Why(False, text, f"`posthouse messages why {conversation.work}` says how it stands with that.")
    running = ", ".join(f"{name} is {state}" for name, state in conversation.runs.items())
    text = f"{conversation.replier} has answered; it is final when {caller} has heard of it"
    return Why(
        False, f"{text} ({running})" if running else text, f"`posthouse inbox {caller}` shows what it has to do."
    )


def _waiting(conversation: Conversation, now: Instant) -> Why:
    call, replier = conversation.call, conversation.replier
    if call is None:
        return _open(conversation, now)
    if call.key_held_by:
        return Why(
            False,
            f"it waits for its turn: {call.key_held_by}, earlier with the key {call.key!r}, is not settled",
            f"`posthouse messages why {call.key_held_by}` says why that is not.",
        )
    if call.lane is not None and call.lane.is_full:
        return Why(
            False,
            f"it waits for a number: {WINDOW:,} requests to {replier} are under way, which is the most, and"
            f" {call.lane.waiting:,} wait",
            f"`posthouse inbox {replier}` shows what {replier} is at.",
        )
    return Why(False, f"it waits for a number, which {_by(conversation)}")


def _by(conversation: Conversation) -> str:
    caller = conversation.caller
    if conversation.callers:
        return f"{caller} gives it within a second"
    return f"{caller} gives it when it runs: no instance of it is there"


def _open(conversation: Conversation, now: Instant) -> Why:
    call, request, replier = conversation.call, conversation.request, conversation.replier
    lane = None if call is None else call.lane
    here = conversation.store_here
    if lane is not None and lane.bound_to.id and here is not None and here.id != lane.bound_to.id:
        return Why(
            False,
            f"it was asked of another store of {replier} ({lane.bound_to.id[:8]}) than is here now ({here.id[:8]})",
            f"Bring the old store back; or `posthouse lanes map '{conversation.caller}->{replier}' {here.id[:8]}`.",
        )
    if request is not None and (request.state or request.forgotten):
        return _at_replier(conversation, request, now)
    asked = f"asked {ago(conversation.asked, now)} ago"
    if not conversation.announced and not conversation.instances and here is None:
        return Why(
            False,
            f"nobody has announced {conversation.operation} here ({asked})",
            f"Start {replier}; if it is gone for good, `posthouse lanes retire '{conversation.caller}->{replier}'`.",
        )
    if not conversation.instances:
        return Why(False, f"nobody serves {replier} now ({asked})", f"Start {replier}: it is stored, and sent then.")
    if here is None:
        return Why(
            False, f"{replier} has it or is being asked for it, and keeps its store elsewhere", "Look where that is."
        )
    if not conversation.callers:
        caller = conversation.caller
        return Why(
            False, f"{replier} has not received it, and nobody runs {caller}, which sends it", f"Start {caller}."
        )
    return Why(False, f"{replier} has not received it yet ({asked})", "Nothing: it is sent until it is answered.")


# --- the replier's side -----------------------------------------------------------------------------------


def _without_caller(conversation: Conversation, now: Instant) -> Why:
    request = conversation.request
    if request is not None and request.state in DECIDED:
        return Why(True, _outcome(conversation), _letter(conversation))
    if request is None or not request.state:
        return Why(True, "it is over, and only its dead letter is kept", _letter(conversation))
    return _at_replier(conversation, request, now)


def _at_replier(conversation: Conversation, request: RequestSeen, now: Instant) -> Why:
    replier, caller = conversation.replier, conversation.caller
    match request.state:
        case "received":
            return _received(conversation, request, now)
        case "running":
            return _running(conversation, request, now)
        case "suspended":
            return _suspended(conversation, now)
        case "parked":
            return _parked(conversation)
        case "done" | "not_done":
            told = f"{caller} is being told" if conversation.callers else f"nobody runs {caller}, which is to be told"
            return Why(False, f"{_outcome(conversation)}, and {told}")
        case _:
            return Why(False, f"{replier} has forgotten its number, which {caller} is not told yet")


def _received(conversation: Conversation, request: RequestSeen, now: Instant) -> Why:
    replier = conversation.replier
    if not request.may_run:
        text = f"a store was restored: {replier} runs it when {conversation.caller} has asked for it again"
        return Why(False, text, "" if conversation.callers else f"Start {conversation.caller}.")
    if not conversation.instances:
        return Why(False, f"{replier} has it stored, and nobody serves {replier} now", f"Start {replier}.")
    if unserved := not_run(conversation.operation, conversation.offered):
        return Why(
            False,
            f"{replier} has it stored, and {unserved}",
            f"Start a {replier} that has a journaled handler of it; or cancel it, if it is not wanted any more.",
        )
    if request.failures:
        tried = f"it has failed {_times(request.failures)} at {replier}"
        if request.due > now:
            return Why(False, f"{tried}, and is tried again in {ago(now, request.due)}")
        return Why(False, f"{tried}, and is due to be tried again")
    if request.deaths:
        text = f"{_times(request.deaths)} an instance of {replier} died while it ran; it runs again alone"
        return Why(False, text)
    return Why(
        False,
        f"{replier} has it stored, for {ago(request.due, now)}, and is busy with others",
        f"`posthouse inbox {replier}` shows with how many.",
    )


def _running(conversation: Conversation, request: RequestSeen, now: Instant) -> Why:
    replier, instance = conversation.replier, request.instance
    if instance is None or not instance.there:
        gone = f"the instance of {replier} that ran it (attempt {request.attempt}) is gone"
        if conversation.instances:
            return Why(False, f"{gone}; another takes it over within seconds")
        return Why(False, f"{gone}, and no other is there", f"Start {replier}.")
    waits = [each for each in conversation.inside if _is_open(each)]
    text = f"{replier} runs it, attempt {request.attempt}, on {shown(instance)}, for at most {ago(request.due, now)}"
    if waits:
        return _behind(f"{text}, and waits there for {waits[0].operation}", waits[0], now)
    return Why(False, text)


def _suspended(conversation: Conversation, now: Instant) -> Why:
    waits = [each for each in conversation.inside if _is_open(each)]
    if not waits:
        return Why(False, f"its handler rests at {conversation.replier} until a call of its own is answered")
    more = f", and {len(waits) - 1} more" if len(waits) > 1 else ""
    text = f"its handler rests at {conversation.replier} until {waits[0].operation} has answered{more}"
    return _behind(text, waits[0], now)


def _behind(text: str, inside: Conversation, now: Instant) -> Why:
    """Say of a handler that waits for a call how it stands with that: with the innermost of calls within calls."""
    while deeper := [each for each in inside.inside if _is_open(each)]:
        inside = deeper[0]
    reason = why(inside, now)
    return Why(False, f"{text}; {inside.operation} ({inside.id}): {reason.why}", reason.do)


def _is_open(inside: Conversation) -> bool:
    return inside.call is not None and inside.call.state in UNSETTLED_CALLS


def _parked(conversation: Conversation) -> Why:
    letter = conversation.letter
    if letter is None:
        return Why(
            False, f"it is parked at {conversation.replier}: undecided, until an operator says what becomes of it"
        )
    return Why(
        False,
        f"parked at {conversation.replier} after {count(letter.attempts, 'attempt')} ({letter.code}): {letter.reason}",
        f"Mend the cause, then `posthouse dead replay {letter.id}`; or give it up: `posthouse dead drop {letter.id}`.",
    )


def not_run(operation: str, offered: str) -> str:
    """Say why nobody will run what is stored of an operation; empty when somebody will.

    Args:
        operation: what was asked.
        offered: how the newest contract of its service delivers it; empty for not at all.
    """
    if offered == "journaled":
        return ""
    if offered:
        return f"{operation} is {offered} by now, so that nobody runs what was stored before"
    return f"{operation} is not offered any more, so that nobody runs it"


# --- words ------------------------------------------------------------------------------------------------


def shown(instance: InstanceSeen) -> str:
    """Return an instance as people know it."""
    short = f"instance {instance.id[:8]}"
    return f"{short} (pid {instance.pid} on {instance.host})" if instance.there else f"{short}, which is gone"


def count(number: int, what: str) -> str:
    """Return so many of something: "1 attempt", "2 attempts"."""
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"
