"""Carries out what the end of a handler means: settles the delivery, and tells a caller who waits.

What it means is decided in protocol/settlement.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Final, Protocol, cast

from posthouse.clock import seconds
from posthouse.contracts.transport import ACCEPTED, Rejected, Released
from posthouse.errors import PendingError, PosthouseError, Retry
from posthouse.protocol.settlement import (
    DELIVERIES,
    Decided,
    End,
    Failed,
    Over,
    Waits,
    crashed_too_often,
    passes_on,
    policy_for,
    settle,
)
from posthouse.runtime.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.declare.target import Target
    from posthouse.protocol.settlement import Policy
    from posthouse.runtime.workplace import Turn, Work, Workplace

_log: Final = logging.getLogger("posthouse.service")


class Ends(Protocol):
    """What carries out the ends of one handler's attempts."""

    def attempt_for(self, turn: Turn, work: Work) -> Attempt:
        """Return the door for one run."""
        ...

    def crashes(self, work: Work) -> bool:
        """End a delivery that has been handed over too often to be run again; return whether it was."""
        ...

    def well(self, works: Sequence[Work], reply: bytes | Decided, attempt: Attempt | None) -> None:
        """It ended well: with a reply, or with a Reject that was returned."""
        ...

    def badly(self, work: Work, end: End, attempt: Attempt | None = None) -> None:
        """It did not."""
        ...


class Ending:
    """The ends of one handler's attempts."""

    def __init__(self, place: Workplace, target: Target) -> None:
        self._place = place
        self._settle = place.parts.settler.add
        self._rng = place.parts.seams.rng
        self._name = target.name
        run = target.run
        self._waited_for = policy_for(
            waited_for=True, attempts=run.attempts, backoff=run.backoff, exhausted=run.exhausted
        )
        self._unattended = policy_for(
            waited_for=False, attempts=run.attempts, backoff=run.backoff, exhausted=run.exhausted
        )
        self._volatile = policy_for(waited_for=True, attempts=1, exhausted="fail")  # never retried by us

    def attempt_for(self, turn: Turn, work: Work) -> Attempt:
        """Return the door for one run."""
        return Attempt(self._place, turn, work.message)

    def well(self, works: Sequence[Work], reply: bytes | Decided, attempt: Attempt | None) -> None:
        """It took effect: answer, and forget it. A Reject that was returned has kept what the handler sent."""
        for work in works:
            if isinstance(reply, Decided):
                self.badly(work, reply, attempt)
                continue
            if work.message.reply_to:
                self._place.reply(work.message, reply)
            if work.delivery is not None:
                self._settle(work.delivery, ACCEPTED)

    def crashes(self, work: Work) -> bool:
        """End a delivery that has been handed over too often to be run again; return whether it was."""
        delivery = work.delivery
        if delivery is None or delivery.attempt <= DELIVERIES:
            return False
        over = crashed_too_often(
            name=self._name,
            attempt=delivery.attempt,
            waited_for=bool(work.message.reply_to),
            policy=self._policy(work),
        )
        self._over(work, over)
        return True

    def badly(self, work: Work, end: End, attempt: Attempt | None = None) -> None:
        """It did not end well: try again later, or end it for good."""
        del attempt
        delivery = work.delivery
        decision = settle(
            end,
            name=self._name,
            attempt=1 if delivery is None else delivery.attempt,
            failures=0 if delivery is None else delivery.failures,
            waited_for=bool(work.message.reply_to),
            policy=self._policy(work),
            rng=self._rng,
        )
        if isinstance(decision, Over) or delivery is None:
            if isinstance(decision, Over):
                self._over(work, decision)
            return
        _log.warning(
            "%s failed at %s (attempt %d), and tries again in %.1f s: %s",
            self._name,
            work.message.id,
            delivery.attempt,
            decision.after,
            end.error if isinstance(end, Decided) else end.cause,
        )
        self._settle(delivery, Released(after=decision.after))

    def _policy(self, work: Work) -> Policy:
        if work.delivery is None:
            return self._volatile
        return self._waited_for if work.message.reply_to else self._unattended

    def _over(self, work: Work, over: Over) -> None:
        message = work.message
        if over.tell is not None:
            self._place.refuse(message, over.tell)
        if over.keep is None and over.tell is not None:
            _log.info("%s answers %s with %s: %s", self._name, message.id, over.code, over.reason)
        else:
            kept = "" if over.keep is None or work.delivery is None else f", kept as a dead letter ({over.keep})"
            _log.error("%s gives up %s%s: %s\n%s", self._name, message.id, kept, over.reason, over.detail)
        if work.delivery is not None:
            outcome = ACCEPTED if over.keep is None else Rejected(over.keep, over.code, over.reason, over.detail)
            self._settle(work.delivery, outcome)


def end_of(raised: BaseException) -> End:
    """Return what an exception that left a handler means."""
    error = _meant(raised)
    if isinstance(error, Retry):
        try:
            after = None if error.after is None else seconds(error.after)
        except (TypeError, ValueError) as wrong:
            return Failed(f"Retry(after={error.after!r}): {wrong}")
        return Failed(error.reason or "the handler asked for another try", after=after)
    if isinstance(error, PosthouseError) and passes_on(error):
        return Decided(error)
    if isinstance(error, PendingError):
        return Waits(str(error))
    cause = traceback.TracebackException.from_exception(error)  # lives with a __str__ that raises
    detail = traceback.TracebackException.from_exception(raised)
    return Failed("".join(cause.format_exception_only()).strip(), "".join(detail.format()), error=error)


def _meant(raised: BaseException) -> BaseException:
    """Return the error that a group stands for: a TaskGroup wraps even a single one, and calls may expire together."""
    errors = _in_group(raised)
    is_one = len(errors) == 1 or all(isinstance(error, PendingError) for error in errors)
    return errors[0] if is_one else raised


def _in_group(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [inner for each in group.exceptions for inner in _in_group(each)]
