"""Events, streams and subscriptions, as the stores of services that run have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from posthouse import Context, Event, Service, UsageError
from posthouse.cli import listing, streams
from posthouse.cli.conversation import conversations
from posthouse.cli.events import EventSeen, event
from posthouse.cli.feeds import SubscriptionRow, subscriptions
from posthouse.cli.messages import resolve
from posthouse.cli.publish import _must_be_here
from posthouse.cli.stores import Stores
from posthouse.testing.loop import SimulatedLoop
from tests.house import LONG, House, until

pytestmark = pytest.mark.anyio


class News(Struct):
    text: str


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Let no time pass."""
    return "asyncio", {"loop_factory": SimulatedLoop}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Give a house."""
    async with House() as house, asyncio.timeout(LONG):
        yield house


async def stores_of(house: House) -> Stores:
    """What a command sees: the stores of all services."""
    for service in house.stored_services:
        await house.read(service, lambda books: None)
    by_service = {service: house._stores[service] for service in sorted(house.stored_services)}
    return Stores(house.hosts[0], by_service)


async def row_of(house: House, name: str) -> SubscriptionRow:
    return next(row for row in await subscriptions(await stores_of(house)) if row.name == name)


async def seen(house: House, id: str) -> EventSeen:
    found = await event(await stores_of(house), id)
    assert found is not None
    return found


def a_paper() -> tuple[Service, Event[News]]:
    paper = Service("paper")
    return paper, paper.event("printed", News, mode="journaled", retain="1h")


def a_reader(printed: Event[News], *, exhausted: Any = "park") -> Service:
    reader = Service("reader")

    @reader.on(printed, attempts=1, exhausted=exhausted)
    async def note(news: News, ctx: Context) -> None:
        if news.text == "slow":
            await asyncio.sleep(LONG)
        if news.text == "broken":
            raise ValueError("cannot read")

    return reader


async def test_an_event_is_shown_at_its_publisher_and_at_each_subscription(house: House):
    paper, printed = a_paper()
    host = await house.serve(paper)
    await house.serve(a_reader(printed))
    for text in ("good", "broken", "slow"):
        await host.client("paper").publish(printed, News(text), id=text)
    await until(lambda: row_of(house, "reader.note"), lambda row: row.parked == row.undecided == 1)
    await until(lambda: seen(house, "slow"), lambda found: found.heard[0].state == "running")

    found = {text: await seen(house, text) for text in ("good", "broken", "slow")}
    listed = await listing.listed(await stores_of(house), service="", state="", limit=10)
    as_requests = await conversations(await stores_of(house), "slow")

    assert [each.heard[0].state for each in found.values()] == ["had", "parked", "running"]
    assert [each.number for each in found.values()] == [0, 1, 2]
    assert found["broken"].heard[0].letter is not None
    assert found["slow"].data == msgspec.Raw(b'{"text":"slow"}')
    assert found["slow"].until == found["slow"].told + 3600
    assert await resolve(await stores_of(house), "go") == "good"
    assert as_requests == []
    assert {(row.id, row.caller, row.operation, row.state) for row in listed} == {
        ("broken", "paper", "reader.note", "parked"),
        ("slow", "paper", "reader.note", "running"),
    }


async def test_an_event_that_failed_for_good_is_told_from_one_that_was_handled(house: House):
    paper, printed = a_paper()
    host = await house.serve(paper)
    await house.serve(a_reader(printed, exhausted="fail"))
    await host.client("paper").publish(printed, News("broken"), id="broken")
    await house.bury(1)

    [heard] = (await seen(house, "broken")).heard

    assert heard.state == "failed"


async def test_how_far_a_subscription_is_counts_what_its_publisher_has_told_meanwhile(house: House):
    paper, printed = a_paper()
    reader = a_reader(printed)
    host = await house.serve(paper)
    away = await house.serve(reader)
    await host.client("paper").publish(printed, News("good"))
    await until(lambda: row_of(house, "reader.note"), lambda row: row.feeds and row.feeds[0].floor == 1)
    await away.close()
    told = host.seams.clock.now()
    await host.client("paper").publish(printed, News("1"), id="late")
    await host.client("paper").publish(printed, News("2"))

    row = await row_of(house, "reader.note")
    [feed] = row.feeds
    [heard] = (await seen(house, "late")).heard

    assert (row.behind, row.undecided, row.declared, row.instances) == (2, 0, True, 0)
    assert (feed.floor, feed.head, feed.told, feed.kept) == (1, 1, 3, 0)
    assert feed.lost_at == pytest.approx(told + 3600, abs=1.0)
    assert (heard.state, heard.instances) == ("missing", 0)


async def test_a_subscription_that_vanished_is_shown_as_not_declared(house: House):
    paper, printed = a_paper()
    host = await house.serve(paper)
    away = await house.serve(a_reader(printed))
    await away.close()
    newer = Service("reader")

    @newer.handler
    async def read(news: News) -> None: ...

    await host.announce(newer)

    assert (await row_of(house, "reader.note")).declared is False


async def test_queued_and_volatile_subscriptions_are_shown_too(house: House):
    paper = Service("paper")
    printed, rumor = paper.event("printed", News, mode="queued"), paper.event("rumor", News, mode="volatile")
    reader = Service("reader")

    @reader.on(printed)
    async def note(news: News) -> None: ...

    @reader.on(rumor)
    async def listen(news: News) -> None: ...

    host = await house.serve(paper)
    await host.announce(reader)
    await host.client("paper").publish(printed, News("waits"))

    rows = await subscriptions(await stores_of(house))

    assert [(row.name, row.mode, row.behind, row.undecided) for row in rows] == [
        ("reader.listen", "volatile", None, 0),
        ("reader.note", "queued", 1, 1),
    ]


async def test_a_stream_is_shown_with_what_is_kept_of_it_and_who_hears_it(house: House):
    paper, printed = a_paper()
    host = await house.serve(paper)
    await house.serve(a_reader(printed))
    for number in range(3):
        await host.client("paper").publish(printed, News(str(number)))
    stores = await stores_of(house)

    [row] = await streams.rows_of(stores, stores.of("paper"))

    assert (row.topic, row.first, row.next, row.present, row.hearers) == ("paper.printed", 0, 3, True, ["reader.note"])
    assert (row.retain, row.is_near_limit) == (3600.0, False)
    assert row.bytes > 0
    assert row.oldest > 0


async def test_an_event_is_not_published_where_its_publisher_has_no_store(house: House):
    paper, _printed = a_paper()
    await house.serve(paper)

    with pytest.raises(UsageError, match=r"news\.printed is journaled, .* and news has no store in"):
        _must_be_here(await stores_of(house), "news.printed")
    _must_be_here(await stores_of(house), "paper.printed")
