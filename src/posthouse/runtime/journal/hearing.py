"""What handlers are given that hear a reply, an ack or a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthouse.declare.values import Gap, Reply
from posthouse.message.codec import decode
from posthouse.runtime.outbound import Outbound
from posthouse.runtime.steps.applying import run_of
from posthouse.runtime.steps.feeding import gap_of
from posthouse.runtime.steps.wire import outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.declare.target import ReplyHandler


def reply_reader(heard: ReplyHandler) -> Callable[[bytes], Reply[Any, Any]]:
    """Return what makes a Reply of the frame of such a run."""
    operation = heard.operation
    outbound = Outbound(operation)

    def read(frame: bytes) -> Reply[Any, Any]:
        run = run_of(frame)
        request = decode(run.request)
        try:
            outcome: Any = outbound.result_of(outcome_of(run.outcome), request.id)
        except Exception as error:  # what `get` is to raise
            outcome = error
        return Reply[Any, Any](request.id, operation.decode_request(request.data), outcome)

    return read


def gap_reader(frame: bytes) -> Gap:
    """Make a Gap of the frame of a run that tells of one."""
    run = gap_of(frame)
    return Gap(run.event, run.publisher, run.first, run.last)
