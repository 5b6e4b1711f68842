"""What a handler that hears a reply, or an ack, is given: the request, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthouse.declare.values import Reply
from posthouse.message.codec import decode
from posthouse.runtime.outbound import Outbound
from posthouse.runtime.steps.applying import run_of
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
