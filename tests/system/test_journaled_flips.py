"""One bit of a store's files has turned, or a file is cut short: what is read is right, or is told as damaged.

What the sums of rows cover is looked at here: what was asked and told, what became of it, and how far lanes, feeds and
streams are. States and times of single rows have none. A damaged log is SQLite's to notice: it then shows the store as
it was at an earlier commit.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import pytest

from posthouse.backends.sqlite.store import FileEngine, SqliteStore
from posthouse.contracts.store import Books, Key
from posthouse.errors import PosthouseError
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import place_of
from posthouse.protocol.outbox import CallState
from posthouse.protocol.stream import FEEDS
from posthouse.testing import ManualClock
from posthouse.testing.conformance.stores.bench import call, lane_from_shop, lane_with, request
from posthouse.testing.conformance.stores.letters import letter
from posthouse.testing.conformance.stores.streams import stream_with, told

pytestmark = pytest.mark.anyio

Image: TypeAlias = Mapping[str, bytes]
"""The bytes of a store's files, by the end of their names."""

Seen: TypeAlias = dict[tuple[str, int], Any]
"""What a store shows, by kind and number; an error instead where it told one."""

FILES: Final = ("", "-wal", "-shm")
FIRST: Final = 30
LATER: Final = 20
LONGEST: Final = 20.0
ROWS_OF_STANDING: Final = (b"shop-store", b"stock-store", b"stock.taken", b"prices.note", b"reference ")
AROUND: Final = 40
"""So many bytes before and behind a text the rest of its row stands."""
FRAME: Final = bytes(range(256)) * 3
"""Most of what is in the files, so that most positions are in rows."""


def fill(books: Books) -> None:
    """Write rows of each kind."""
    lane_with(books, [call(number, key=f"k{number % 3}", work=number, frame=FRAME) for number in range(FIRST)])
    lane_from_shop(books)
    books.add_requests([request(number, frame=FRAME) for number in range(FIRST)])
    stream_with(books, 0)
    books.add_events([told(number, frame=FRAME) for number in range(FIRST)])
    books.subscribe("prices.note", "stock.taken", 1.0)
    books.open_feed("prices.note", "stock.taken", Identity("stock-store", 1), 0)
    books.add_requests([request(number, lane=FEEDS, frame=FRAME) for number in range(FIRST)])
    for number in range(FIRST):
        books.add_dead(letter(place=place_of(1, number), frame=FRAME))
        books.add_key(Key("deposit", f"key {number}", b"digest", f"reference {number}", 5.0))


def go_on(books: Books, number: int) -> None:
    """Let a call and a request come and be decided, and let an event be told."""
    books.add_calls([call(FIRST + number)])
    books.set_calls([(CallState.DONE, b"so %d" % number, 1, False, place_of(1, number))])
    books.add_requests([request(FIRST + number, state=RequestState.DONE, outcome=b"so %d" % number)])
    books.add_dead(letter(place=place_of(1, FIRST + number)))
    books.add_events([told(FIRST + number)])


def read(books: Books, kind: str, number: int) -> Any:
    """Return what the sums of a row cover; None when it is not there."""
    match kind:
        case "call":
            rows = books.calls_at([place_of(1, number)])
            return [(row.id, row.service, row.operation, row.frame, row.key, row.outcome) for row in rows]
        case "request" | "event that was heard":
            rows = books.requests_at([place_of(1 if kind == "request" else FEEDS, number)])
            return [(row.id, row.operation, row.digest, row.frame, row.outcome) for row in rows]
        case "dead letter":
            return books.dead_letter(number + 1)
        case "key":
            return books.key("deposit", f"key {number}")
        case "event":
            return books.events(1, number, number, 1)
        case _:
            return list(STANDING[number](books)) if number < len(STANDING) else None


STANDING: Final[Sequence[Callable[[Books], Sequence[Any]]]] = (
    lambda books: books.lanes_out(),
    lambda books: [lane for lane in books.lanes_in() if not lane.caller.id],
    lambda books: [lane for lane in books.lanes_in() if lane.caller.id],
    lambda books: books.feeds(),
    lambda books: books.streams(),
    lambda books: books.subscribed(),
)
"""Lists of how far things are; a damaged row is not in them."""
KINDS: Final = ("call", "request", "event that was heard", "dead letter", "event", "key", "how far")


def store_in(directory: Path) -> SqliteStore:
    """Return a store that is not open yet."""
    engine = FileEngine(directory, service="prices")
    return SqliteStore(engine, service="prices", instance="one", clock=ManualClock())


