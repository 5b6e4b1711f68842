"""What is held comes to one end: settled once, lost once, or back in its queue; whatever goes wrong beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from posthouse.backends.sqlite import Database, SqliteTransport, commits, inbound
from posthouse.backends.sqlite.turnstile import Turnstile
from posthouse.contracts.transport import (
    ACCEPTED,
    Delivery,
    Outcome,
    Outgoing,
    QueueInfo,
    QueueSpec,
    Rejected,
    Released,
)
from posthouse.errors import UnavailableError
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.children import PATIENCE
from tests.unit.backends.sqlite.conftest import OpenTransport

pytestmark = pytest.mark.anyio

REJECTED = Rejected("parked", "c", "r")


async def held(transport: SqliteTransport, count: int) -> list[Delivery]:
    """Return so many deliveries under one lease."""
    await transport.declare(QueueSpec("hello"))
    await transport.send([Outgoing("hello", b"%d" % number) for number in range(count)])
    deliveries = await transport.receive("hello", credit=count)
    assert len(deliveries) == count
    return deliveries


async def info(transport: SqliteTransport) -> QueueInfo:
    [found] = await transport.queues()
    return found


@pytest.mark.parametrize("outcome", [ACCEPTED, Released(), REJECTED], ids=lambda outcome: type(outcome).__name__)
async def test_settling_on_both_sides_of_a_renewal_settles_all(
    directory: Path, open_transport: OpenTransport, outcome: Outcome
):
    transport = await open_transport("one")
    first, second, third = await held(transport, 3)
    another = Turnstile(directory)

    assert another.enter()  # while another process writes, all of this gathers
    before = transport.settle([(first, outcome)])
    renewal = asyncio.create_task(transport.renew([]))
    await asyncio.sleep(0)
    after = transport.settle([(second, outcome), (third, outcome)])
    another.leave()

    async with asyncio.timeout(PATIENCE):
        assert [await before, await renewal, await after] == [[], [], []]
    another.close()
    found = await info(transport)
    assert (found.stored, found.leased) == (3 if isinstance(outcome, Released) else 0, 0)


async def test_more_than_a_batch_takes_is_settled_to_the_last(open_transport: OpenTransport):
    transport = await open_transport("one")
    deliveries = await held(transport, 2100)

    async with asyncio.timeout(PATIENCE):
        calls = [
            transport.settle([(delivery, ACCEPTED) for delivery in some])
            for some in (deliveries[:2050], deliveries[2050:])
        ]
        assert [await call for call in calls] == [[], []]
    assert (await info(transport)).stored == 0


async def test_what_was_settled_when_the_flush_failed_is_not_settled_again(
    open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    transport = await open_transport("one")
    first, second, third = await held(transport, 3)

    def fail(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(commits, "flush", fail)
        with pytest.raises(UnavailableError, match="Input/output error"):
            await transport.settle([(first, REJECTED), (second, ACCEPTED)])

    assert await transport.settle([(first, Released()), (second, ACCEPTED)]) == [first, second]
    assert (await info(transport)).stored == 1
    assert await transport.settle([(third, ACCEPTED)]) == []
    assert (await info(transport)).stored == 0


async def test_a_renewal_that_lost_a_message_cannot_settle_its_next_delivery(
    open_transport: OpenTransport, clock: ManualClock
):
    transport = await open_transport("one")
    old, _ = await held(transport, 2)
    clock.advance(transport.lease + 1)
    new = await transport.receive("hello", credit=2)

    assert await transport.renew([old]) == [old]

    assert await transport.settle([(old, ACCEPTED)]) == [old]
    assert await transport.settle([(delivery, ACCEPTED) for delivery in new]) == []


async def test_a_renewal_that_fails_after_its_caller_left_leaves_the_lease_whole(
    open_transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    transport = await open_transport("one")
    first, second = await held(transport, 2)

    def fail(*_: object, **__: object) -> None:
        raise apsw.FullError("no room")

    monkeypatch.setattr(inbound, "renew", fail)
    renewal = asyncio.create_task(transport.renew([first]))
    await asyncio.sleep(0)
    renewal.cancel()
    with pytest.raises(asyncio.CancelledError):
        await renewal
    await transport.queues()

    assert await transport.settle([(first, ACCEPTED), (second, ACCEPTED)]) == []
    assert (await info(transport)).stored == 0


@pytest.mark.parametrize("slow_flush", [1000.0, -1.0], ids=["on the loop", "in a thread"])
async def test_an_operation_that_fails_in_an_unforeseen_way_stops_nobody_else(
    directory: Path, clock: ManualClock, open_transport: OpenTransport, slow_flush: float
):
    database = Database(directory, clock=clock, slow_flush=slow_flush)
    transport = await open_transport("one", database=database)
    await transport.declare(QueueSpec("hello"))

    def mistake(_: object) -> None:
        raise IndexError

    async with asyncio.timeout(PATIENCE):
        before = transport.send([Outgoing("hello", b"tea")])
        failing = database.call(mistake)
        await before
        with pytest.raises(IndexError):
            await failing
    assert (await info(transport)).stored == 1


async def test_the_text_of_an_error_may_be_no_unicode(open_transport: OpenTransport):
    transport = await open_transport("one")
    [delivery] = await held(transport, 1)

    async with asyncio.timeout(PATIENCE):
        assert await transport.settle([(delivery, Rejected("parked", "c", "no file \udcff", "\udcfe"))]) == []

    [letter] = await transport.dead()
    assert (letter.outcome.reason, letter.outcome.detail) == (r"no file \udcff", r"\udcfe")


async def test_behind_a_dead_letter_of_any_number_there_is_nothing(open_transport: OpenTransport):
    transport = await open_transport("one")
    [delivery] = await held(transport, 1)
    await transport.settle([(delivery, REJECTED)])

    async with asyncio.timeout(PATIENCE):
        assert await transport.dead(after="9" * 5000) == []
    assert len(await transport.dead()) == 1
