"""Journaled events at which their handler fails: they are tried again, parked, replayed, or given up."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from posthouse import Service
from posthouse.protocol.inbox import RequestState
from posthouse.runtime.steps import intervening
from posthouse.runtime.steps.intervening import Did
from tests.house import House, until
from tests.unit.runtime.audit import LATER, Price, answer_of, operate, publish, publisher, quoted

pytestmark = pytest.mark.anyio


def failing(*, bad: Any = (2,), **how: Any) -> tuple[Service, list[int], list[int]]:
    """Return a service whose handler fails at some events until they are taken out of `bad`; what ran, and `bad`."""
    audit, ran, fails = Service("audit"), list[int](), list[int](bad)

    async def note(price: Price) -> None:
        ran.append(price.number)
        if price.number in fails:
            raise ValueError("it broke")

    audit.on(quoted, **how)(note)
    return audit, ran, fails


async def test_an_event_at_which_its_handler_fails_is_tried_again(house: House):
    audit, ran, fails = failing()
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(4))
    await until(answer_of(ran), lambda ran: ran.count(2) == 2)
    fails.clear()

    await house.settled("audit.note")

    assert Counter(ran) == {0: 1, 1: 1, 2: 3, 3: 1}
    assert await house.dead() == []


async def test_an_event_that_fails_for_good_is_parked_and_passed_by(house: House):
    audit, ran, _fails = failing(attempts=2)
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(6))

    [letter] = await house.bury(1)
    await asyncio.sleep(LATER)

    assert (letter.operation, letter.state, letter.attempts) == ("audit.note", "parked", 2)
    assert Counter(ran) == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1, 5: 1}
    [feed] = await house.read("audit", lambda books: books.feeds("audit.note"))
    assert (feed.over.floor, feed.over.ranges) == (6, [])
    assert [row.state for row in await house.requests("audit.note")] == [RequestState.PARKED]


async def test_a_parked_event_that_is_replayed_runs_again_and_is_gone(house: House):
    audit, ran, fails = failing(attempts=1)
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(3))
    [letter] = await house.bury(1)
    fails.clear()
    now = house.hosts[0].seams.clock.now()

    did = await operate(house, lambda books: intervening.replay(books, int(letter.handle), now=now))
    await until(lambda: house.requests("audit.note"), lambda rows: rows == [])
    await asyncio.sleep(LATER)

    assert did is Did.DONE
    assert Counter(ran) == {0: 1, 1: 1, 2: 2}
    assert await house.dead() == []


async def test_a_parked_event_that_is_given_up_is_gone_and_nobody_is_told(house: House):
    audit, ran, _fails = failing(attempts=1)
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(3))
    [letter] = await house.bury(1)
    answers: list[Any] = []
    here = house.hosts[1].journals.get("audit").here  # pyright: ignore[reportOptionalMemberAccess]

    did = await operate(house, lambda books: intervening.drop(books, int(letter.handle), here, answers))
    await asyncio.sleep(LATER)

    assert (did, answers) == (Did.DONE, [])
    assert await house.requests("audit.note") == []
    assert await house.dead() == []
    assert Counter(ran) == {0: 1, 1: 1, 2: 1}


async def test_an_event_that_failed_for_good_can_be_heard_anew(house: House):
    audit, ran, fails = failing(attempts=1, exhausted="fail")
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(3))
    [letter] = await house.bury(1)
    fails.clear()
    here = house.hosts[1].journals.get("audit").here  # pyright: ignore[reportOptionalMemberAccess]

    did = await operate(house, lambda books: intervening.replay_as_new(books, int(letter.handle), here, id="anew"))
    await until(answer_of(ran), lambda ran: ran.count(2) == 2)
    await until(lambda: house.requests("audit.note"), lambda rows: rows == [])

    assert did is Did.DONE
    assert await house.dead() == []


async def test_an_event_at_which_instances_die_is_parked_and_the_others_are_heard(house: House):
    audit, bombed, ran = Service("audit"), asyncio.Event(), list[int]()

    @audit.on(quoted)
    async def note(price: Price) -> None:
        await asyncio.sleep(5)
        if price.number == 1:
            bombed.set()
            await asyncio.sleep(1000)
        ran.append(price.number)

    await house.serve(publisher())
    host = await house.serve(audit)
    await publish(house, range(3))
    for _ in range(3):
        await bombed.wait()
        bombed.clear()
        await host.die()
        host = await house.serve(audit)
    [letter] = await house.bury(1)
    await until(answer_of(ran), lambda ran: set(ran) >= {0, 2})
    await asyncio.sleep(LATER)

    assert (letter.operation, letter.code) == ("audit.note", "handler.deadly")
    assert Counter(ran) == {0: 1, 2: 1}