async def images_of(directory: Path) -> list[Image]:
    """Make a store; return its files as they are after each commit, part of them in the database, part in the log."""

    def image() -> Image:
        return {end: (directory / "stores" / f"prices.db{end}").read_bytes() for end in FILES}

    store = store_in(directory)
    await store.open()
    await store.commit(fill, name="fill", flush=True)
    await store.close()  # which copies the log into the database
    await store.open()
    images = [image()]
    for number in range(LATER):
        await store.commit(lambda books, number=number: go_on(books, number), name="go on", flush=True)
        images.append(image())
    await store.close()
    return images


async def look(directory: Path, image: Image) -> tuple[Seen, bool]:
    """Open a store of these files; return what it shows, and whether it tells that it is damaged."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "stores").mkdir(parents=True, mode=0o700)
    directory.chmod(0o700)
    for end, data in image.items():
        (directory / "stores" / f"prices.db{end}").write_bytes(data)
    store = store_in(directory)
    try:
        await store.open()
    except PosthouseError:
        return {}, True
    seen: Seen = {}
    for kind in KINDS:
        for number in range(FIRST + LATER):
            seen[kind, number] = await answer(store, kind, number)
    try:
        is_told = bool(await store.read(lambda books: books.damage()))
    except PosthouseError:
        is_told = True
    await store.close()
    return seen, is_told


async def answer(store: SqliteStore, kind: str, number: int) -> Any:
    """Return what a store shows of a row."""
    try:
        return await store.read(lambda books: read(books, kind, number))
    except PosthouseError as error:
        return error


def turned(image: Image, end: str, chance: Random, *, aim: Sequence[bytes] = ()) -> tuple[Image, str]:
    """Turn a bit of a file, anywhere or in a row with one of these texts; or cut the file short."""
    data = bytearray(image[end])
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    if aim:
        hits = [hit.start() for text in aim for hit in re.finditer(re.escape(text), image[end])]
        at = chance.choice(hits) + chance.randrange(-AROUND, AROUND)
    if aim or chance.random() < 0.9:
        data[at] ^= 1 << bit
        return {**image, end: bytes(data)}, f"bit {bit} of byte {at} of prices.db{end} has turned"
    return {**image, end: bytes(data[:at])}, f"prices.db{end} is cut behind byte {at}"


def verdict(seen: Seen, is_told: bool, right: Seen, earlier: Sequence[Seen]) -> str:
    """Say what a store made of its damage."""
    errors = any(isinstance(each, PosthouseError) for each in seen.values())
    wrong = {
        where: each for where, each in seen.items() if not isinstance(each, PosthouseError) and each != right[where]
    }
    if not wrong:
        return "told" if errors or is_told else "right"
    if all(not each for each in wrong.values()) and (errors or is_told):
        return "told"  # rows that cannot be found
    if not errors and seen in earlier:
        return "an earlier commit"
    return f"wrong: {wrong}"


@pytest.mark.parametrize(("count", "seed"), [(100, 1), pytest.param(1000, 2, marks=pytest.mark.slow)])
async def test_what_is_read_from_damaged_files_is_right_or_told_as_damaged(count: int, seed: int, tmp_path: Path):
    images = await images_of(tmp_path / "made")
    earlier = [(await look(tmp_path / "tried", image))[0] for image in images]
    right, chance, counts = earlier.pop(), Random(seed), Counter[tuple[str, str]]()

    for number in range(count):
        end = FILES[(0, 0, 1, 2)[number % 4]]
        image, what = turned(images[-1], end, chance)
        async with asyncio.timeout(LONGEST):
            seen, is_told = await look(tmp_path / "tried", image)
        said = verdict(seen, is_told, right, earlier)
        assert not said.startswith("wrong"), f"{what}: {said}"
        counts[end, said] += 1

    print(dict(counts))
    assert {said for end, said in counts if end == ""} <= {"right", "told"}
    assert counts["", "told"] > 0
    assert {said for end, said in counts if end == "-shm"} == {"right"}


@pytest.mark.parametrize(("count", "seed"), [(60, 3), pytest.param(1000, 4, marks=pytest.mark.slow)])
async def test_a_bit_that_turns_in_a_lane_a_feed_a_stream_or_a_key_is_told_or_harmless(
    count: int, seed: int, tmp_path: Path
):
    *_, image = await images_of(tmp_path / "made")
    right, _ = await look(tmp_path / "tried", image)
    chance, counts = Random(seed), Counter[str]()

    for _ in range(count):
        damaged, what = turned(image, "", chance, aim=ROWS_OF_STANDING)
        async with asyncio.timeout(LONGEST):
            seen, is_told = await look(tmp_path / "tried", damaged)
        said = verdict(seen, is_told, right, ())
        assert said in {"right", "told"}, f"{what}: {said}"
        counts[said] += 1

    print(dict(counts))
    assert counts["told"] > counts["right"]
