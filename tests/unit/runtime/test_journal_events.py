"""Journaled events: who publishes them, who hears them, and that each subscription has each of them once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, Event, Gap, Reject, Service, UsageError
from posthouse.contracts.store import Books
from posthouse.errors import IdReusedError
from posthouse.message.codec import decode
from posthouse.message.message import Kind
from posthouse.protocol.inbox import RequestState
from posthouse.runtime.steps import intervening, telling
from posthouse.runtime.steps.intervening import Did
from tests.house import House, until

pytestmark = pytest.mark.anyio


class Price(Struct):
    number: int


LATER = 12.0
"""By then each subscription has asked its publishers twice more."""

quoted: Event[Price] = Event("prices.quoted", Price, mode="journaled")


brief: Event[Price] = Event("prices.quoted", Price, mode="journaled", retain="2m")
"""The same one, and kept for a shorter time."""


def publisher() -> Service:
    """Return a service that publishes; nobody else may."""
    prices = Service("prices")
    prices.event("quoted", Price, mode="journaled")
    return prices


class Audit:
    """A service that writes down what it hears: in a list, and in a table of its own."""

    def __init__(self, name: str = "audit", *, capacity: int = 1000, **how: Any) -> None:
        self.service = Service(name, capacity=capacity, schema=["CREATE TABLE heard (number INTEGER)"])
        self.ran: list[int] = []
        self.name = f"{name}.note"

        async def note(price: Price, ctx: Context) -> None:
            self.ran.append(price.number)
            db = await ctx.transaction()
            await db.execute("INSERT INTO heard VALUES (?)", (price.number,))

        self.service.on(quoted, **how)(note)

    async def heard(self, house: House) -> list[int]:
        rows = await house.rows(self.service.name, "SELECT number FROM heard ORDER BY number")
        return [number for (number,) in rows]

    async def hears(self, house: House, numbers: Any) -> None:
        """Wait until it has heard these, each once, and then a little longer."""
        wanted = sorted(numbers)
        await until(lambda: self.heard(house), lambda heard: len(heard) >= len(wanted))
        await asyncio.sleep(LATER)
        assert await self.heard(house) == wanted


async def publish(house: House, numbers: Any, *, event: Event[Price] = quoted) -> None:
    client = house.hosts[0].client("prices")
    await asyncio.gather(*(client.publish(event, Price(number)) for number in numbers))


def drop_events(house: House, which: Callable[[int], bool]) -> None:
    """Lose the events on the direct path of the publisher for whose number this is true."""
    direct = house.hosts[0].transport.direct
    send = direct.send

    def send_some(peer: str, frame: bytes) -> None:
        message = decode(frame)
        if message.kind is not Kind.EVENT or message.lane is None or not which(message.lane.number):
            send(peer, frame)

    direct.send = send_some


# --- publishing -----------------------------------------------------------------------------------------


async def test_what_a_client_publishes_is_heard_once_by_every_subscription(house: House):
    audit, archive = Audit(), Audit("archive")
    await house.serve(publisher())
    await house.serve(audit.service)
    await house.serve(archive.service)

    await publish(house, range(20))

    await audit.hears(house, range(20))
    await archive.hears(house, range(20))


async def test_an_event_is_published_with_the_effect_of_its_handler_or_not_at_all(house: House):
    prices, audit = publisher(), Audit()

    @prices.handler
    async def quote(price: Price, ctx: Context) -> None:
        await ctx.publish(quoted, price)
        if price.number == 2:
            raise Reject("too dear", code="prices.dear")

    await house.serve(prices)
    await house.serve(audit.service)
    client = await house.client()
    await client.call(quote, Price(1))
    with pytest.raises(Reject):
        await client.call(quote, Price(2))
    await client.call(quote, Price(3))

    await audit.hears(house, [1, 3])


async def test_an_event_of_a_handler_that_fails_first_is_published_once(house: House):
    prices, audit, runs = publisher(), Audit(), list[int]()

    @prices.handler
    async def quote(price: Price, ctx: Context) -> None:
        runs.append(price.number)
        await ctx.publish(quoted, price)
        if len(runs) < 3:
            raise ValueError("not yet")

    await house.serve(prices)
    await house.serve(audit.service)
    await (await house.client()).call(quote, Price(7))

    await audit.hears(house, [7])
    assert runs == [7, 7, 7]


async def test_a_handler_that_is_queued_publishes_journaled_events_when_it_has_ended_well(house: House):
    prices, audit = publisher(), Audit()

    @prices.handler(mode="queued")
    async def quote(price: Price, ctx: Context) -> None:
        await ctx.publish(quoted, price)
        if price.number == 2:
            raise Reject("too dear", code="prices.dear")

    await house.serve(prices)
    await house.serve(audit.service)
    client = await house.client()
    await client.call(quote, Price(1))
    with pytest.raises(Reject):
        await client.call(quote, Price(2))

    await audit.hears(house, [1])


async def test_an_id_of_the_applications_own_is_published_once_and_stands_for_one_event(house: House):
    audit = Audit()
    host = await house.serve(publisher())
    await house.serve(audit.service)
    client = host.client("prices")
    for _ in range(3):
        await client.publish(quoted, Price(1), id="order-1")
    with pytest.raises(IdReusedError):
        await client.publish(quoted, Price(2), id="order-1")
    await asyncio.gather(*(client.publish(quoted, Price(3), id="order-3") for _ in range(3)))

    await audit.hears(house, [1, 3])


async def test_only_its_service_publishes_an_event_and_only_with_a_store(house: House):
    await house.serve(publisher())
    host = await house.open()

    with pytest.raises(UsageError, match="published by 'prices'"):
        await host.client("shop").publish(quoted, Price(1))
    with pytest.raises(UsageError, match="store"):
        await host.client("prices").publish(quoted, Price(1))


async def test_what_is_published_while_nobody_subscribes_is_kept(house: House):
    await house.serve(publisher())

    await publish(house, range(5))

    [stream] = await house.read("prices", lambda books: books.streams("prices.quoted"))
    assert (stream.first, stream.next) == (0, 5)


# --- hearing --------------------------------------------------------------------------------------------


async def test_one_copy_goes_to_a_process_however_many_subscriptions_hear_it_there(house: House):
    audit, archive, heard = Audit(), Audit("archive"), list[int]()

    @audit.service.on(quoted)
    async def again(price: Price) -> None:
        heard.append(price.number)

    host = await house.serve(publisher())
    for _ in range(2):
        await house.serve(audit.service, archive.service)
    copies: list[int] = []
    send = host.transport.direct.send

    def counted(peer: str, frame: bytes) -> None:
        if (message := decode(frame)).kind is Kind.EVENT and message.lane is not None:
            copies.append(message.lane.number)
        send(peer, frame)

    host.transport.direct.send = counted
    await publish(house, range(10))

    await audit.hears(house, range(10))
    await archive.hears(house, range(10))
    assert sorted(heard) == list(range(10))
    assert Counter(copies) == dict.fromkeys(range(10), 1)


async def test_two_instances_of_a_subscriber_have_each_event_once(house: House):
    audit = Audit()
    await house.serve(publisher())
    await house.serve(audit.service)
    await house.serve(audit.service)

    for first in range(0, 60, 20):
        await publish(house, range(first, first + 20))

    await audit.hears(house, range(60))
    assert sorted(audit.ran) == list(range(60))


async def test_an_event_that_comes_again_while_it_runs_and_later_is_had_once(house: House):
    audit, ran, may_end = Service("audit"), list[int](), asyncio.Event()

    @audit.on(quoted)
    async def note(price: Price) -> None:
        ran.append(price.number)
        await may_end.wait()

    host = await house.serve(publisher())
    await house.serve(audit)
    frames: list[tuple[str, bytes]] = []
    send = host.transport.direct.send

    def twice(peer: str, frame: bytes) -> None:
        for _ in range(2):
            send(peer, frame)
        if decode(frame).kind is Kind.EVENT:
            frames.append((peer, frame))

    host.transport.direct.send = twice
    await publish(house, range(3))
    await asyncio.sleep(1)
    for peer, frame in list(frames):
        send(peer, frame)
    await asyncio.sleep(1)
    may_end.set()
    await asyncio.sleep(1)
    for peer, frame in list(frames):
        send(peer, frame)
    await asyncio.sleep(LATER)

    assert sorted(ran) == [0, 1, 2]
    assert await house.requests("audit.note") == []


async def test_a_batch_of_events_is_had_as_a_whole(house: House):
    audit = Service("audit", schema=["CREATE TABLE heard (number INTEGER)"])
    sizes: list[int] = []

    @audit.on(quoted, batch=10)
    async def note(prices: list[Price], ctx: Context) -> None:
        sizes.append(len(prices))
        db = await ctx.transaction()
        await db.executemany("INSERT INTO heard VALUES (?)", [(price.number,) for price in prices])
        if len(sizes) == 1:
            raise ValueError("the first one fails")

    await house.serve(publisher())
    await house.serve(audit)
    await publish(house, range(40))
    await until(lambda: house.rows("audit", "SELECT number FROM heard"), lambda rows: len(rows) >= 40)
    await asyncio.sleep(LATER)

    assert sorted(await house.rows("audit", "SELECT number FROM heard")) == [(number,) for number in range(40)]
    assert max(sizes) > 1


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
    await until(_answer(ran), lambda ran: len(ran) >= 100)
    await asyncio.sleep(LATER)
    assert sorted(ran) == list(range(100))


def _answer(value: Any) -> Any:
    async def answer() -> Any:
        return value

    return answer


# --- where a subscription begins ------------------------------------------------------------------------


async def test_a_new_subscription_does_not_hear_what_was_published_before_it(house: House):
    audit = Audit()
    await house.serve(publisher())
    await publish(house, range(5))

    await house.serve(audit.service)
    await publish(house, range(5, 8))

    await audit.hears(house, range(5, 8))


async def test_a_subscription_from_the_first_one_hears_all_that_is_kept(house: House):
    audit = Audit(start="first")
    await house.serve(publisher())
    await publish(house, range(5))

    await house.serve(audit.service)
    await publish(house, range(5, 8))

    await audit.hears(house, range(8))


async def test_a_subscription_that_is_there_before_its_publisher_misses_nothing(house: House):
    audit = Audit()
    await house.serve(audit.service)
    host = await house.serve(publisher())

    await host.client("prices").publish(quoted, Price(1))

    await audit.hears(house, [1])


async def test_a_subscription_made_while_its_publisher_is_away_hears_what_was_told_since_and_nothing_old(house: House):
    audit = Audit()
    host = await house.serve(publisher())
    await publish(house, [1])
    await host.close()
    await asyncio.sleep(120)
    await house.serve(audit.service)
    await asyncio.sleep(120)

    host = await house.serve(publisher())
    await host.client("prices").publish(quoted, Price(2))

    await audit.hears(house, [2])


# --- retention ------------------------------------------------------------------------------------------


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


# --- what goes wrong ------------------------------------------------------------------------------------


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
    await until(_answer(ran), lambda ran: ran.count(2) == 2)
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


async def operate(house: House, step: Callable[[Books], Did]) -> Did:
    """Do something to the store of the subscriber, as an operator does it from another process."""
    await house.read("audit", lambda books: None)
    return await house._stores["audit"].commit(step, name="operator", flush=True)


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
    await until(_answer(ran), lambda ran: ran.count(2) == 2)
    await until(lambda: house.requests("audit.note"), lambda rows: rows == [])

    assert did is Did.DONE
    assert await house.dead() == []


async def test_a_parked_run_of_the_handler_of_gaps_can_be_given_up(house: House):
    audit = Audit()
    gaps_of(audit, fails=1, attempts=1)
    await lose_some(house, audit)
    [letter] = await house.bury(1)
    here = house.hosts[-1].journals.get("audit").here  # pyright: ignore[reportOptionalMemberAccess]

    did = await operate(house, lambda books: intervening.drop(books, int(letter.handle), here, []))

    assert (letter.operation, did) == ("audit.on_gap.prices.quoted", Did.DONE)
    assert await house.requests("audit.on_gap.prices.quoted") == []


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
    await until(_answer(ran), lambda ran: set(ran) >= {0, 2})
    await asyncio.sleep(LATER)

    assert (letter.operation, letter.code) == ("audit.note", "handler.deadly")
    assert Counter(ran) == {0: 1, 2: 1}


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

    await until(_answer(fast), lambda fast: len(fast) >= 2000)
    assert slow == []
    may_end.set()
    await until(_answer(slow), lambda slow: len(slow) >= 2000)
    await asyncio.sleep(LATER)
    assert sorted(fast) == sorted(slow) == list(range(2000))


# --- handlers that do more ------------------------------------------------------------------------------


async def test_a_handler_that_hears_an_event_calls_and_its_call_is_made_once_though_it_runs_again(house: House):
    audit, stock = Service("audit", schema=["CREATE TABLE heard (number INTEGER)"]), Service("stock")
    asked: list[int] = []
    ran: list[int] = []

    @stock.handler
    async def take(price: Price) -> int:
        asked.append(price.number)
        await asyncio.sleep(30)
        return price.number * 2

    @audit.on(quoted)
    async def note(price: Price, ctx: Context) -> None:
        ran.append(price.number)
        doubled = await ctx.call(take, price, timeout="5m")
        db = await ctx.transaction()
        await db.execute("INSERT INTO heard VALUES (?)", (doubled,))
        if ran.count(price.number) == 1:
            raise ValueError("not yet")

    await house.serve(publisher())
    await house.serve(stock)
    host = await house.serve(audit)
    await publish(house, [4])
    await until(_answer(asked), bool)
    await host.drain(grace=5.0)
    await host.close()
    await house.serve(audit)
    await until(lambda: house.rows("audit", "SELECT number FROM heard"), bool)
    await asyncio.sleep(LATER)

    assert await house.rows("audit", "SELECT number FROM heard") == [(8,)]
    assert asked == [4]


async def test_what_a_handler_of_events_publishes_and_sends_commits_with_it(house: House):
    audit, stock, sold = Service("audit"), Service("stock"), list[str]()
    noted = audit.event("noted", Price, mode="journaled")

    @stock.on(noted)
    async def hear(price: Price) -> None:
        sold.append(f"noted {price.number}")

    @stock.handler
    async def take(price: Price) -> None:
        sold.append(f"took {price.number}")

    ran: list[int] = []

    @audit.on(quoted)
    async def note(price: Price, ctx: Context) -> None:
        ran.append(price.number)
        await ctx.publish(noted, price)
        await ctx.send(take, price)
        if len(ran) < 3:
            raise ValueError("not yet")

    await house.serve(publisher())
    await house.serve(stock)
    await house.serve(audit)
    await publish(house, [5])
    await until(_answer(sold), lambda sold: len(sold) >= 2)
    await asyncio.sleep(LATER)

    assert sorted(sold) == ["noted 5", "took 5"]


async def test_a_drain_lets_events_end_and_leaves_the_others_to_the_next_instance(house: House):
    audit = Audit()
    await house.serve(publisher())
    host = await house.serve(audit.service)
    publishing = asyncio.create_task(publish(house, range(50)))
    await until(_answer(audit.ran), bool)
    await host.drain()
    await host.close()
    await publishing
    assert len(await house.requests("audit.note")) < 50

    await house.serve(audit.service)

    await audit.hears(house, range(50))


async def test_who_is_shown_and_does_not_serve_can_publish_and_is_asked_for_what_was_missed(house: House):
    audit = Audit()
    host = await house.open()
    await host.announce(publisher())
    await host.join("prices")
    await house.serve(audit.service)
    lost: list[int] = []

    def once(number: int) -> bool:
        lost.append(number)
        return lost.count(number) == 1

    drop_events(house, once)
    await publish(house, [1])

    await audit.hears(house, [1])


def questions_of(house: House, host: int) -> list[float]:
    """Return when a host asks for events, as it goes on."""
    direct, asked, loop = house.hosts[host].transport.direct, list[float](), asyncio.get_running_loop()
    send = direct.send

    def seen(peer: str, frame: bytes) -> None:
        if (message := decode(frame)).kind is Kind.CONTROL and message.type == "pull":
            asked.append(loop.time())
        send(peer, frame)

    direct.send = seen
    return asked


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
