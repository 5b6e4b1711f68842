"""A full disk: refused, nothing lost, and working again at once when there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from posthouse.backends.sqlite import Database, SqliteTransport
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec
from posthouse.errors import DiskFullError
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.conftest import OpenTransport

pytestmark = pytest.mark.anyio

BIG = b"x" * 10_000


async def allow(database: Database, pages: int) -> None:
    """Let the file grow to so many pages, as a disk of that size would."""
    await database.call(lambda sql: sql.execute(f"PRAGMA max_page_count = {pages}").fetchall())


async def fill(transport: SqliteTransport, limit: int = 1000) -> int:
    """Send until the disk is full; return how many were confirmed."""
    for confirmed in range(limit):
        try:
            await transport.send([Outgoing("hello", b"%d" % confirmed + BIG)])
        except DiskFullError:
            return confirmed
    raise AssertionError("the disk never became full")


async def test_a_full_disk_refuses_what_is_sent_and_loses_nothing_of_what_was(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    database = Database(directory, clock=clock)
    transport = await open_transport("one", database=database)
    await transport.declare(QueueSpec("hello"))
    await allow(database, 100)

    confirmed = await fill(transport)

    deliveries = await transport.receive("hello", credit=1000)
    assert [delivery.frame for delivery in deliveries] == [b"%d" % number + BIG for number in range(confirmed)]
    [info] = await transport.queues()
    assert info.stored == confirmed


async def test_a_full_disk_can_be_drained_and_then_takes_messages_again(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    database = Database(directory, clock=clock)
    transport = await open_transport("one", database=database)
    await transport.declare(QueueSpec("hello"))
    await allow(database, 100)
    await fill(transport)

    deliveries = await transport.receive("hello", credit=1000)
    lost = await transport.settle([(delivery, ACCEPTED) for delivery in deliveries])
    await transport.send([Outgoing("hello", BIG)])

    assert lost == []
    assert [delivery.frame for delivery in await transport.receive("hello", credit=10)] == [BIG]


async def test_what_needs_no_room_succeeds_beside_a_send_that_finds_none(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    database = Database(directory, clock=clock)
    transport = await open_transport("one", database=database)
    await transport.declare(QueueSpec("hello"))
    await allow(database, 100)
    await fill(transport)
    [delivery] = await transport.receive("hello", credit=1)

    sending = transport.send([Outgoing("hello", BIG * 20)])  # both in one turn of the loop, so in one transaction
    settling = transport.settle([(delivery, ACCEPTED)])

    with pytest.raises(DiskFullError) as refusal:
        await sending
    assert await settling == []
    assert refusal.value.transient
    assert refusal.value.hint
