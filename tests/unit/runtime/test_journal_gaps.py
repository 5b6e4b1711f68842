"""What a publisher does not keep any more: events go when their time is over, and who missed them is told."""

from __future__ import annotations

import asyncio

import pytest

from posthouse import Gap
from posthouse.runtime.steps import intervening, telling
from posthouse.runtime.steps.intervening import Did
from tests.house import House
from tests.unit.runtime.audit import Audit, Price, brief, operate, publish, publisher, quoted

pytestmark = pytest.mark.anyio


def gaps_of(audit: Audit, *, fails: int = 0, attempts: int = 5) -> list[Gap]:
    """Have a service write down what gaps it is told of; the first so many times it fails."""
    gaps, failures = list[Gap](), [None] * fails

    @audit.service.on_gap(quoted, attempts=attempts)
    async def lost(gap: Gap) -> None:
        if failures:
            failures.pop()
            raise ValueError("not yet")
        gaps.append(gap)

    return gaps


async def lose_some(house: House, audit: Audit) -> None:
    """Publish three that are heard, four that are dropped while nobody is there, and one that is heard again."""
    await house.serve(publisher())
    away = await house.serve(audit.service)
    await publish(house, range(3), event=brief)
    await audit.hears(house, range(3))
    await away.close()
    await publish(house, range(3, 7), event=brief)
    await asyncio.sleep(200)
    await publish(house, [7], event=brief)
    await house.serve(audit.service)
    await audit.hears(house, [0, 1, 2, 7])


async def test_what_was_dropped_before_it_was_heard_is_told_to_the_handler_of_gaps(house: House):
    audit = Audit()
    gaps = gaps_of(audit)

    await lose_some(house, audit)

    assert [(gap.event, gap.publisher, gap.first, gap.last) for gap in gaps] == [("prices.quoted", "prices", 3, 6)]
    assert await house.dead() == []


async def test_the_handler_of_gaps_is_tried_again_and_nothing_is_left_of_it(house: House):
    audit = Audit()
    gaps = gaps_of(audit, fails=2)

    await lose_some(house, audit)

    assert len(gaps) == 1
    assert await house.requests("audit.on_gap.prices.quoted") == []


async def test_what_was_dropped_before_it_was_heard_is_a_dead_letter_where_nobody_hears_of_gaps(house: House):
    audit = Audit()

    await lose_some(house, audit)

    [letter] = await house.dead("audit.note")
    assert (letter.state, letter.code) == ("failed", "event.lost")
    assert "prices.quoted 3 to 6" in letter.reason


@pytest.mark.parametrize("told", ["letters", "handler"])
async def test_what_two_subscriptions_miss_is_a_dead_letter_of_each_and_told_to_the_handler_of_gaps_once(
    house: House, told: str
):
    audit = Audit()
    gaps = gaps_of(audit) if told == "handler" else []

    @audit.service.on(quoted, name="second")
    async def second(_price: Price) -> None:
        """Hear the same events."""

    await lose_some(house, audit)

    letters = [(letter.operation, letter.code) for letter in await house.dead()]
    if told == "letters":
        assert sorted(letters) == [("audit.note", "event.lost"), ("audit.second", "event.lost")]
    else:
        assert letters == []
        assert [(gap.first, gap.last) for gap in gaps] == [(3, 6)]


async def test_no_more_is_kept_of_a_topic_than_its_bytes(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telling, "EVENT_BYTES", 1000)
    await house.serve(publisher())
    await publish(house, range(100))
    await asyncio.sleep(130)

    [stream] = await house.read("prices", lambda books: books.streams("prices.quoted"))
    kept = await house.read("prices", lambda books: books.events(stream.stream, 0, 100, 1000))

    assert stream.next == 100
    assert [event.place & 0xFFFF for event in kept] == list(range(stream.first, 100))
    assert sum(len(event.frame) for event in kept) == stream.bytes
    assert 500 < stream.bytes <= 1000


async def test_a_parked_run_of_the_handler_of_gaps_can_be_given_up(house: House):
    audit = Audit()
    gaps_of(audit, fails=1, attempts=1)
    await lose_some(house, audit)
    [letter] = await house.bury(1)
    here = house.hosts[-1].journals.get("audit").here  # pyright: ignore[reportOptionalMemberAccess]

    did = await operate(house, lambda books: intervening.drop(books, int(letter.handle), here, []))

    assert (letter.operation, did) == ("audit.on_gap.prices.quoted", Did.DONE)
    assert await house.requests("audit.on_gap.prices.quoted") == []


async def test_many_that_are_too_old_go_at_one_look_though_few_go_in_one_step(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(telling, "DROPS", 10)
    await house.serve(publisher())
    await publish(house, range(35), event=brief)
    await asyncio.sleep(170)  # looks were at 60 and 120 s, when none was too old

    await asyncio.sleep(30)  # and at 180 s

    [stream] = await house.read("prices", lambda books: books.streams("prices.quoted"))
    assert (stream.first, stream.bytes) == (35, 0)


async def test_the_time_that_an_event_is_kept_is_what_its_service_said_last(house: House):
    await house.serve(publisher())
    await publish(house, [1])
    await publish(house, [2], event=brief)

    await asyncio.sleep(300)

    [stream] = await house.read("prices", lambda books: books.streams("prices.quoted"))
    assert stream.first == 2
