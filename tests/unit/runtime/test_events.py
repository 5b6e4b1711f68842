"""Events, subscriptions and instances: who hears what, and what becomes of what was on its way to the dead."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, Event, NotServedError, OutcomeUnknownError, Service, UnavailableError
from posthouse.errors import ContractError, UnknownServiceError
from posthouse.testing.faulty import FaultyTransport
from tests.house import House, until

pytestmark = pytest.mark.anyio


class News(Struct):
    text: str


class Other(Struct):
    number: int


def listener(name: str, event: Event[News], heard: list[str]) -> Service:
    service = Service(name)

    async def hear(news: News) -> None:
        heard.append(f"{name} {news.text}")

    service.on(event, name="hear")(hear)
    return service


def publisher(mode: Any = "queued") -> tuple[Service, Event[News]]:
    paper = Service("paper")
    return paper, paper.event("printed", News, mode=mode)


# --- subscriptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["volatile", "queued"])
async def test_an_event_reaches_one_instance_of_each_subscription(house: House, mode: Any):
    paper, printed = publisher(mode)
    heard: list[str] = []
    for instance in range(3):
        for name in ("reader", "archive"):
            await house.serve(listener(name, printed, heard))
        assert instance < 3
    host = await house.serve(paper)
    await asyncio.sleep(0.1)
    for number in range(20):
        await host.client("paper").publish(printed, News(str(number)))
    await asyncio.sleep(1)

    assert Counter(heard) == {f"{name} {number}": 1 for name in ("reader", "archive") for number in range(20)}


async def test_a_volatile_event_that_nobody_hears_is_forgotten(house: House):
    paper, printed = publisher("volatile")
    heard: list[str] = []
    host = await house.serve(paper)
    await host.client("paper").publish(printed, News("lost"))
    await house.serve(listener("reader", printed, heard))
    await asyncio.sleep(1)

    assert heard == []


async def test_a_queued_event_waits_for_a_subscription_whose_instances_are_away(house: House):
    paper, printed = publisher()
    heard: list[str] = []
    reader = listener("reader", printed, heard)
    host = await house.serve(paper)
    await host.announce(reader)
    await host.client("paper").publish(printed, News("kept"))
    assert heard == []
    await house.serve(reader)
    await house.settled("reader.hear")

    assert heard == ["reader kept"]


async def test_a_subscription_that_vanished_is_shown_and_gets_nothing_more(
    house: House, caplog: pytest.LogCaptureFixture
):
    paper, printed = publisher()
    heard: list[str] = []
    host = await house.serve(paper)
    await host.announce(listener("reader", printed, heard))
    await host.client("paper").publish(printed, News("before"))

    newer = Service("reader")

    @newer.handler
    async def read(news: News) -> None: ...

    await host.announce(newer)
    await host.client("paper").publish(printed, News("after"))

    assert "reader.hear does not hear paper.printed any more" in caplog.text
    assert await host.transport.bindings() == []
    assert (await house.queue("reader.hear")).stored == 1  # shown, with what it holds
    [record] = await host.registry.subscriptions()
    assert (record.name, record.declared) == ("reader.hear", False)


async def test_a_subscription_that_hears_something_else_now_does_not_hear_the_old(house: House):
    paper, printed = publisher()
    corrected = paper.event("corrected", Other, mode="queued")
    host = await house.serve(paper)
    await host.announce(listener("reader", printed, []))

    newer = Service("reader")
    numbers: list[int] = []

    @newer.on(corrected, name="hear")
    async def hear(other: Other) -> None:
        numbers.append(other.number)

    await host.serve(newer)
    await host.client("paper").publish(printed, News("old"))
    await host.client("paper").publish(corrected, Other(5))
    await house.settled("reader.hear")

    assert await host.transport.bindings() == [("paper.corrected", "reader.hear")]
    assert numbers == [5]
    assert await house.dead() == []


async def test_a_subscription_that_is_volatile_now_leaves_no_queue_to_grow(house: House):
    _paper, printed = publisher()
    host = await house.open()
    await host.announce(listener("reader", printed, []))
    await host.announce(listener("reader", Event("paper.printed", News, mode="volatile"), []))

    assert await host.transport.bindings() == []


async def test_a_subscriber_that_means_another_mode_than_the_publisher_is_refused(house: House):
    """Else it would wait for ever, in silence, for what goes another way."""
    paper, _printed = publisher("queued")
    host = await house.serve(paper)
    reader = listener("reader", Event("paper.printed", News, mode="volatile"), [])

    with pytest.raises(ContractError, match=r"paper\.printed is queued for its service, and volatile for reader\.hear"):
        await host.announce(reader)
    assert "reader" not in host.directory.contracts


async def test_all_subscriptions_are_there_before_the_first_event(house: House, mode: Any):
    paper, printed = publisher()
    heard: list[str] = []

    @paper.handler(mode=mode)
    async def print_one(news: News, ctx: Context) -> None:
        await ctx.publish(printed, news)

    host = await house.open()
    await host.announce(paper)
    client = await house.client()
    await client.send(print_one, News("at once"))
    await host.serve(paper, listener("reader", printed, heard))  # the publisher comes first
    await until(_answer(heard), lambda texts: texts == ["reader at once"])


def _answer(value: Any) -> Any:
    async def answer() -> Any:
        return value

    return answer


# --- instances ----------------------------------------------------------------------------------------


async def slow_service() -> tuple[Service, Any, list[str]]:
    service = Service("slow")
    begun: list[str] = []

    @service.handler(mode="volatile")
    async def work(news: News) -> str:
        begun.append(news.text)
        await asyncio.sleep(10)
        return news.text

    return service, work, begun


async def test_an_instance_that_dies_with_a_request_is_told_at_once(house: House):
    service, work, begun = await slow_service()
    await house.serve(service)
    client = await house.client()
    caller = house.hosts[1].caller
    asking = asyncio.create_task(client.call(work, News("a")))
    await asyncio.sleep(1)
    assert begun == ["a"]
    loop = asyncio.get_running_loop()
    before = loop.time()
    house.hosts[0].vanish()
    caller.lost(house.hosts[0].peer, [])  # what a transport tells that sees the process end

    with pytest.raises(OutcomeUnknownError, match="went away before it answered"):
        await asking
    assert loop.time() - before < 0.1


async def test_what_was_not_yet_sent_to_the_dead_goes_to_another_instance(house: House):
    first, work, begun_first = await slow_service()
    second, _work, begun_second = await slow_service()
    await house.serve(first)
    await house.serve(second)
    client = await house.client()
    await asyncio.sleep(0.1)
    house.hosts[0].vanish()

    texts = [str(number) for number in range(12)]
    assert await asyncio.gather(*(client.call(work, News(text)) for text in texts)) == texts
    assert begun_first == []
    assert sorted(begun_second) == sorted(texts)


async def test_without_another_instance_what_was_not_sent_is_certainly_not_done(house: House):
    service, work, begun = await slow_service()
    await house.serve(service)
    client = await house.client()
    await asyncio.sleep(0.1)
    house.hosts[0].vanish()

    with pytest.raises(NotServedError):
        await client.call(work, News("a"))
    assert begun == []


async def test_requests_are_spread_over_the_instances_by_their_load(house: House):
    services = [await slow_service() for _ in range(3)]
    for service, _work, _begun in services:
        await house.serve(service)
    client = await house.client()
    await asyncio.sleep(0.1)
    work = services[0][1]

    await asyncio.gather(*(client.call(work, News(str(number))) for number in range(60)))
    counts = [len(begun) for _service, _work, begun in services]
    assert sum(counts) == 60
    assert max(counts) - min(counts) <= 4


async def test_a_queued_request_survives_the_instance_that_had_it(house: House):
    attempts: list[int] = []
    first, quote = asked_prices("queued", attempts, took=1000)
    host = await house.serve(first)
    client = await house.client()
    asking = asyncio.create_task(client.call(quote, News("a"), timeout="5m"))
    await asyncio.sleep(1)
    second, _quote = asked_prices("queued", attempts, took=0)
    await house.serve(second)
    for task in host._tasks:  # its leases are not renewed any more, as if it had stopped
        task.cancel()

    assert await asking == "a"
    assert attempts == [1, 2]


@pytest.mark.parametrize("mode", ["journaled", "adopted"], indirect=True)
async def test_a_journaled_request_survives_the_instance_that_had_it(house: House, mode: Any):
    attempts: list[int] = []
    first, quote = asked_prices(mode, attempts, took=1000)
    host = await house.serve(first)
    client = await house.client()
    asking = asyncio.create_task(client.call(quote, News("a"), timeout="5m"))
    await asyncio.sleep(1)
    await host.die()
    second, _quote = asked_prices(mode, attempts, took=0)
    await house.serve(second)

    assert await asking == "a"
    assert attempts == [1, 2]


def asked_prices(mode: Any, attempts: list[int], *, took: float) -> tuple[Service, Any]:
    prices = Service("prices", concurrency=1)  # so that the first one does not take it again itself

    @prices.handler(mode=mode)
    async def quote(news: News, ctx: Context) -> str:
        attempts.append(ctx.attempt)
        await asyncio.sleep(took)
        return news.text

    return prices, quote


# --- a transport that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["queued", "adopted"], indirect=True)
async def test_a_transport_that_is_away_is_told_and_found_again(house: House, mode: Any):
    prices, quote, ran = told_prices(mode)
    host = await house.serve(prices, wrap=FaultyTransport)
    transport: Any = host.transport
    client = house.client_of(host)
    assert await client.call(quote, News("a")) == "a"
    transport.cut()
    with pytest.raises(UnavailableError):
        await client.call(quote, News("b"))
    with pytest.raises(UnavailableError):
        await client.send(quote, News("c"))
    await asyncio.sleep(100)
    transport.heal()

    assert await client.call(quote, News("d")) == "d"
    assert ran == ["a", "d"]


async def test_what_a_store_keeps_is_done_as_soon_as_the_transport_is_back(house: House):
    prices, quote, ran = told_prices("journaled")
    host = await house.serve(prices, wrap=FaultyTransport)
    transport: Any = host.transport
    client = house.client_of(host)
    assert await client.call(quote, News("a")) == "a"
    transport.cut()
    asking = asyncio.create_task(client.call(quote, News("b"), timeout="5m"))
    await client.send(quote, News("c"))
    await asyncio.sleep(100)
    before = list(ran)
    transport.heal()

    assert await asking == "b"
    await house.settled("prices.quote")
    assert before == ["a"]
    assert sorted(ran) == ["a", "b", "c"]


def told_prices(mode: Any) -> tuple[Service, Any, list[str]]:
    prices = Service("prices")
    ran: list[str] = []

    @prices.handler(mode=mode)
    async def quote(news: News) -> str:
        ran.append(news.text)
        return news.text

    return prices, quote, ran


async def test_outcomes_are_kept_until_the_transport_is_back(house: House, mode: Any):
    prices = Service("prices")
    ran: list[str] = []

    @prices.handler(mode=mode)
    async def quote(news: News) -> None:
        ran.append(news.text)
        await asyncio.sleep(1)

    host = await house.serve(prices, wrap=FaultyTransport)
    transport: Any = host.transport
    await house.client_of(host).send(quote, News("a"))
    await asyncio.sleep(0.5)
    transport.cut()
    await asyncio.sleep(5)
    transport.heal()
    await house.settled("prices.quote")

    assert ran == ["a"]


async def test_an_outcome_that_was_lost_is_a_message_that_comes_again(house: House):
    prices = Service("prices")
    attempts: list[int] = []

    @prices.handler(mode="queued")
    async def quote(news: News, ctx: Context) -> None:
        attempts.append(ctx.attempt)

    host = await house.serve(prices, wrap=FaultyTransport)
    transport: Any = host.transport
    transport.fault("lose settle")
    await host.client("shop").send(quote, News("a"))
    await house.settled("prices.quote")

    assert attempts == [1, 2]


async def test_a_handler_whose_messages_were_not_stored_has_not_ended_well(house: House, mode: Any):
    prices = Service("prices")
    quoted = prices.event("quoted", News, mode="queued")
    attempts: list[int] = []
    heard: list[str] = []

    @prices.handler(mode=mode)
    async def quote(news: News, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        await ctx.publish(quoted, news)

    host = await house.serve(prices, listener("reader", quoted, heard), wrap=FaultyTransport)
    other = await house.open()
    transport: Any = host.transport
    transport.fault("refuse send")
    await house.client_of(other).send(quote, News("a"))
    await house.settled("prices.quote")
    await house.settled("reader.hear")

    assert attempts == [1, 2]
    assert heard == ["reader a"]


@pytest.mark.parametrize("mode", ["queued", "adopted"], indirect=True)
async def test_what_a_backend_should_not_raise_stops_neither_receiving_nor_settling(
    house: House, mode: Any, caplog: pytest.LogCaptureFixture
):
    class Slips(FaultyTransport):
        def settle(self, outcomes: Any) -> Any:
            if self.strikes("lose settle"):
                raise KeyError("a slip")
            return super().settle(outcomes)

        async def receive(self, queue: str, **how: Any) -> Any:
            if self.strikes("refuse receive"):
                raise KeyError("a slip")
            return await super().receive(queue, **how)

    prices = Service("prices")

    @prices.handler(mode=mode)
    async def quote(news: News) -> str:
        return news.text

    host = await house.serve(prices, wrap=Slips)
    transport: Any = host.transport
    client = house.client_of(host)
    transport.fault("lose settle")
    transport.fault("refuse receive", times=2)
    assert await client.call(quote, News("a")) == "a"
    assert await client.call(quote, News("b")) == "b"
    await house.settled("prices.quote")

    assert "in a way that it should not" in caplog.text


async def test_a_queue_that_is_gone_is_made_again(house: House):
    paper, printed = publisher()
    heard: list[str] = []
    host = await house.serve(paper, listener("reader", printed, heard))
    await host.transport.delete("reader.hear")
    await until(host.transport.bindings, lambda bindings: bindings == [("paper.printed", "reader.hear")])
    await host.client("paper").publish(printed, News("again"))
    await until(_answer(heard), lambda texts: texts == ["reader again"])


async def test_a_frame_that_nobody_can_read_is_put_aside_and_a_newer_one_waits(house: House, mode: Any):
    from posthouse.contracts.transport import Outgoing

    prices = Service("prices")
    ran: list[str] = []

    @prices.handler(mode=mode)
    async def quote(news: News) -> str:
        ran.append(news.text)
        return news.text

    host = await house.serve(prices)
    for frame in (b"", b"\x01junk", b"\x02from a later version", b"\x01" + b"\xff" * 9):
        await host.transport.send([Outgoing("prices.quote", frame)])
    assert await house.client_of(host).call(quote, News("good")) == "good"
    letters = await house.bury(3)
    await asyncio.sleep(200)

    assert {letter.code for letter in letters} == {"frame.unreadable"}
    info = await house.queue("prices.quote")
    assert (info.stored, info.dead) == (1, 3)
    assert ran == ["good"]


async def test_a_queued_message_that_takes_its_receivers_down_each_time_is_not_run_for_ever(house: House):
    prices = Service("prices")
    attempts: list[int] = []

    @prices.handler(mode="queued")
    async def quote(news: News, ctx: Context) -> None:
        attempts.append(ctx.attempt)

    host = await house.open()
    await host.announce(prices)
    await host.client("shop").send(quote, News("bomb"))
    for _ in range(20):
        [_delivery] = await host.transport.receive("prices.quote", credit=1)
        await asyncio.sleep(host.transport.lease + 1)
    await host.serve(prices)
    [letter] = await house.bury(1)

    assert attempts == []
    assert letter.state == "parked"
    assert "its receivers died" in letter.reason


@pytest.mark.parametrize("mode", ["journaled", "adopted"], indirect=True)
async def test_a_journaled_request_that_takes_three_instances_down_is_parked_and_the_others_are_run(
    house: House, mode: Any
):
    prices = Service("prices", concurrency=5)
    begun: list[str] = []

    @prices.handler(mode=mode)
    async def quote(news: News, ctx: Context) -> None:
        begun.append(news.text)
        await asyncio.sleep(5)
        if news.text == "bomb":
            await asyncio.sleep(1)
            bombed.set()
            await asyncio.sleep(1000)

    client = await house.client()
    host = await house.serve(prices)
    bombed = asyncio.Event()
    for text in ("a", "bomb", "b"):
        await client.send(quote, News(text))
    for _ in range(3):
        await bombed.wait()
        bombed.clear()
        await host.die()
        host = await house.serve(prices)
    [letter] = await house.bury(1)
    await house.settled("prices.quote")

    assert (letter.state, letter.code) == ("parked", "handler.deadly")
    assert Counter(begun) == {"a": 1, "b": 1, "bomb": 3}


@pytest.mark.parametrize("mode", ["queued", "adopted"], indirect=True)
async def test_a_service_that_was_forgotten_is_unknown(house: House, mode: Any):
    prices, quote, _ran = told_prices(mode)
    host = await house.open()
    await host.announce(prices)
    client = await house.client()
    await client.send(quote, News("a"))
    await host.registry.forget("prices")
    await until(_answer(house.hosts[1]), lambda host: "prices" not in host.directory.contracts)

    with pytest.raises(UnknownServiceError):
        await client.send(quote, News("b"))


async def test_a_service_that_a_store_has_known_once_may_be_asked_when_all_have_forgotten_it(house: House):
    prices, quote, ran = told_prices("journaled")
    host = await house.open()
    await host.announce(prices)
    client = await house.client()
    await client.send(quote, News("a"))
    await host.registry.forget("prices")
    await until(_answer(house.hosts[1]), lambda host: "prices" not in host.directory.contracts)
    await client.send(quote, News("b"))
    await house.serve(prices)
    await house.settled("prices.quote")

    assert ran == ["a", "b"]
