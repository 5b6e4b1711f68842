"""Why an event is not handled yet by all who hear it, in one sentence, and what to do: rules over one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.cli.events import FAILED, HAD, MISSING, UNSEEN
from posthouse.cli.output import ago, moment
from posthouse.cli.why import UNSETTLED_CALLS, Why, count, shown
from posthouse.cli.why import why as why_call

if TYPE_CHECKING:
    from posthouse.cli.events import EventSeen, HeardSeen
    from posthouse.clock import Instant

_OVER: Final = frozenset({HAD, FAILED})


def why(event: EventSeen, now: Instant) -> Why:
    """Say how it stands with an event: at the first subscription where it is not over, and at how many it is."""
    if not event.heard:
        return Why(True, f"{event.publisher} has told it, and nobody has subscribed to {event.event}")
    left = [each for each in event.heard if each.state not in _OVER and each.declared is not False]
    over = [each for each in event.heard if each.state in _OVER]
    if not left:
        failed = [each for each in over if each.state == FAILED]
        text = f"over at {_names(over)}" if over else f"nobody who hears {event.event} is declared any more"
        if failed and (letter := failed[0].letter) is not None:
            more = f"; it failed at {failed[0].subscription} ({letter.code}): {letter.reason}"
            return Why(True, text + more, f"`posthouse dead show {letter.id}` has the cause and the data.")
        return Why(True, text)
    first = min(left, key=_worst_first)
    reason = at(event, first, now)
    others = len(left) - 1
    more = f"; not over at {count(others, 'other subscription')} either" if others else ""
    done = f"; over at {_names(over)}" if over else ""
    return Why(False, f"{first.subscription}: {reason.why}{more}{done}", reason.do)


def at(event: EventSeen, heard: HeardSeen, now: Instant) -> Why:
    """Say how it stands with an event at one subscription."""
    match heard.state:
        case "had":
            if event.told < heard.since:
                return Why(True, "over: it was told before the subscription was made, or was handled")
            return Why(True, "over: handled, or given up")
        case "failed" | "parked":
            return _given_up(heard)
        case "missing":
            return _missing(event, heard)
        case "unseen":
            return Why(False, f"the store of {heard.service} is not here, so nothing is known of it")
        case "received":
            return _received(heard, now)
        case "suspended":
            return _inside(f"its handler rests at {heard.service} until a call of its own is answered", heard, now)
        case _:
            return _running(heard, now)


def _given_up(heard: HeardSeen) -> Why:
    letter = heard.letter
    if letter is None:
        return Why(False, "it is parked: an operator says what becomes of it")
    text = f"{heard.state} after {count(letter.attempts, 'attempt')} ({letter.code}): {letter.reason}"
    if heard.state == FAILED:
        return Why(True, text, f"`posthouse dead show {letter.id}` has the cause and the data.")
    do = f"Mend the cause, then `posthouse dead replay {letter.id}`; or give it up: `posthouse dead drop {letter.id}`."
    return Why(False, text, do)


def _missing(event: EventSeen, heard: HeardSeen) -> Why:
    service, publisher = heard.service, event.publisher
    if not event.kept:
        return Why(False, f"it has not come to {service}, and {publisher} does not keep it any more, or is not here")
    until = f" It is kept until {moment(event.until)}." if event.until else ""
    if not heard.instances:
        return Why(
            False,
            f"it has not come to {service}, of which no instance is there; the first that comes asks for it",
            f"Start {service}.{until}",
        )
    if not event.instances:
        return Why(
            False,
            f"it has not come to {service}, and no instance of {publisher} is there to be asked for it",
            f"Start {publisher}.{until}",
        )
    behind = event.number - heard.floor
    if behind > 0:
        return Why(
            False,
            f"it has not come to {service}: {count(behind, 'event')} before it may not be over yet there",
            f"`posthouse subscriptions` shows how far it is.{until}",
        )
    return Why(False, f"it has not come to {service}, which asks for it within seconds")


def _received(heard: HeardSeen, now: Instant) -> Why:
    service = heard.service
    if not heard.instances:
        return Why(False, f"{service} has it stored, and no instance of it is there", f"Start {service}.")
    if heard.due > now:
        failed = f"its handler failed {count(heard.failures, 'time')}; " if heard.failures else ""
        return Why(False, f"{failed}{service} runs it again in {ago(now, heard.due)}")
    return Why(False, f"{service} has it stored, for {ago(heard.due, now)}, and is busy with others")


def _running(heard: HeardSeen, now: Instant) -> Why:
    service, instance = heard.service, heard.instance
    if instance is None or not instance.there:
        gone = f"the instance of {service} that ran it (attempt {heard.attempt}) is gone"
        if heard.instances:
            return Why(False, f"{gone}; another takes it over within seconds")
        return Why(False, f"{gone}, and no other is there", f"Start {service}.")
    text = f"{service} runs it, attempt {heard.attempt}, on {shown(instance)}, for at most {ago(heard.due, now)}"
    return _inside(text, heard, now)


def _inside(text: str, heard: HeardSeen, now: Instant) -> Why:
    """Add how it stands with the call that the handler waits for."""
    for each in heard.inside:
        if each.call is not None and each.call.state in UNSETTLED_CALLS:
            reason = why_call(each, now)
            return Why(False, f"{text}; {each.operation} ({each.id}): {reason.why}", reason.do)
    return Why(False, text)


def _worst_first(heard: HeardSeen) -> int:
    """What needs a person comes before what comes to an end by itself."""
    if heard.state == "parked":
        return 0
    if heard.state == UNSEEN:
        return 3
    return 1 if heard.state == MISSING or not heard.instances else 2


def _names(heard: list[HeardSeen]) -> str:
    return ", ".join(each.subscription for each in heard)
