"""Events whose handlers leave nothing: they are only counted as had, many in one step."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from posthouse import Context, Event, Service
from posthouse.errors import LeaseLostError, UnavailableError
from posthouse.runtime.journal import ends
from posthouse.runtime.steps.intervening import Did
from tests.house import House, until
from tests.unit.runtime.audit import LATER, Price, answer_of, operate, publish, publisher, quoted

pytestmark = pytest.mark.anyio

echoed: Event[Price] = Event("audit.echoed", Price, mode="journaled")


def listener() -> tuple[Service, list[int], asyncio.Event]:
    """Return a service that hears, and neither asks nor writes; what it ran; and what its handlers wait for."""
    audit, ran, may_end = Service("audit"), list[int](), asyncio.Event()

    @audit.on(quoted)
    async def note(price: Price) -> None:
        ran.append(price.number)
        await may_end.wait()

    return audit, ran, may_end


def failing_steps(monkeypatch: pytest.MonkeyPatch, fails: Any) -> list[int]:
    """Let the step that counts events as had fail as `fails(places)` raises; return how many each step was about."""
    step, sizes = ends.events_had, list[int]()

    def events_had(books: Any, *, places: Any, instance: str) -> Any:
        sizes.append(len(places))
        fails(places)
        return step(books, places=places, instance=instance)

    monkeypatch.setattr(ends, "events_had", events_had)
    return sizes


def _works(_places: Any) -> None:
    """Do not fail."""


async def over(house: House) -> tuple[int, list[tuple[int, int]]]:
    [feed] = await house.read("audit", lambda books: books.feeds("audit.note"))
    return feed.over.floor, feed.over.ranges


async def test_events_that_end_in_one_turn_are_counted_in_one_step(house: House, monkeypatch: pytest.MonkeyPatch):
    audit, ran, may_end = listener()
    sizes = failing_steps(monkeypatch, _works)
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(20))
    await until(answer_of(ran), lambda ran: len(ran) == 20)

    may_end.set()
    await house.settled("audit.note")

    assert sizes == [20]
    assert house.hosts[1].journals.get("audit").inbox.ends.running == {}  # pyright: ignore[reportOptionalMemberAccess]
    assert await over(house) == (20, [])


async def test_an_event_that_another_instance_runs_by_now_is_not_counted_as_had(
    house: House, caplog: pytest.LogCaptureFixture
):
    audit, ran, may_end = listener()
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(3))
    await until(answer_of(ran), lambda ran: len(ran) == 3)
    [row] = [row for row in await house.requests("audit.note") if row.place % 4 == 1]

    def take_away(books: Any) -> Did:
        books.put_back(row.place, instance=row.instance, attempt=1, state=row.state, due=0.0, failures=0, deaths=0)
        books.claim("another", [row.place])
        return Did.DONE

    await operate(house, take_away)
    may_end.set()
    await until(lambda: over(house), lambda over: over[1] == [(2, 2)])
    await asyncio.sleep(1.0)

    assert await over(house) == (1, [(2, 2)])
    assert [row.place for row in await house.requests("audit.note")] == [row.place]
    assert f"{row.id} is run by another instance by now" in caplog.text


async def test_a_store_that_is_away_when_events_were_had_is_tried_again(house: House, monkeypatch: pytest.MonkeyPatch):
    audit, ran, may_end = listener()
    may_end.set()
    failures = iter([UnavailableError("away")])

    def fail_once(_places: Any) -> None:
        for error in failures:
            raise error

    failing_steps(monkeypatch, fail_once)
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(5))
    await until(lambda: over(house), lambda over: over == (5, []))

    assert set(ran) == set(range(5))
    assert await house.requests("audit.note") == []


async def test_one_event_that_cannot_be_counted_does_not_hold_back_the_others(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    audit, ran, may_end = listener()
    bad: list[int] = []

    def fail(places: Any) -> None:
        if bad and bad[0] in places:
            raise LeaseLostError("not this one")

    sizes = failing_steps(monkeypatch, fail)
    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(4))
    await until(answer_of(ran), lambda ran: len(ran) == 4)
    bad.append(sorted(row.place for row in await house.requests("audit.note"))[1])

    may_end.set()
    await until(lambda: over(house), lambda over: over == (4, []))

    assert (sizes[0], set(sizes[1:])) == (4, {1})
    assert Counter(ran) == {0: 1, 1: 2, 2: 1, 3: 1}


@pytest.mark.parametrize("leaves", ["publish", "write"])
async def test_what_a_handler_leaves_is_not_lost_where_others_are_only_had(house: House, leaves: str):
    audit = Service("audit", schema=["CREATE TABLE heard (number INTEGER)"])
    audit.event("echoed", Price, mode="journaled")
    ran = list[int]()

    @audit.on(quoted)
    async def note(price: Price, ctx: Context) -> None:
        ran.append(price.number)
        if price.number % 2:
            return
        if leaves == "publish":
            await ctx.publish(echoed, price)
        else:
            db = await ctx.transaction()
            await db.execute("INSERT INTO heard VALUES (?)", (price.number,))

    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(10))
    await until(lambda: over(house), lambda over: over == (10, []))
    await asyncio.sleep(LATER)

    assert Counter(ran) == Counter(range(10))
    if leaves == "publish":
        [stream] = await house.read("audit", lambda books: books.streams("audit.echoed"))
        assert stream.next == 5
    else:
        rows = await house.rows("audit", "SELECT number FROM heard ORDER BY number")
        assert [number for (number,) in rows] == [0, 2, 4, 6, 8]
