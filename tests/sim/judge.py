"""What must hold when a world is at rest: what the history says, and what is seen in the stores and processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from posthouse.errors import CallUnknownError, PosthouseError
from posthouse.message.codec import decode
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import SELF, lane_of
from posthouse.runtime.steps.applying import run_of
from tests.history.checker import check
from tests.history.events import Acked, Applied, Effect, Invoked, Left, Told, refused
from tests.sim.services import OPERATIONS, Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from posthouse.protocol.inbox import Request
    from tests.history.events import Outcome
    from tests.sim.world import World


async def left_in(world: World, service: str) -> Left:
    """Return what a store holds."""
    post = world.someone_of(service).post
    assert post is not None
    store = post.stores[0]
    calls, requests = await store.read(
        lambda b: (b.calls_listed(final=False, limit=10000), b.requests_listed(limit=10000))
    )
    # What was deposited stays for as long as it can be repeated, and no ack of anybody ends that.
    requests = [each for each in requests if lane_of(each.place) != SELF or not each.state.decided]
    parked = [each for each in requests if each.state is RequestState.PARKED]
    return Left(store=service, open=len(calls), held=len(requests), parked=tuple(_op_of(each) for each in parked))


def _op_of(row: Request) -> str:
    name = row.operation.split(".")[1]
    frame = run_of(row.frame).request if name in {"on_reply", "on_ack"} else row.frame
    return msgspec.json.decode(decode(frame).data, type=Job).op


async def read_everything(world: World) -> None:
    """Note the effects, replies and acks in the stores, and what is left there; ask again for all outcomes."""
    for service in world.services():
        post = world.someone_of(service).post
        assert post is not None
        store = post.stores[0]
        async with store.reading() as rows:
            for sequence, op, value, run in await rows.execute("SELECT sequence, op, value, run FROM effects"):
                world.note(None, Effect(op, service, sequence, value, run))
            for op, outcome, value, code in await rows.execute("SELECT op, outcome, value, code FROM applied"):
                world.note(None, Applied(op, outcome, value, code))
            for (op,) in await rows.execute("SELECT op FROM acked"):
                world.note(None, Acked(op))
            world.sent.update(op for (op,) in await rows.execute("SELECT op FROM sent"))
        world.note(None, await left_in(world, service))
    await _ask_again(world)


async def _ask_again(world: World) -> None:
    for ask in world.plan.asks:
        op = ask.job.op
        if ask.job.effect != "row" or ask.caller == "guest":
            continue
        place = world.someone_of(ask.caller)
        assert place.post is not None
        client = place.post.client(ask.caller)
        try:
            done: Any = await client.reply(OPERATIONS[ask.job.to], op, timeout=0.01)
        except CallUnknownError:
            continue
        except PosthouseError as error:
            told = refused(op, error)
        else:
            told = Told(op, "done", done.value, echo=done.op)
        told.by = "auditor"
        world.note(None, told)


def judged(world: World) -> list[str]:
    """Return what is wrong with a world that has come to its end."""
    report = check([*world.records, *_sent_in_handlers(world)], "exactly_once")
    wrong = [str(finding) for finding in report.findings]
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
