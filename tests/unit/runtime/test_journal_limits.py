"""Limits, order, batches and callers without a store: what a journaled lane bears, and what it does beyond that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from posthouse import CallCanceledError, Context, FailedError, NotDoneError, QueueFullError, Service, UsageError
from posthouse.errors import UnknownServiceError
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.outbox import CallState
from tests.house import House, journals_of, until

pytestmark = pytest.mark.anyio


class Step(Struct):
    number: int
    key: str = ""


def steps(*, concurrency: int = 4) -> tuple[Service, Any, list[int]]:
    """Return a service that writes down what it was run for."""
    service, ran = Service("steps", concurrency=concurrency), list[int]()

    @service.handler
    async def take(step: Step) -> int:
        await asyncio.sleep(0.01)
        ran.append(step.number)
        return step.number

    return service, take, ran


async def states(house: House, of: str = "shop") -> list[CallState]:
    return [call.state for call in await house.calls("steps.take", of=of)]


# --- windows and capacities -------------------------------------------------------------------------------


async def test_no_more_is_numbered_than_the_window_holds_and_the_rest_follows_in_order(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("posthouse.runtime.steps.asking.WINDOW", 3)
    service, take, ran = steps(concurrency=1)
    host = await house.open()
    await host.announce(service)
    client = await house.client()
    for number in range(10):
        await client.send(take, Step(number))
    before = await states(house)

    await host.serve(service)
    await house.settled("steps.take")

    assert before == [CallState.OPEN] * 3 + [CallState.WAITING] * 7
    assert ran == list(range(10))
    assert await states(house) == [CallState.DONE] * 10


async def test_a_request_that_is_parked_takes_no_place_in_the_window(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("posthouse.runtime.steps.asking.WINDOW", 2)
    service, ran = Service("steps"), list[int]()

    @service.handler(attempts=1, exhausted="park")
    async def take(step: Step) -> None:
        if step.number < 2:
            raise ValueError(step.number)
        ran.append(step.number)

    await house.serve(service)
    client = await house.client()
    for number in range(5):
        await client.send(take, Step(number))
    await house.settled("steps.take")

    assert sorted(ran) == [2, 3, 4]
    calls = await house.calls("steps.take", of="shop")
    assert [(call.state, call.parked) for call in calls[:2]] == [(CallState.OPEN, True)] * 2


async def test_what_waits_for_a_number_can_be_canceled_and_was_never_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("posthouse.runtime.steps.asking.WINDOW", 1)
    service, take, ran = steps()
    host = await house.open()
    await host.announce(service)
    client = await house.client()
    ids = [await client.send(take, Step(number)) for number in range(3)]

    await client.cancel(ids[1])
    with pytest.raises(NotDoneError):
        await client.reply(take, ids[1])
    await host.serve(service)
    await house.settled("steps.take")

    assert ran == [0, 2]


@pytest.mark.parametrize(("rests", "runs"), [(True, 2), (False, 1)])
async def test_a_handler_that_waits_until_a_call_is_answered_hears_that_it_was_canceled_unsent(
    house: House, monkeypatch: pytest.MonkeyPatch, rests: bool, runs: int
):
    monkeypatch.setattr("posthouse.runtime.steps.asking.WINDOW", 1)
    service, take, _ran = steps()
    await (await house.open()).announce(service)
    till, sold = Service("till"), list[int]()

    @till.handler
    async def sell(step: Step, ctx: Context) -> str:
        sold.append(step.number)
        try:
            return str(await ctx.call(take, step, timeout=1 if rests else 100))
        except CallCanceledError as error:
            return error.code

    serving = await house.serve(till)
    client = house.client_of(serving, "till")
    await client.send(take, Step(0))
    shop = await house.client()
    asking = asyncio.create_task(shop.call(sell, Step(7), timeout="5m"))
    state = RequestState.SUSPENDED if rests else RequestState.RUNNING
    await until(lambda: house.calls("steps.take", of="till"), lambda calls: len(calls) == 2)
    await until(lambda: house.requests("till.sell"), lambda rows: rows[0].state is state)
    [_sent, waits] = await house.calls("steps.take", of="till")

    await client.cancel(waits.id)

    assert waits.state is CallState.WAITING
    assert await asking == "call.canceled"
    assert len(sold) == runs


async def test_a_full_outbox_is_told_at_once_and_takes_more_when_there_is_room_again(house: House):
    service, take, ran = steps()
    host = await house.open()
    await host.announce(service)
    caller = await house.open()
    client = house.client_of(caller)
    await client.send(take, Step(0))
    [journal] = journals_of(caller)
    journal.here.capacity = 2
    await client.send(take, Step(1))

    with pytest.raises(QueueFullError, match="capacity of 2"):
        await client.send(take, Step(2))
    with pytest.raises(QueueFullError):
        await client.call(take, Step(3))
    assert await states(house) == [CallState.OPEN] * 2
    await host.serve(service)
    await house.settled("steps.take")
    assert await client.call(take, Step(4)) == 4

    assert sorted(ran) == [0, 1, 4]


async def test_a_full_outbox_inside_a_handler_is_no_attempt_of_it(house: House):
    service, take, ran = steps()
    till, attempts = Service("till", schema=["CREATE TABLE book (number INT)"]), list[int]()

    @till.handler(attempts=2)
    async def sell(step: Step, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        db = await ctx.transaction()
        await db.execute("INSERT INTO book VALUES (?)", (step.number,))
        await ctx.send(take, step)

    @till.handler(attempts=2)
    async def ask(step: Step, ctx: Context) -> int:
        attempts.append(ctx.attempt)
        return await ctx.call(take, step)

    host = await house.open()
    await host.announce(service)
    serving = await house.serve(till)
    client = house.client_of(serving, "till")
    await client.send(take, Step(0))
    [journal] = journals_of(serving)
    journal.here.capacity = 1
    shop = await house.client()
    operations: list[Any] = [sell, ask]
    asking = [asyncio.create_task(shop.call(op, Step(7), timeout="5m")) for op in operations]
    await asyncio.sleep(30)
    before = await house.rows("till", "SELECT number FROM book")
    await host.serve(service)

    assert await asyncio.gather(*asking) == [None, 7]
    await house.settled("steps.take")
    assert before == []
    assert await house.rows("till", "SELECT number FROM book") == [(7,)]
    assert len(attempts) > 4
    assert set(attempts) == {1}
    assert sorted(ran) == [0, 7, 7]


async def test_a_service_that_nobody_knows_yet_is_no_attempt_of_the_handler_that_asks_it(house: House):
    service, take, ran = steps()
    till, attempts = Service("till"), list[int]()

    @till.handler(attempts=2)
    async def sell(step: Step, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        await ctx.send(take, step)

    @till.handler(attempts=2)
    async def ask(step: Step, ctx: Context) -> int:
        attempts.append(ctx.attempt)
        return await ctx.call(take, step)

    @till.handler(attempts=2)
    async def own(step: Step, ctx: Context) -> None:
        raise UnknownServiceError("this one is its own fault")

    await house.serve(till)
    client = await house.client()
    operations: list[Any] = [sell, ask]
    asking = [asyncio.create_task(client.call(op, Step(7), timeout="5m")) for op in operations]
    await asyncio.sleep(60)
    await house.serve(service)

    assert await asyncio.gather(*asking) == [None, 7]
    await house.settled("steps.take")
    assert (set(attempts), len(attempts) > 4) == ({1}, True)
    assert sorted(ran) == [7, 7]
    with pytest.raises(FailedError, match="after 2 attempts"):
        await client.call(own, Step(1))


# --- order ------------------------------------------------------------------------------------------------


async def test_requests_of_one_key_take_effect_in_the_order_asked_whatever_fails_between(house: House):
    service = Service("steps", concurrency=16)
    ran: dict[str, list[int]] = {}

    @service.handler(key="key", backoff="100ms..5s", attempts=5)
    async def take(step: Step, ctx: Context) -> None:
        await asyncio.sleep(1 / (1 + step.number))  # the later, the faster
        if step.number % 3 == 1 and ctx.attempt < 3:
            raise ValueError(step.number)
        ran.setdefault(step.key, []).append(step.number)

    for _ in range(2):
        await house.serve(service)
    client = await house.client()
    for number in range(12):
        for key in ("a", "b", ""):
            await client.send(take, Step(number, key))
    await house.settled("steps.take")

    assert ran["a"] == ran["b"] == list(range(12))
    assert sorted(ran[""]) == list(range(12))
    assert ran[""] != list(range(12))


async def test_a_request_that_came_to_nothing_lets_the_next_of_its_key_go(house: House):
    service, ran = Service("steps"), list[int]()

    @service.handler(key="key", attempts=2, exhausted="fail")
    async def take(step: Step) -> None:
        if step.number == 0:
            raise ValueError(step.number)
        ran.append(step.number)

    await house.serve(service)
    client = await house.client()
    for number in range(3):
        await client.send(take, Step(number, "a"))
    await house.settled("steps.take")

    assert ran == [1, 2]
    assert await states(house) == [CallState.NOT_DONE, CallState.DONE, CallState.DONE]


# --- batches ----------------------------------------------------------------------------------------------


def batches(*, size: int = 4) -> tuple[Service, Any, list[list[int]]]:
    service, runs = Service("rows", schema=["CREATE TABLE rows (number INT)"]), list[list[int]]()

    @service.handler(batch=size, linger="1s", attempts=1)
    async def store(many: list[Step], ctx: Context) -> None:
        runs.append([step.number for step in many])
        db = await ctx.transaction()
        await db.executemany("INSERT INTO rows VALUES (?)", [(step.number,) for step in many])
        if any(step.number == 2 for step in many):
            raise ValueError("poison")

    return service, store, runs


async def test_a_batch_is_one_transaction_and_all_of_it_is_decided_in_it(house: House):
    service, store, runs = batches()
    await house.serve(service)
    client = await house.client()
    await asyncio.gather(*(client.call(store, Step(number)) for number in range(10, 14)))

    assert runs == [[10, 11, 12, 13]]
    assert await house.rows("rows", "SELECT number FROM rows ORDER BY 1") == [(10,), (11,), (12,), (13,)]


async def test_of_a_batch_with_poison_all_others_are_kept_and_only_the_poison_is_parked(house: House):
    service, store, runs = batches()
    await house.serve(service)
    client = await house.client()
    ids = [await client.send(store, Step(number)) for number in range(4)]
    [letter] = await house.bury(1)
    await house.settled("rows.store")

    assert runs == [[0, 1, 2, 3], [0], [1], [2], [3]]
    assert (letter.message, letter.state) == (ids[2], "parked")
    assert await house.rows("rows", "SELECT number FROM rows ORDER BY 1") == [(0,), (1,), (3,)]
    assert [row.id for row in await house.requests("rows.store")] == [ids[2]]


async def test_a_batch_whose_instance_dies_is_run_once_more_and_kept_once(house: House):
    service, may_end, runs = Service("rows", schema=["CREATE TABLE rows (number INT)"]), asyncio.Event(), list[int]()

    @service.handler(batch=3, linger="1s")
    async def store(many: list[Step], ctx: Context) -> None:
        runs.append(len(many))
        await may_end.wait()
        db = await ctx.transaction()
        await db.executemany("INSERT INTO rows VALUES (?)", [(step.number,) for step in many])

    host = await house.serve(service)
    client = await house.client()
    asking = [asyncio.create_task(client.call(store, Step(number), timeout="5m")) for number in range(3)]
    await until(lambda: _value(runs), bool)
    await host.die()
    may_end.set()
    await house.serve(service)
    await asyncio.gather(*asking)

    assert sum(runs) == 6
    assert await house.rows("rows", "SELECT number FROM rows ORDER BY 1") == [(0,), (1,), (2,)]


# --- the end of its attempts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exhausted", "waited_for", "state"),
    [(None, True, "failed"), (None, False, "parked"), ("park", True, "parked"), ("fail", False, "failed")],
)
async def test_what_is_tried_out_is_failed_or_parked_in_both_stores(
    house: House, exhausted: Any, waited_for: bool, state: str
):
    service = Service("steps")

    @service.handler(attempts=2, backoff="10ms..10ms", exhausted=exhausted)
    async def take(step: Step) -> None:
        raise ValueError("never")

    await house.serve(service)
    client = await house.client()
    if waited_for:
        await asyncio.gather(client.call(take, Step(1), timeout="5s"), return_exceptions=True)
    else:
        await client.send(take, Step(1))
    [letter] = await house.bury(1)
    await house.settled("steps.take")

    [call] = await house.calls("steps.take", of="shop")
    rows = await house.requests("steps.take")
    assert (letter.state, letter.code, letter.attempts) == (state, "handler.failed", 2)
    if state == "parked":
        assert (call.state, call.parked, rows[0].state) == (CallState.OPEN, True, RequestState.PARKED)
    else:
        assert (call.state, call.parked) == (CallState.NOT_DONE, False)
        with pytest.raises(FailedError, match="failed after 2 attempts"):
            await client.reply(take, call.id)


async def test_what_is_parked_can_be_canceled_and_leaves_no_letter(house: House):
    service = Service("steps")

    @service.handler(attempts=1)
    async def take(step: Step) -> None:
        raise ValueError("never")

    await house.serve(service)
    client = await house.client()
    id = await client.send(take, Step(1))
    await house.bury(1)
    await client.cancel(id)

    with pytest.raises(NotDoneError):
        await client.reply(take, id)
    assert await house.dead() == []


# --- callers without a store ------------------------------------------------------------------------------


async def test_a_deposit_is_adopted_and_the_same_id_is_run_once(house: House):
    house.callers_have_stores = False
    service, take, ran = steps()
    await house.serve(service)
    client = await house.client()

    for _ in range(3):
        assert await client.send(take, Step(1), id="once") == "once"
    assert await client.call(take, Step(1), id="once") == 1
    assert await client.call(take, Step(1), id="once") == 1
    assert ran == [1]
    [row] = await house.requests("steps.take")
    assert (row.id, row.state, row.place >> 40) == ("once", RequestState.DONE, 0)


async def test_a_deposit_is_kept_when_its_caller_is_gone_and_nobody_was_there(house: House):
    house.callers_have_stores = False
    service, take, ran = steps()
    host = await house.open()
    await host.announce(service)
    caller = await house.open()
    await house.client_of(caller).send(take, Step(1))
    await caller.close()
    await host.serve(service)
    await house.settled("steps.take")

    assert ran == [1]
    assert (await house.queue("steps.take")).stored == 0


async def test_a_deposit_survives_the_instance_that_adopted_it(house: House):
    house.callers_have_stores = False
    service, may_end, ran = Service("steps"), asyncio.Event(), list[int]()

    @service.handler
    async def take(step: Step) -> int:
        ran.append(step.number)
        await may_end.wait()
        return step.number

    host = await house.serve(service)
    client = await house.client()
    asking = asyncio.create_task(client.call(take, Step(5), timeout="5m"))
    await until(lambda: _value(ran), bool)
    assert (await house.queue("steps.take")).stored == 0
    await host.die()
    may_end.set()
    await house.serve(service)

    assert await asking == 5
    assert ran == [5, 5]


async def test_who_has_no_store_can_neither_ask_again_nor_cancel(house: House):
    house.callers_have_stores = False
    service, take, _ran = steps()
    await house.serve(service)
    client = await house.client()

    with pytest.raises(UsageError, match="reply\\(\\) needs the caller's own store"):
        await client.reply(take, "id")
    with pytest.raises(UsageError, match="cancel\\(\\) needs the caller's own store"):
        await client.cancel("id")


async def _value(value: Any) -> Any:
    return value
