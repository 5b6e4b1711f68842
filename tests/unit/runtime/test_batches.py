"""Batch handlers: when a batch begins, and that only what is at fault fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, Operation, Reject, Service
from tests.house import House

pytestmark = pytest.mark.anyio


class Row(Struct):
    number: int


async def test_a_batch_begins_when_it_is_full_and_what_is_left_when_it_has_lingered(house: House, mode: Any):
    rows = Service("rows")
    batches: list[tuple[float, list[int]]] = []

    @rows.handler(batch=4, linger="2s", mode=mode)
    async def store(many: list[Row]) -> None:
        batches.append((asyncio.get_running_loop().time() - began, [row.number for row in many]))

    await house.serve(rows)
    client = await house.client()
    began = asyncio.get_running_loop().time()
    for number in range(10):
        await client.send(store, Row(number))
    await house.settled("rows.store")

    assert [numbers for _at, numbers in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [at for at, _numbers in batches] == pytest.approx([0.0, 0.0, 2.0], abs=0.05)


@pytest.mark.parametrize("concurrency", [1, 64])
async def test_a_batch_fills_also_when_its_messages_come_one_by_one(house: House, mode: Any, concurrency: int):
    rows = Service("rows", concurrency=concurrency)
    sizes: list[int] = []

    @rows.handler(batch=100, linger="60s", mode=mode)
    async def store(many: list[Row]) -> None:
        sizes.append(len(many))

    await house.serve(rows)
    client = await house.client()
    for number in range(200):
        await client.send(store, Row(number))
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    assert sizes == [100, 100]


async def test_a_batch_that_fails_runs_one_by_one_and_only_the_poison_is_parked(house: House, mode: Any):
    rows = Service("rows")
    runs: list[list[int]] = []

    @rows.handler(batch=4, linger="1s", attempts=2, backoff="1s..1s", mode=mode)
    async def store(many: list[Row]) -> None:
        runs.append([row.number for row in many])
        if any(row.number == 2 for row in many):
            raise ValueError("poison")

    await house.serve(rows)
    client = await house.client()
    ids = [await client.send(store, Row(number)) for number in range(4)]
    [letter] = await house.bury(1)
    await house.settled("rows.store")

    assert runs == [[0, 1, 2, 3], [0], [1], [2], [3], [2]]
    assert letter.message == ids[2]
    assert letter.state == "parked"


async def test_every_caller_in_a_batch_is_answered_by_its_own_end(house: House, mode: Any):
    rows = Service("rows")

    @rows.handler(batch=3, linger="1s", attempts=1, mode=mode)
    async def store(many: list[Row]) -> None:
        if any(row.number == 1 for row in many):
            raise ValueError("poison")

    await house.serve(rows)
    client = await house.client()
    results = await asyncio.gather(*(client.call(store, Row(number)) for number in range(3)), return_exceptions=True)

    assert [type(result).__name__ for result in results] == ["NoneType", "FailedError", "NoneType"]


async def test_a_reject_is_the_answer_to_the_whole_batch(house: House, mode: Any):
    rows = Service("rows")
    runs: list[int] = []

    @rows.handler(batch=3, linger="1s", mode=mode)
    async def store(many: list[Row]) -> None:
        runs.append(len(many))
        raise Reject("closed", code="rows.closed")

    await house.serve(rows)
    client = await house.client()
    results = await asyncio.gather(*(client.call(store, Row(number)) for number in range(3)), return_exceptions=True)

    assert [getattr(result, "code", None) for result in results] == ["rows.closed"] * 3
    assert runs == [3]


async def test_what_does_not_fit_is_parked_and_the_rest_of_the_batch_runs(house: House, mode: Any):
    rows = Service("rows")
    runs: list[list[int]] = []

    @rows.handler(batch=3, linger="1s", mode=mode)
    async def store(many: list[Row]) -> None:
        runs.append([row.number for row in many])

    await house.serve(rows)
    client = await house.client()
    loose = Operation("rows.store", dict[str, Any], None, mode=mode)
    for number in (0, "one", 2):
        await client.send(loose, {"number": number})
    [letter] = await house.bury(1)
    await house.settled("rows.store")

    assert runs == [[0, 2]]
    assert letter.code == "data.invalid"


async def test_a_batch_that_takes_too_long_is_canceled_and_runs_one_by_one(house: House, mode: Any):
    rows = Service("rows")
    runs: list[int] = []

    @rows.handler(batch=2, linger="1s", timeout="5s", attempts=1, mode=mode)
    async def store(many: list[Row]) -> None:
        runs.append(len(many))
        if len(many) > 1:
            await asyncio.sleep(60)

    await house.serve(rows)
    client = await house.client()

    assert await asyncio.gather(client.call(store, Row(0)), client.call(store, Row(1))) == [None, None]
    assert runs == [2, 1, 1]


async def test_what_a_batch_sends_leaves_once_and_only_when_it_ends_well(house: House, mode: Any):
    rows = Service("rows")
    told = rows.event("told", Row)
    heard: list[int] = []

    @rows.handler(batch=3, linger="1s", attempts=1, mode=mode)
    async def store(many: list[Row], ctx: Context) -> None:
        for row in many:
            await ctx.publish(told, row)
        if any(row.number == 1 for row in many):
            raise ValueError("poison")

    @rows.on(told)
    async def hear(row: Row) -> None:
        heard.append(row.number)

    await house.serve(rows)
    client = await house.client()
    for number in range(3):
        await client.send(store, Row(number))
    await house.bury(1)
    await house.settled("rows.hear")

    assert sorted(heard) == [0, 2]


async def test_events_come_in_batches_too(house: House):
    rows = Service("rows")
    told = rows.event("told", Row, mode="queued")
    batches: list[list[int]] = []

    @rows.on(told, batch=2, linger="1s")
    async def hear(many: list[Row]) -> None:
        batches.append([row.number for row in many])

    host = await house.serve(rows)
    for number in range(5):
        await host.client("rows").publish(told, Row(number))
    await house.settled("rows.hear")

    assert batches == [[0, 1], [2, 3], [4]]


async def test_a_drain_in_the_middle_of_one_by_one_hands_back_only_what_was_not_ended(
    house: House, mode: Any, caplog: pytest.LogCaptureFixture
):
    rows = Service("rows")
    done: list[int] = []

    @rows.handler(batch=3, linger="1s", mode=mode)
    async def store(many: list[Row]) -> None:
        if len(many) > 1:
            raise ValueError("one by one, please")
        if many[0].number == 1:
            await asyncio.sleep(1000)
        done.append(many[0].number)

    host = await house.serve(rows)
    client = await house.client()
    for number in range(3):
        await client.send(store, Row(number))
    await asyncio.sleep(5)
    await host.drain(grace=1)

    assert done == [0]
    assert "had lost their lease" not in caplog.text  # as if something had been settled twice
    assert await house.holds("rows.store") == (2, 0, 0)
    assert {row.failures for row in await house.requests("rows.store")} <= {0}


async def test_a_drain_hands_back_a_batch_that_lingers(house: House, mode: Any):
    rows = Service("rows")
    runs: list[int] = []

    @rows.handler(batch=10, linger="60s", mode=mode)
    async def store(many: list[Row]) -> None:
        runs.append(len(many))

    host = await house.serve(rows)
    client = await house.client()
    await client.send(store, Row(1))
    await asyncio.sleep(1)
    await host.drain()

    assert runs == []
    assert await house.holds("rows.store") == (1, 0, 0)
