"""An event, printed for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.cli import data, output
from posthouse.cli.why import count
from posthouse.cli.why_event import at, why

if TYPE_CHECKING:
    from posthouse.cli.events import EventSeen
    from posthouse.clock import Instant


def show(event: EventSeen, now: Instant) -> None:
    """Print an event: who told it, whether it is kept, and what became of it at each subscription."""
    output.line(output.plain(f"{event.id}  {event.publisher} tells {event.event}, {output.ago(event.told, now)} ago"))
    answer = why(event, now)
    output.line()
    output.field("so far", answer.why)
    if answer.do:
        output.field("do", answer.do)
    output.line()
    stream = f"number {event.number} of store {event.stream.id[:8]} epoch {event.stream.epoch}"
    if event.kept:
        output.field("publisher", f"{event.publisher}, {stream}; kept until {output.moment(event.until)}")
    else:
        gone = "not kept any more" if event.store is not None else "its store is not here"
        output.field("publisher", f"{event.publisher}, {stream}; {gone}")
    if event.work:
        output.field("told by", f"the handler of {event.work}")
    for heard in event.heard:
        here = "" if heard.store is None else f", store {heard.store.id[:8]} epoch {heard.store.epoch}"
        undeclared = ", not declared any more" if heard.declared is False else ""
        tried = f"; {count(heard.attempt, 'attempt')}, {count(heard.failures, 'failure')}" if heard.attempt else ""
        output.field("heard by", f"{heard.subscription}{here}{undeclared}: {heard.state}{tried}")
        output.field("", at(event, heard, now).why)
    output.line(f"\ndata\n{data.shown(bytes(event.data))}")
