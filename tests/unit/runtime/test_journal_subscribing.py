"""When a subscription is made: it begins where its publisher's streams end, until an instance is ready with it."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.contracts.store import Books, Store
from posthouse.message.message import Lane
from posthouse.runtime.steps.feeding import are_ready, subscribe, take_heads
from posthouse.runtime.steps.here import Here
from posthouse.runtime.steps.pulling import Head, Heads
from posthouse.testing.clock import ManualClock
from tests.house import House
from tests.unit.runtime.audit import Audit, Price, publish, publisher, quoted
from tests.unit.runtime.test_journal_restoring import put_back

pytestmark = pytest.mark.anyio

NAME, TOPIC = "audit.note", "prices.quoted"
STAMPS = Lane("prices-store", 1)


@pytest.fixture
async def store(house: House) -> Store:
    """The store of a service that nobody serves."""
    await house.open()
    await house.read("audit", lambda books: None)
    return house._stores["audit"]


def here(house: House) -> Here:
    place = Here("audit", peer="peer", now=ManualClock().now, directory=(house.hosts[0]).directory)
    place.subscriptions = {TOPIC: [NAME]}
    return place


async def test_every_instance_makes_a_subscription_until_one_is_ready_with_it(store: Store):
    def start(books: Books) -> set[str]:
        return subscribe(books, [(NAME, TOPIC)], 7.0)

    first = await store.commit(start, name="first")
    second = await store.commit(start, name="second")
    await store.commit(lambda books: are_ready(books, [NAME]), name="ready")
    third = await store.commit(start, name="third")

    assert (first, second, third) == ({NAME}, {NAME}, set())


async def test_what_a_publisher_says_to_who_is_still_waiting_skips_nothing_once_a_sibling_is_ready(
    store: Store, house: House
):
    told = [Heads(NAME, TOPIC, True, [Head(1, 0, 5, 5, [])])]
    place = here(house)

    def wait(books: Books) -> tuple[int, set[str]]:
        subscribe(books, [(NAME, TOPIC)], 7.0)
        are_ready(books, [NAME])
        fed = take_heads(books, told, STAMPS, place, {NAME})
        return len(books.feeds()), fed.asks

    assert await store.commit(wait, name="wait") == (0, {"prices"})


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


@pytest.mark.parametrize("restored", [True, False])
async def test_a_subscription_that_a_backup_does_not_know_is_as_old_as_can_be_and_misses_nothing(
    store: Store, restored: bool
):
    def start(books: Books) -> tuple[set[str], list[float]]:
        fresh = subscribe(put_back(books) if restored else books, [(NAME, TOPIC)], 7.0)
        return fresh, [each.created for each in books.subscribed()]

    fresh, created = await store.commit(start, name="start")

    assert (fresh, created) == ((set(), [0.0]) if restored else ({NAME}, [7.0]))
