"""What becomes of deposits that come again: the same one is one request, and another one under its id is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Service
from posthouse.errors import IdReusedError
from posthouse.protocol.inbox import RequestState
from posthouse.runtime.steps import forgetting
from tests.house import House, journals_of, until

pytestmark = pytest.mark.anyio


class Step(Struct):
    number: int


@pytest.fixture(autouse=True)
def without_stores(house: House) -> None:
    """Let no caller have a store."""
    house.callers_have_stores = False


def steps() -> tuple[Service, Any, list[int]]:
    """Return a service that writes down what it was run for."""
    service, ran = Service("steps"), list[int]()

    @service.handler
    async def take(step: Step) -> int:
        ran.append(step.number)
        return step.number

    return service, take, ran


async def test_who_waits_for_other_data_under_an_id_that_was_used_is_told_so(house: House):
    service, take, ran = steps()
    await house.serve(service)
    client = await house.client()
    await client.call(take, Step(1), id="once")

    with pytest.raises(IdReusedError, match="'once' stands for another request"):
        await client.call(take, Step(2), id="once")

    assert await client.call(take, Step(1), id="once") == 1
    assert ran == [1]
    assert await house.dead() == []


async def test_other_data_under_an_id_that_was_used_is_a_dead_letter_when_nobody_waits(house: House):
    service, take, ran = steps()
    await house.serve(service)
    client = await house.client()
    await client.send(take, Step(1), id="once")
    await house.settled("steps.take")

    await client.send(take, Step(2), id="once")
    await house.settled("steps.take")
    await client.send(take, Step(2), id="once")
    await client.send(take, Step(1), id="once")
    await house.settled("steps.take")

    [letter] = await house.dead()
    assert (letter.operation, letter.message, letter.state, letter.code) == (
        "steps.take",
        "once",
        "failed",
        "id.reused",
    )
    assert "stands for another request" in letter.reason
    assert ran == [1]
    [row] = await house.requests("steps.take")
    assert row.state is RequestState.DONE


async def test_each_deposit_that_is_refused_leaves_a_letter_that_is_about_no_other_request(house: House):
    service, take, _ran = steps()
    await house.serve(service)
    client = await house.client()

    for number in (1, 2, 3):
        await client.send(take, Step(number), id="once")
        await house.settled("steps.take")
    await client.send(take, Step(4))
    await house.settled("steps.take")

    letters = await house.read("steps", lambda books: books.dead_letters())
    places = [letter.place for letter in letters] + [row.place for row in await house.requests("steps.take")]
    assert len(set(places)) == len(places) == 4


async def test_an_id_may_stand_for_another_deposit_once_its_time_is_over(house: House):
    service, take, ran = steps()
    host = await house.serve(service)
    client = await house.client()
    await client.send(take, Step(1), id="once")
    await house.settled("steps.take")
    await client.send(take, Step(2), id="once")
    await house.bury(1)
    [journal] = journals_of(host)

    later = journal.here.now() + 2 * 86_400.0
    await journal.store.commit(lambda books: forgetting.forget(books, later), name="forget")
    await client.send(take, Step(2), id="once")
    await until(lambda: asyncio.sleep(0, len(ran)), lambda count: count == 2)

    assert ran == [1, 2]
