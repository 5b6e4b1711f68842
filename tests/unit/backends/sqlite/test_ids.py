"""The ids of messages: given out once, whatever becomes of the messages, and of the queue."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.backends.sqlite import Database
from posthouse.backends.sqlite.schema import PLACE_BITS, PRIORITY_BITS, first_id, last_id, queue_number
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec
from posthouse.testing import ManualClock
from tests.unit.backends.sqlite.conftest import OpenTransport

MOST = (1 << (63 - PLACE_BITS - PRIORITY_BITS)) - 1


async def ids_in(database: Database) -> list[int]:
    rows = await database.call(lambda sql: sql.execute("SELECT id FROM messages ORDER BY id").fetchall(), reads=True)
    return [message for (message,) in rows]


@pytest.mark.anyio
async def test_a_drained_queue_gives_out_no_id_again(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    database = Database(directory, clock=clock)
    transport = await open_transport("one", database=database)
    await transport.declare(QueueSpec("hello"))
    await transport.send([Outgoing("hello", b"1"), Outgoing("hello", b"2")])
    before = await ids_in(database)
    await transport.settle([(delivery, ACCEPTED) for delivery in await transport.receive("hello", credit=10)])
    assert await ids_in(database) == []

    await transport.send([Outgoing("hello", b"3")])

    assert await ids_in(database) == [before[-1] + 1]


@pytest.mark.anyio
async def test_a_queue_that_takes_over_the_number_of_a_deleted_one_gives_out_no_id_again(
    directory: Path, clock: ManualClock, open_transport: OpenTransport
):
    database = Database(directory, clock=clock)
    transport = await open_transport("one", database=database)
    await transport.declare(QueueSpec("hello"))
    await transport.send([Outgoing("hello", b"1"), Outgoing("hello", b"2")])
    before = await ids_in(database)
    old = await transport.receive("hello", credit=10)
    await transport.delete("hello")

    await transport.declare(QueueSpec("other"))
    await transport.send([Outgoing("other", b"3")])

    assert await ids_in(database) == [before[-1] + 1]
    assert await transport.settle([(delivery, ACCEPTED) for delivery in old]) == old
    assert [delivery.frame for delivery in await transport.receive("other", credit=10)] == [b"3"]


@given(st.integers(1, MOST), st.integers(1, (1 << PLACE_BITS) - 1))
def test_an_id_tells_its_queue_and_fits_into_a_row_id(number: int, place: int):
    message = first_id(number) + place

    assert queue_number(message) == number
    assert first_id(number) < message <= last_id(number) < 1 << 63


@given(st.integers(1, MOST - 1))
def test_the_ids_of_two_queues_never_meet_and_leave_room_for_two_more_priorities(number: int):
    assert first_id(number + 1) - last_id(number) > 2 * (1 << PLACE_BITS)
