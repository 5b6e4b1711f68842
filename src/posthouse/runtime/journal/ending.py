"""Carries out what the end of a journaled handler means: decide its request in the store, or put it back.

What it means is decided in protocol/settlement, as for the cheaper modes.
"""

from __future__ import annotations

import hashlib
import logging
import re
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from posthouse.contracts.store import Deceased
from posthouse.errors import (
    CallDivergedError,
    GroupLostError,
    LeaseLostError,
    PosthouseError,
    QueueFullError,
    Reject,
    UnavailableError,
)
from posthouse.flow.backoff import full_jitter
from posthouse.message.codec import encode
from posthouse.message.message import Kind
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.settlement import Decided, Failed, Over, Waits, one_line, policy_for, settle
from posthouse.runtime.answers import refusal_of
from posthouse.runtime.ending import end_of
from posthouse.runtime.journal.attempt import JournaledAttempt
from posthouse.runtime.journal.ends import Ending
from posthouse.runtime.steps.deciding import FIRST_OF_FEEDS, Decision, Ended, PutBack
from posthouse.runtime.steps.wire import Outcome, is_waited_for, outcome_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.clock import Seconds
    from posthouse.declare.target import Target
    from posthouse.protocol.settlement import End
    from posthouse.runtime.attempt import Attempt
    from posthouse.runtime.journal.journal import Journal
    from posthouse.runtime.workplace import Claim, Turn, Work, Workplace

_log: Final = logging.getLogger("posthouse.service")

# Members that are looked at for each message; in Python 3.11 a look at one through its class takes 70 ns.
_DONE, _REQUEST = RequestState.DONE, Kind.REQUEST

NEVER: Final = float("inf")

BRIEFLY: Final[Seconds] = 0.5
"""How long to wait when it was nobody's fault: the outbox is full, the store away."""

_NUMBERS: Final = re.compile(r"0x[0-9a-f]+|\d+|'[^']*'|\"[^\"]*\"")


