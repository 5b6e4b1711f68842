"""What must hold when a world is at rest: what the history says, and what is seen in the stores and processes."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from posthouse.message.codec import decode
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import SELF, lane_of
from posthouse.protocol.outbox import CallState
from posthouse.runtime.steps.applying import run_of
from posthouse.runtime.steps.wire import outcome_of
from tests.history.checker import check
from tests.history.events import Acked, Applied, Effect, Invoked, Left, Told
from tests.sim.restores import remembered, silences
from tests.sim.services import Done, Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from posthouse.protocol.inbox import Request
    from posthouse.protocol.outbox import Call
    from tests.history.events import Outcome
    from tests.sim.world import Place, World


MANY = 100_000


async def left_in(world: World, service: str) -> Left:
    """Return what a store holds."""
    store = world.someone_of(service).store
    calls, requests = await store.read(
        lambda b: (b.calls_listed(final=False, limit=MANY), b.requests_listed(limit=MANY))
    )
    # What was deposited stays for as long as it can be repeated, and no ack of anybody ends that.
    requests = [each for each in requests if lane_of(each.place) != SELF or not each.state.decided]
    parked = [each for each in requests if each.state is RequestState.PARKED]
    if parked:  # while a floor stands still, an ack of what lies above it may be lost, and is not repeated
        requests = [each for each in requests if not each.state.decided]
    epoch = store.identity.epoch
    lanes = await store.read(lambda books: books.lanes_out())
    world.unclosed[service] = [lane.lane for lane in lanes if lane.epoch != epoch and not lane.closed]
    return Left(store=service, open=len(calls), held=len(requests), parked=tuple(_op_of(each) for each in parked))


def _op_of(row: Request) -> str:
    name = row.operation.split(".")[1]
    frame = run_of(row.frame).request if name in {"on_reply", "on_ack"} else row.frame
    return msgspec.json.decode(decode(frame).data, type=Job).op


def open_tickets(place: Place) -> list[str]:
    """Return which calls somebody in a process still waits for; of a caller without a store, the reply may be lost."""
    if place.post is None or place.service == "guest":
        return []
    journal = place.post.journals.get(place.service)
    tickets = [] if journal is None else list(journal.outbox._tickets)
    return [f"{place.process} still waits for {ticket}" for ticket in (*tickets, *place.post.caller._waiting)]


async def read_everything(world: World) -> None:
    """Note the effects, replies and acks in the stores, and what is left there; ask again for all outcomes."""
    asked = {ask.job.op for ask in world.plan.asks if ask.caller == "guest"}
    for service in world.services():
        books = world.someone_of(service).store
        asked.update(call.id for call in await books.read(lambda books: books.calls_listed(limit=MANY)))
        letters = await books.read(lambda books: books.dead_letters(limit=MANY))
        world.letters += [(service, letter) for letter in letters]
    for service in world.services():
        async with world.someone_of(service).store.reading() as rows:
            ids: Counter[str] = Counter()
            for sequence, op, value, run, id in await rows.execute("SELECT sequence, op, value, run, id FROM effects"):
                ids[id] += 1
                if id in asked:
                    world.note(None, Effect(op, service, sequence, value, run))
                else:
                    world.orphans.append((service, id, op))
            world.wrong += [f"{id} took effect {count} times in {service}" for id, count in ids.items() if count > 1]
            for op, outcome, value, code in await rows.execute("SELECT op, outcome, value, code FROM applied"):
                world.note(None, Applied(op, outcome, value, code))
            for (op,) in await rows.execute("SELECT op FROM acked"):
                world.note(None, Acked(op))
            world.sent.update(op for (op,) in await rows.execute("SELECT op FROM sent"))
        world.note(None, await left_in(world, service))
        await _read_outcomes(world, service)


async def _read_outcomes(world: World, service: str) -> None:
    """Note how every request of a store ended, as its books say it; who asked may have died or have been canceled."""
    calls = await world.someone_of(service).store.read(lambda books: books.calls_listed(final=True, limit=MANY))
    for call in calls:
        job = msgspec.json.decode(decode(call.frame).data, type=Job)
        if call.state is CallState.CONFLICT and job.no == "returned":
            continue  # it was done, and a no was what it gave
        if _told(job.op, call).outcome == "not done":
            world.refused.add(job.op)
        if job.effect == "row":
            world.note(None, _told(job.op, call))
        elif job.effect == "id" and call.state is CallState.DONE and not job.no:
            told = _told(job.op, call)
            if world.outside.brought.get(call.id) != told.value:
                world.wrong.append(f"{job.op} told {told.value!r}, and outside counts {world.outside.brought}")


def _told(op: str, call: Call) -> Told:
    match call.state:
        case CallState.DONE:
            outcome = outcome_of(call.outcome)
            if outcome.refusal is not None:  # a Reject that was returned: what the handler kept is no effect
                return Told(op, "not done", code=outcome.refusal.code, by="auditor")
            done = msgspec.json.decode(outcome.data, type=Done)
            return Told(op, "done", done.value, echo=done.op, by="auditor")
        case CallState.NOT_DONE:
            refusal = outcome_of(call.outcome).refusal
            return Told(op, "not done", code="" if refusal is None else refusal.code, by="auditor")
        case CallState.CONFLICT:
            return Told(op, "conflict", by="auditor")
        case _:
            return Told(op, "unknown", by="auditor")


def judged(world: World) -> list[str]:
    """Return what is wrong with a world that has come to its end."""
    records = [*world.records, *_sent_in_handlers(world), *_given_up(world)]
    report = check(remembered(records, world.sent), "exactly_once")
    world.counts = report.counts
    wrong = [str(finding) for finding in report.findings]
    wrong += silences(world)
    wrong += [f"{op} ran under the ids {ids}" for op, ids in world.outside.ids.items() if len(ids) > 1]
    wrong += world.wrong
    if not world.rested:
        wrong.append("it did not come to rest")
    return wrong + world.loop.unhandled


def _sent_in_handlers(world: World) -> Iterator[Told]:
    """Yield what became of what runs have sent: it is stored if the run's own table says so."""
    for record in world.records:
        if isinstance(record, Invoked) and "~" in record.op:
            outcome: Outcome = "stored" if record.op in world.sent else "not stored"
            yield Told(record.op, outcome, at=math.nextafter(record.at, math.inf), by="auditor")


def _given_up(world: World) -> Iterator[Told]:
    """Yield what became of calls that waited for a number when the delivery that made them was refused: nothing."""
    told = {record.op for record in world.records if isinstance(record, Told) and record.outcome == "not done"}
    refused = world.refused | told  # of those that have no effect of their own, only the books say it
    known = {record.op for record in world.records if isinstance(record, Told) and record.by == "auditor"}
    for record in world.records:
        if not isinstance(record, Told) or record.outcome != "pending" or record.op in known:
            continue
        if record.op.rpartition(".")[0] in refused:
            at = math.nextafter(record.at, math.inf)
            yield Told(record.op, "not done", code="call.canceled", at=at, by="auditor")
