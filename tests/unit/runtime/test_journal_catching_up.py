"""What a subscription has missed: it asks for it, no more often than it must, and takes what it can run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from posthouse import Service
from posthouse.message.codec import decode
from posthouse.message.message import Kind, Message
from posthouse.runtime.steps.pulling import NOTHING, wants_of
from tests.house import House, until
from tests.unit.runtime.audit import (
    LATER,
    Audit,
    Price,
    answer_of,
    drop_events,
    publish,
    publisher,
    questions_of,
    quoted,
)

pytestmark = pytest.mark.anyio


async def test_a_subscriber_that_was_away_hears_what_was_published_meanwhile(house: House):
    audit = Audit()
    await house.serve(publisher())
    away = await house.serve(audit.service)
    await publish(house, range(3))
    await audit.hears(house, range(3))
    await away.close()
    await publish(house, range(3, 9))

    await house.serve(audit.service)

    await audit.hears(house, range(9))


async def test_what_is_lost_on_its_way_is_asked_for(house: House):
    audit = Audit()
    await house.serve(publisher())
    await house.serve(audit.service)
    lost = {1, 4, 5}

    def first_time(number: int) -> bool:
        is_lost = number in lost
        lost.discard(number)
        return is_lost

    drop_events(house, first_time)
    before = asyncio.get_running_loop().time()
    await publish(house, range(8))
    await until(lambda: audit.heard(house), lambda heard: len(heard) == 8)

    assert asyncio.get_running_loop().time() - before < 1.0
    await audit.hears(house, range(8))


async def test_the_last_event_of_all_that_is_lost_is_found_by_the_regular_question(house: House):
    audit = Audit()
    await house.serve(publisher())
    await house.serve(audit.service)
    lost: list[int] = []

    def once(number: int) -> bool:
        lost.append(number)
        return lost.count(number) == 1

    drop_events(house, once)
    await publish(house, [1])
    assert lost == [0]

    await audit.hears(house, [1])


async def test_thousands_that_were_published_before_are_caught_up_with(house: House):
    audit = Audit(capacity=50, start="first")
    await house.serve(publisher())
    for first in range(0, 2000, 100):
        await publish(house, range(first, first + 100))

    await house.serve(audit.service)

    await audit.hears(house, range(2000))
    assert len(audit.ran) == 2000


async def test_no_more_events_lie_at_a_subscriber_than_its_capacity(house: House):
    slow = Service("audit", capacity=10, concurrency=4)
    may_end, ran = asyncio.Event(), list[int]()

    @slow.on(quoted)
    async def note(price: Price) -> None:
        await may_end.wait()
        ran.append(price.number)

    await house.serve(publisher())
    await house.serve(slow)
    await publish(house, range(100))
    await asyncio.sleep(20)

    assert 1 <= len(await house.requests("audit.note")) <= 10
    may_end.set()
    await until(answer_of(ran), lambda ran: len(ran) >= 100)
    await asyncio.sleep(LATER)
    assert sorted(ran) == list(range(100))


async def test_one_slow_subscription_does_not_hold_up_another_one_of_its_service(house: House):
    audit = Service("audit", capacity=1000)
    may_end, slow, fast = asyncio.Event(), list[int](), list[int]()

    @audit.on(quoted, start="first", concurrency=2)
    async def hold(price: Price) -> None:
        await may_end.wait()
        slow.append(price.number)

    @audit.on(quoted, start="first", concurrency=2)
    async def note(price: Price) -> None:
        fast.append(price.number)

    await house.serve(publisher())
    for first in range(0, 2000, 100):
        await publish(house, range(first, first + 100))
    await house.serve(audit)

    await until(answer_of(fast), lambda fast: len(fast) >= 2000)
    assert slow == []
    may_end.set()
    await until(answer_of(slow), lambda slow: len(slow) >= 2000)
    await asyncio.sleep(LATER)
    assert sorted(fast) == sorted(slow) == list(range(2000))


async def test_what_is_missing_is_asked_for_in_one_question(house: House):
    audit, lost = Audit(), {0, 2}
    await house.serve(publisher())
    await house.serve(audit.service)

    def first_time(number: int) -> bool:
        is_lost = number in lost
        lost.discard(number)
        return is_lost

    drop_events(house, first_time)
    asked = questions_of(house, 1)
    await publish(house, range(4))
    await asyncio.sleep(1)

    assert await audit.heard(house) == list(range(4))
    assert len(asked) == 1


async def test_who_is_answered_and_given_nothing_asks_again_without_haste(house: House):
    audit = Audit()
    await house.serve(publisher())
    await house.serve(audit.service)
    drop_events(house, lambda number: number < 3)
    asked = questions_of(house, 1)
    await publish(house, range(4))
    await asyncio.sleep(2)

    assert await audit.heard(house) == [3]
    assert 2 <= len(asked) <= 15


def words_of(house: House, host: int, keep: Callable[[Message], bool]) -> list[Message]:
    """Return the questions that a host asks, as it goes on; only those that are kept are sent."""
    direct, asked = house.hosts[host].transport.direct, list[Message]()
    send = direct.send

    def seen(peer: str, frame: bytes) -> None:
        message = decode(frame)
        if message.kind is not Kind.CONTROL or message.type != "pull":
            send(peer, frame)
            return
        asked.append(message)
        if keep(message):
            send(peer, frame)

    direct.send = seen
    return asked


async def test_a_question_that_was_lost_is_asked_again(house: House):
    audit, lost = Audit(), {0}
    await house.serve(publisher())
    await house.serve(audit.service)

    def once(number: int) -> bool:
        is_lost = number in lost
        lost.discard(number)
        return is_lost

    drop_events(house, once)
    asked = words_of(house, 1, lambda _message: len(asked) > 2)
    await publish(house, [7])

    await until(lambda: audit.heard(house), lambda heard: heard == [7])
    assert len(asked) == 3


async def test_who_has_no_room_asks_how_the_streams_stand_and_for_no_event(house: House):
    slow, may_end = Service("audit", capacity=10, concurrency=4), asyncio.Event()
    ran: list[int] = []

    @slow.on(quoted)
    async def note(price: Price) -> None:
        await may_end.wait()
        ran.append(price.number)

    await house.serve(publisher())
    await house.serve(slow)
    await publish(house, range(100))
    await asyncio.sleep(1)
    asked = words_of(house, 1, lambda _message: True)
    await asyncio.sleep(20)

    streams = [known for message in asked for want in wants_of(message.data) for known in want.streams]
    assert streams
    assert {(known.head, len(known.wanted)) for known in streams} == {(NOTHING, 0)}
    may_end.set()
    await until(answer_of(ran), lambda ran: len(ran) == 100)


async def test_a_publisher_that_comes_back_is_asked_before_the_next_regular_question(house: House):
    audit = Audit()
    host = await house.serve(publisher())
    await house.serve(audit.service)
    drop_events(house, lambda _number: True)
    await publish(house, [1])
    await host.close()
    await asyncio.sleep(60)

    asked = words_of(house, 1, lambda _message: True)
    before = asyncio.get_running_loop().time()
    await house.serve(publisher())
    await until(answer_of(asked), bool)

    assert asyncio.get_running_loop().time() - before < 1.0
    await audit.hears(house, [1])