class JournaledEnding:
    """The ends of one handler's attempts."""

    def __init__(self, place: Workplace, target: Target, journal: Journal) -> None:
        self._place = place
        self._journal = journal
        self._name = target.name
        self._rng = place.parts.seams.rng
        run = target.run
        self._waited_for = policy_for(
            waited_for=True, attempts=run.attempts, backoff=run.backoff, exhausted=run.exhausted
        )
        self._unattended = policy_for(
            waited_for=False, attempts=run.attempts, backoff=run.backoff, exhausted=run.exhausted
        )
        self._keeps_frame = target.name in journal.here.ack_handlers
        self._told = self._not_decided

    def attempt_for(self, turn: Turn, work: Work) -> Attempt:
        """Return the door for one run."""
        return JournaledAttempt(self._place, turn, work, self._claim(work), self._journal)

    def crashes(self, work: Work) -> bool:
        """Say no: a request at which instances die is parked when it is taken over from them."""
        del work
        return False

    def well(self, works: Sequence[Work], reply: bytes | Decided, attempt: Attempt | None) -> None:
        """It took effect: decide it, with all that the handler wrote, sent and used."""
        if isinstance(attempt, JournaledAttempt) and attempt.diverged is not None:
            for work in works:
                self.badly(work, Decided(attempt.diverged), attempt)
            return
        if len(works) == 1 and self._is_only_had(works[0], attempt):
            self._journal.inbox.ends.had(works[0], self._told)
            return
        outcome = Outcome(reply) if isinstance(reply, bytes) else Outcome(b"", refusal_of(reply.error))
        stored = outcome_bytes(outcome)
        decisions: list[Decision] = []
        for work in works:
            claim = self._claim(work)
            decision = Decision(claim.place, claim.attempt, _DONE, stored, self._keeps_frame)
            decision.calls = claim.attempt > 1 or claim.has_calls
            if claim.uses is not None:
                decision.used = (claim.uses,)
            decision.ours = work.message.kind is not _REQUEST
            decisions.append(decision)
        tail = None
        if isinstance(attempt, JournaledAttempt):
            first = decisions[0]
            first.asks = attempt.asks
            first.tells = attempt.tells or ()
            first.used = (*attempt.used, *first.used)
            tail = attempt.tail
        self._journal.inbox.ends.decide(Ending(works, decisions, tail, self._not_decided))

    @staticmethod
    def _is_only_had(work: Work, attempt: Attempt | None) -> bool:
        """Say whether nothing is to be written of an event but that it was had."""
        claim = work.claim
        return (
            claim is not None
            and claim.place >= FIRST_OF_FEEDS
            and claim.attempt == 1
            and (attempt is None or (isinstance(attempt, JournaledAttempt) and attempt.is_empty))
        )

    def badly(self, work: Work, end: End, attempt: Attempt | None = None) -> None:
        """It did not end well: try again later, or end it for good."""
        if isinstance(attempt, JournaledAttempt):
            if attempt.tail is not None:
                attempt.tail.give_up()
            if attempt.diverged is not None:
                end = Decided(attempt.diverged)
        claim = self._claim(work)
        if isinstance(end, Waits) and isinstance(attempt, JournaledAttempt) and attempt.awaited:
            if attempt.rests(claim):
                self._suspend(work, claim, attempt)
            else:  # of a batch, whose calls were made in the name of its first
                self._again(work, claim, after=BRIEFLY, failures=claim.failures)
            return
        if isinstance(end, Decided) and isinstance(end.error, CallDivergedError):
            self._park(work, claim, end.error.code, str(end.error), "")
            return
        if isinstance(end, Failed) and end.error is not None and _unasked(attempt) is end.error:
            self._again_later(work, claim, end.error)
            return
        waited_for = is_waited_for(work.message) and work.message.kind is Kind.REQUEST
        decision = settle(
            end,
            name=self._name,
            attempt=claim.failures + 1,
            failures=claim.failures,
            waited_for=waited_for,
            policy=self._waited_for if waited_for else self._unattended,
            rng=self._rng,
        )
        if isinstance(decision, Over):
            self._over(work, claim, decision, end)
            return
        cause = str(end.error) if isinstance(end, Decided) else end.cause
        _log.warning(
            "%s failed at %s (attempt %d), and tries again in %.1f s: %s",
            self._name,
            work.message.id,
            claim.failures + 1,
            decision.after,
            cause,
        )
        self._again(work, claim, after=decision.after, failures=claim.failures + 1)

    def give_back(self, work: Work) -> None:
        """Let others have it: this instance stops. No attempt is counted."""
        claim = self._claim(work)
        self._again(work, claim, after=0.0, failures=claim.failures)

    # --- carrying out ---------------------------------------------------------------------------------------

    def _suspend(self, work: Work, claim: Claim, attempt: JournaledAttempt) -> None:
        row = self._row(claim, RequestState.SUSPENDED, due=work.message.deadline or NEVER)
        row.awaits = sorted(attempt.awaited)
        _log.info("%s waits at %s for a reply, and holds nothing meanwhile", self._name, work.message.id)
        self._journal.inbox.ends.release(row, work)

    def _again(self, work: Work, claim: Claim, *, after: Seconds, failures: int) -> None:
        row = self._row(claim, RequestState.RECEIVED, due=self._journal.here.now() + after)
        row.failures = failures
        self._journal.inbox.ends.release(row, work)

    def _over(self, work: Work, claim: Claim, over: Over, end: End) -> None:
        error = over.tell or (end.error if isinstance(end, Decided) else None)
        if over.keep == "parked" and not (isinstance(end, Decided) and isinstance(end.error, Reject)):
            self._park(work, claim, over.code, over.reason, over.detail)
            return
        refusal = refusal_of(error if error is not None else PosthouseError(over.reason))
        if error is None:
            refusal = msgspec.structs.replace(refusal, code=over.code)
        decision = Decision(
            claim.place,
            claim.attempt,
            RequestState.NOT_DONE,
            outcome_bytes(Outcome(b"", refusal, done=False)),
            keeps_frame=self._keeps_frame,
        )
        decision.calls = claim.attempt > 1 or claim.has_calls
        if claim.uses is not None:
            decision.used = (claim.uses,)
        decision.ours = work.message.kind is not Kind.REQUEST
        if over.keep is not None or not isinstance(end, Decided):
            decision.letter = self._letter(
                work, claim, "failed", code=over.code, reason=over.reason, detail=over.detail
            )
            _log.error("%s gives up %s: %s\n%s", self._name, work.message.id, over.reason, over.detail)
        else:
            _log.info("%s answers %s with %s: %s", self._name, work.message.id, over.code, over.reason)
        self._journal.inbox.ends.decide(Ending((work,), (decision,), None, self._not_given_up))

    def _park(self, work: Work, claim: Claim, code: str, reason: str, detail: str) -> None:
        row = self._row(claim, RequestState.PARKED, due=NEVER)
        row.failures = claim.failures + 1
        row.letter = self._letter(work, claim, "parked", code=code, reason=reason, detail=detail)
        _log.error("%s parks %s: %s\n%s", self._name, work.message.id, reason, detail)
        self._journal.inbox.ends.release(row, work)

    def _not_decided(self, work: Work, why: Ended | BaseException) -> None:
        """The books did not take it: another attempt has it, or it must run again."""
        claim = self._claim(work)
        match why:
            case Ended.FENCED:
                _log.warning("%s: %s is run by another instance by now", self._name, work.message.id)
            case LeaseLostError() | Ended.ANSWERS_CHANGED | GroupLostError():
                self._again(work, claim, after=0.0, failures=claim.failures)
            case QueueFullError() | UnavailableError():
                self._again_later(work, claim, why)
            case BaseException():
                self.badly(work, end_of(why))
            case _:
                self._again(work, claim, after=0.0, failures=claim.failures)

    def _not_given_up(self, work: Work, why: Ended | BaseException) -> None:
        """The books did not take even that it is given up; what is wrong with them is no reason to try at once."""
        if isinstance(why, Ended | LeaseLostError):
            self._not_decided(work, why)
        else:
            self._again_later(work, self._claim(work), why)

    def _again_later(self, work: Work, claim: Claim, why: BaseException) -> None:
        """Try again when it may be possible; it was not the handler's fault, and no attempt is counted."""
        _log.warning("%s: %s is not stored yet, and runs again: %s", self._name, work.message.id, why)
        after = full_jitter(3, base=BRIEFLY, cap=5.0, rng=self._rng)
        self._again(work, claim, after=after, failures=claim.failures)

    def _row(self, claim: Claim, state: RequestState, *, due: float) -> PutBack:
        return PutBack(
            self._name, claim.place, claim.attempt, state, due=due, failures=claim.failures, deaths=claim.deaths
        )

    def _letter(
        self, work: Work, claim: Claim, state: Literal["parked", "failed"], *, code: str, reason: str, detail: str
    ) -> Deceased:
        message = work.message
        return Deceased(
            place=claim.place,
            id=message.id,
            operation=self._name,
            frame=encode(message),
            state=state,
            code=code,
            reason=one_line(reason),
            detail=detail,
            attempts=claim.attempt,
            cause=fingerprint(self._name, code, reason, detail),
            at=self._journal.here.now(),
        )

    @staticmethod
    def _claim(work: Work) -> Claim:
        if work.claim is None:
            raise PosthouseError("a journaled run without a claim")
        return work.claim


def _unasked(attempt: Attempt | None) -> BaseException | None:
    return attempt.unasked if isinstance(attempt, JournaledAttempt) else None


def fingerprint(name: str, code: str, reason: str, detail: str) -> str:
    """Return what letters of one cause have in common: the error and where it was raised, without its values."""
    lines = [line.strip() for line in detail.splitlines() if line.strip().startswith("File ")]
    where = lines[-1] if lines else ""
    said = _NUMBERS.sub("#", reason if not where else reason.partition(":")[2][:60])
    return hashlib.blake2b("\n".join((name, code, where, said)).encode(), digest_size=6).hexdigest()
