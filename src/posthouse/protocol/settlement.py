"""What the end of a handler means: for the delivery, and for a caller who waits.

A handler ends in one of the Ends below. `settle` says what the transport is told, and whether and
how the caller is answered. The rules:

- what is decided is told at once and never run again: a Reject, a passed deadline, data that does
  not fit, and any decided outcome of a call that the handler lets pass;
- a failure is tried again, with full jitter, as often as the policy says; then it is *failed* and
  the caller told, or *parked* for an operator when nobody waits (or when the handler says so);
- who has nobody to tell leaves a dead letter: nothing ends in silence;
- a crash is not a failure of the handler, but no message may crash instances for ever:
  DELIVERIES is the end of that.

Journaled delivery will settle rows of its store by the same Ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from posthouse.errors import FailedError, NotDoneError, PosthouseError, Reject
from posthouse.flow.backoff import full_jitter

if TYPE_CHECKING:
    from random import Random

    from posthouse.clock import Seconds

DELIVERIES: Final = 20
"""A message handed over so often without an end has taken its receivers down with it.

Source: the limit of 20 that RabbitMQ's quorum queues set by default from 4.0 on."""


REASON_LIMIT: Final = 1000
"""The most characters of a reason; the whole text stands in the detail."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How often, and how soon again."""

    attempts: int
    base: Seconds
    cap: Seconds
    exhausted: Literal["park", "fail"]


WAITED_FOR: Final = Policy(attempts=3, base=0.1, cap=2.0, exhausted="fail")
"""When a caller waits: soon again, and told soon."""

UNATTENDED: Final = Policy(attempts=8, base=1.0, cap=300.0, exhausted="park")
"""When nobody does: patient, and left to an operator."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised what it should not have, timed out, or asked for a retry.

    Attributes:
        cause: what happened, in words.
        detail: the traceback.
        after: when it wants to be tried again; None leaves that to the policy.
        error: what was raised; None where nothing was.
    """

    cause: str
    detail: str = ""
    after: Seconds | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """It is certain that it was not, and will not be, done; the error says why."""

    error: PosthouseError


@dataclass(frozen=True, slots=True)
class Waits:
    """A call that it waits for is pending: in a journaled delivery it rests until the reply is there."""

    cause: str
    detail: str = ""


End: TypeAlias = Failed | Decided | Waits
"""How a handler ended other than well; what ended well needs no decision."""


@dataclass(frozen=True, slots=True)
class Again:
    """Deliver it again after a while."""

    after: Seconds


@dataclass(frozen=True, slots=True)
class Over:
    """Never again: tell the caller, keep a dead letter, or both.

    Attributes:
        tell: the error for a caller who waits; None when nobody does.
        keep: the state of the dead letter; None when the caller was told all there is.
        code: of the dead letter.
        reason: of the dead letter, one line.
        detail: of the dead letter: the traceback.
    """

    tell: PosthouseError | None
    keep: Literal["parked", "failed"] | None
    code: str
    reason: str
    detail: str = ""


def policy_for(
    *,
    waited_for: bool,
    attempts: int | None = None,
    backoff: tuple[Seconds, Seconds] | None = None,
    exhausted: Literal["park", "fail"] | None = None,
) -> Policy:
    """Return the policy of a handler: its own word where it said one, else the default of the case."""
    default = WAITED_FOR if waited_for else UNATTENDED
    base, cap = backoff or (default.base, default.cap)
    return Policy(attempts or default.attempts, base, cap, exhausted or default.exhausted)


def settle(
    end: End, *, name: str, attempt: int, failures: int, waited_for: bool, policy: Policy, rng: Random
) -> Again | Over:
    """Say what becomes of a delivery that did not end well.

    Args:
        end: how it ended.
        name: the operation or subscription, for the text.
        attempt: deliveries so far, this one included.
        failures: failures before this one.
        waited_for: whether a caller waits for the reply.
        policy: how often, and how soon again.
        rng: where the jitter comes from.
    """
    match end:
        case Decided(error):
            keep = None if waited_for else "failed" if isinstance(error, NotDoneError) else "parked"
            return Over(error if waited_for else None, keep, error.code, one_line(str(error)) or error.code)
        case Waits(cause, detail):  # nothing keeps what it waits for: it has to ask again
            return settle(
                Failed(cause, detail),
                name=name,
                attempt=attempt,
                failures=failures,
                waited_for=waited_for,
                policy=policy,
                rng=rng,
            )
        case Failed(cause, detail, after):
            tries = failures + 1
            if tries < policy.attempts and attempt < DELIVERIES:
                wait = full_jitter(tries, base=policy.base, cap=policy.cap, rng=rng) if after is None else after
                return Again(wait)
            return _exhausted(name, tries, cause, detail, waited_for=waited_for, policy=policy)


def crashed_too_often(*, name: str, attempt: int, waited_for: bool, policy: Policy) -> Over:
    """Say what becomes of a delivery that was handed over more than DELIVERIES times; it is not run again."""
    cause = "its receivers died or lost their lease on it each time"
    return _exhausted(name, attempt - 1, cause, "", waited_for=waited_for, policy=policy)


def _exhausted(name: str, tries: int, cause: str, detail: str, *, waited_for: bool, policy: Policy) -> Over:
    reason = f"{name} failed after {tries} {'attempt' if tries == 1 else 'attempts'}: {one_line(cause)}"
    tell = FailedError(reason) if waited_for and policy.exhausted == "fail" else None
    keep = "failed" if policy.exhausted == "fail" else "parked"
    return Over(tell, keep, FailedError.code, reason, detail)


def one_line(text: str) -> str:
    """Return a text as a reason can hold it: one line, and no longer than REASON_LIMIT."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_LIMIT else f"{line[: REASON_LIMIT - 3]}..."


def passes_on(error: BaseException) -> bool:
    """Say whether an error that leaves a handler is a decided outcome, to travel on as it is."""
    return isinstance(error, (Reject, NotDoneError))
