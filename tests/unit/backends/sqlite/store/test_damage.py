"""A row that is not as it was written is told, and is never a wrong result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from posthouse.backends.sqlite.sql import Sql
from posthouse.contracts.store import Books
from posthouse.errors import StorageError, StoreDamagedError
from posthouse.protocol.lane import number_of
from posthouse.protocol.outbox import CallState
from posthouse.testing.conformance.stores.bench import SHOP, call, lane_with, request, running
from posthouse.testing.conformance.stores.letters import letter
from posthouse.testing.conformance.stores.streams import told
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio

CALL = call(0, work=3, key="k", deadline=5.5, state=CallState.ANSWERED, outcome=b"so", outcome_epoch=1)
REQUEST = request(0, outcome=b"so")

CHANGED: dict[str, dict[str, Any]] = {
    "posthouse_calls": {
        "id": "0af1",
        "service": "stolen",
        "operation": "stock.give",
        "wants": 0,
        "frame": b"another",
        "digest": b"another",
        "work": 4,
        "nth": 1,
        "key": "",
        "created": 0.0,
        "outcome": b"no",
    },
    "posthouse_requests": {
        "id": "0af1",
        "operation": "prices.list",
        "digest": b"another",
        "frame": b"another",
        "outcome": b"no",
    },
    "posthouse_dead": {
        "place": 5,
        "id": "0af1",
        "operation": "prices.list",
        "frame": b"another",
        "state": "failed",
        "code": "another",
        "reason": "another",
        "detail": "another",
        "attempts": 9,
        "cause": "another",
        "at": 0.0,
    },
}


def fill(books: Books) -> None:
    """Write a row of each kind."""
    lane_with(books, [CALL])
    books.add_requests([REQUEST])
    books.add_dead(letter())


def fill_beside(books: Books) -> None:
    """Write another row of each kind."""
    books.add_calls([call(1)])
    books.add_requests([request(1)])
    books.add_dead(letter())


def change(path: Path, statement: str, *values: Any) -> None:
    """Change the file, as another program would."""
    connection = apsw.Connection(str(path))
    cast("Sql", connection.cursor()).execute(statement, values)
    connection.close()


def look(books: Books, table: str) -> None:
    """Read the row of a table whole."""
    if table == "posthouse_calls":
        books.calls_at([CALL.place])
    elif table == "posthouse_requests":
        books.requests_at([REQUEST.place])
    else:
        books.dead_letter(1)


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in CHANGED for column in CHANGED[table]])
async def test_a_value_that_has_changed_is_told_with_the_row(table: str, column: str, path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")
    await store.read(lambda books: look(books, table))

    change(path, f"UPDATE {table} SET {column} = ?", CHANGED[table][column])

    with pytest.raises(StorageError, match=r"is damaged: its checksum") as refusal:
        await store.read(lambda books: look(books, table))
    place = 1 if table == "posthouse_dead" else CALL.place
    assert str(place) in str(refusal.value)
    assert refusal.value.code == "store.damaged"


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in CHANGED for column in CHANGED[table]])
async def test_what_is_listed_for_people_is_without_the_damaged_row_which_is_logged(
    table: str, column: str, path: Path, open_file: OpenStore, caplog: pytest.LogCaptureFixture
):
    def numbers(books: Books) -> dict[str, list[int]]:
        return {
            "posthouse_calls": [number_of(each.place) for each in books.calls_listed()],
            "posthouse_requests": [number_of(each.place) for each in books.requests_listed()],
            "posthouse_dead": [each.number - 1 for each in books.dead_letters()],
        }

    store = await open_file()
    await store.commit(fill, name="fill")
    await store.commit(fill_beside, name="fill beside")
    rows = await store.read(numbers)
    key = "number" if table == "posthouse_dead" else "place"

    change(
        path, f"UPDATE {table} SET {column} = ? WHERE {key} = (SELECT min({key}) FROM {table})", CHANGED[table][column]
    )

    assert all(sorted(listed) == [0, 1] for listed in rows.values())
    assert await store.read(numbers) == {**rows, table: [1]}
    named = await store.read(lambda books: books.requests_named(REQUEST.id))
    assert [each.id for each in named] == ([] if table == "posthouse_requests" else [REQUEST.id])
    assert "is damaged: its checksum does not fit what is stored; it is left out (store.damaged)" in caplog.text


async def test_a_row_that_lies_in_another_place_is_damaged(path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")

    change(path, "UPDATE posthouse_requests SET place = place + 1")

    with pytest.raises(StorageError):
        await store.read(lambda books: books.requests_at([REQUEST.place + 1]))


async def test_what_is_left_of_a_damaged_request_can_be_read_by_its_place(path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")
    whole = await store.read(lambda books: books.remains(REQUEST.place))
    change(path, "UPDATE posthouse_requests SET operation = 'prices.list'")

    with pytest.raises(StoreDamagedError) as refusal:
        await store.read(lambda books: books.requests_at([REQUEST.place]))
    left = await store.read(lambda books: books.remains(refusal.value.place))

    assert whole == REQUEST
    assert left is not None
    assert (left.id, left.operation) == (REQUEST.id, "prices.list")
    assert await store.read(lambda books: books.remains(77)) is None


async def test_a_damaged_row_fails_its_step_and_no_other(path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")
    change(path, "UPDATE posthouse_requests SET operation = 'prices.list'")

    good = store.commit(lambda books: books.open_lane_out("mail").lane, name="good")
    bad = store.commit(lambda books: books.requests_at([REQUEST.place]), name="bad")

    with pytest.raises(StorageError):
        await bad
    assert await good == 2


async def test_what_is_written_over_by_the_rules_stays_sound(open_file: OpenStore):
    store = await open_file()

    def write(books: Books) -> None:
        fill(books)
        books.set_calls([(CallState.DONE, b"another", 2, True, CALL.place)])
        books.set_frames([(b"anew", "two", CALL.place)])
        books.add_requests([running(1), running(2), running(3)])
        for number, kept in ((1, None), (2, b""), (3, b"less")):
            place = running(number).place
            books.decide(place, instance="one", attempt=1, state=REQUEST.state.DONE, outcome=b"so", frame=kept)
        books.set_requests([(REQUEST.state.NOT_DONE, 0.0, b"canceled", REQUEST.place)])
        books.ask_again([(7, 8, "another", REQUEST.place)], 0.0)

    await store.commit(write, name="write")

    assert len(await store.read(lambda books: books.calls_listed())) == 1
    assert len(await store.read(lambda books: books.requests_listed())) == 4


async def test_all_damaged_rows_are_found_at_once(path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")
    sound = await store.read(lambda books: books.damage())
    change(path, "UPDATE posthouse_requests SET operation = 'another'")
    change(path, "UPDATE posthouse_dead SET detail = 'another'")

    found = await store.read(lambda books: books.damage())

    assert sound == []
    assert [sentence.split(" is damaged")[0] for sentence in found] == [
        f"the request {REQUEST.id} (row {REQUEST.place})",
        f"the dead letter {letter().id} (row 1)",
    ]


async def test_a_damaged_event_is_left_out_and_logged_and_the_portion_is_filled_up(
    path: Path, open_file: OpenStore, caplog: pytest.LogCaptureFixture
):
    store = await open_file()
    await store.commit(lambda books: books.add_events([told(number) for number in range(4)]), name="fill")
    change(path, "UPDATE posthouse_events SET frame = x'00' WHERE place = ?", told(1).place)

    found = await store.read(lambda books: books.events(1, 0, 9, 3))

    assert found == [told(0), told(2), told(3)]
    assert f"the event {told(1).id} (row {told(1).place}) is damaged" in caplog.text


@pytest.mark.parametrize(("column", "value"), [("id", "0af1"), ("at", 0.5), ("frame", b"another"), ("place", 77)])
async def test_a_value_of_an_event_that_has_changed_is_told(column: str, value: Any, path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(lambda books: books.add_events([told(0)]), name="fill")

    change(path, f"UPDATE posthouse_events SET {column} = ?", value)

    assert len(await store.read(lambda books: books.damage())) == 1
    with pytest.raises(StoreDamagedError):
        await store.read(lambda books: books.event("0af1" if column == "id" else told(0).id))


# --- values that cannot have been written ---------------------------------------------------------------

NO_TEXT = "CAST(x'ff0af1' AS TEXT)"
"""A byte of it has turned, and it is UTF-8 no more."""


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("posthouse_calls", "id"),
        ("posthouse_calls", "owner"),
        ("posthouse_requests", "id"),
        ("posthouse_requests", "operation"),
        ("posthouse_requests", "reply_to"),
        ("posthouse_dead", "reason"),
    ],
)
async def test_a_text_that_is_none_any_more_is_told_with_the_row(
    table: str, column: str, path: Path, open_file: OpenStore
):
    store = await open_file()
    await store.commit(fill, name="fill")

    change(path, f"UPDATE {table} SET {column} = {NO_TEXT}")

    with pytest.raises(StoreDamagedError, match=r"is damaged: its checksum") as refusal:
        await store.read(lambda books: look(books, table))
    assert refusal.value.place == (1 if table == "posthouse_dead" else CALL.place)
    assert len(await store.read(lambda books: books.damage())) == 1


async def test_what_is_left_of_a_request_is_read_though_a_text_of_it_is_none(path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")

    change(path, f"UPDATE posthouse_requests SET operation = {NO_TEXT}")
    left = await store.read(lambda books: books.remains(REQUEST.place))

    assert left is not None
    assert (left.id, left.frame, left.operation) == (REQUEST.id, REQUEST.frame, "\ufffd\n\ufffd")


async def test_an_event_whose_id_is_no_text_any_more_is_left_out(path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(lambda books: books.add_events([told(number) for number in range(3)]), name="fill")

    change(path, f"UPDATE posthouse_events SET id = {NO_TEXT} WHERE place = ?", told(1).place)

    assert await store.read(lambda books: books.events(1, 0, 9, 9)) == [told(0), told(2)]


async def test_a_text_of_a_lane_that_is_none_any_more_is_told_as_damage(path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")

    change(path, f"UPDATE posthouse_lanes_out SET service = {NO_TEXT}")

    with pytest.raises(StoreDamagedError, match=r"(?s)the lane out 1 .* is damaged"):
        await store.read(lambda books: books.lane_out(1))


@pytest.mark.parametrize("table", ["posthouse_lanes_out", "posthouse_lanes_in"])
async def test_ranges_of_a_lane_that_cannot_be_read_are_told_with_the_lane(
    table: str, path: Path, open_file: OpenStore
):
    store = await open_file()
    await store.commit(fill, name="fill")

    change(path, f"UPDATE {table} SET ranges = x'91'")

    with pytest.raises(StoreDamagedError, match=r"the lane (in|out) \d \(.*\) is damaged"):
        await store.read(lambda books: (books.lane_out(1), books.lane_in(0)))


async def test_a_feed_that_cannot_be_read_is_told_by_its_subscription_and_no_other_is(path: Path, open_file: OpenStore):
    store = await open_file()

    def make(books: Books) -> None:
        for name in ("mail.note", "mail.count"):
            books.open_feed(name, "prices.quoted", SHOP, 0)

    await store.commit(make, name="make")

    change(path, "UPDATE posthouse_feeds SET ranges = x'91' WHERE subscription = 'mail.note'")

    with pytest.raises(StoreDamagedError, match=r"the feed \d+ \(.* mail\.note prices\.quoted\) is damaged"):
        await store.read(lambda books: books.feed_of("mail.note", "prices.quoted", SHOP))
    assert await store.read(lambda books: books.feeds("mail.note")) == []
    assert len(await store.read(lambda books: books.feeds("mail.count"))) == 1


READS: dict[str, Callable[[Books], object]] = {
    "calls": lambda books: books.calls_at([CALL.place]),
    "requests": lambda books: books.requests_at([REQUEST.place]),
    "known": lambda books: books.known(1, 0, 9),
    "standings": lambda books: books.standings(1, 0, 9),
    "tallies": lambda books: books.call_tallies(),
}


@pytest.mark.parametrize("read", list(READS))
async def test_a_state_that_there_is_not_is_told_as_damage(read: str, path: Path, open_file: OpenStore):
    store = await open_file()
    await store.commit(fill, name="fill")

    for table in ("posthouse_calls", "posthouse_requests"):
        change(path, f"UPDATE {table} SET state = 77")

    with pytest.raises(StoreDamagedError, match=r"is damaged"):
        await store.read(READS[read])
