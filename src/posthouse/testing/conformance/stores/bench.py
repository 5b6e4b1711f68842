"""What the tests of a store stand on: instances of one service that share a fresh store, and rows to put in it.

No test here; they stand in the modules beside it, one for each side of the contract.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import pytest

from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.testing.clock import NOON, ManualClock

if TYPE_CHECKING:
    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books, Store, Tail

SHOP: Final = Identity("shop-store", 1)
TABLES: Final = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT NOT NULL UNIQUE)",
    "CREATE TABLE parts (of_order INTEGER NOT NULL REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)",
)


class MakeStore(Protocol):
    """Makes the store of the service "prices" on the test's engine."""

    def __call__(self, instance: str) -> Store:
        """Return a store that is not open yet; each call is for another instance, as far as anyone can see."""
        ...


class OpenStore(Protocol):
    """Makes a store on the test's engine, and opens it."""

    async def __call__(self, instance: str) -> Store:
        """Return an open store, with the tables of TABLES; the test need not close it."""
        ...


class OnOneStore:
    """The fixtures.

    Attributes:
        patience: how long a test waits for what must happen, in seconds; only a failing test waits so long.
    """

    pytestmark = pytest.mark.anyio
    patience: ClassVar[Seconds] = 10.0

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio."""
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Give the clock that `make_store` hands in."""
        return ManualClock()

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Give what makes stores of one service on an engine that nobody has used before. Override this.

        What was committed has to outlive those who have it open, for as long as the test lasts.
        """
        raise NotImplementedError("a suite needs its fixture `make_store`; see posthouse.testing.conformance")

    @pytest.fixture
    async def open_store(self, make_store: MakeStore) -> AsyncIterator[OpenStore]:
        """Give what opens further instances' stores; all are closed in the end."""
        opened: list[Store] = []

        async def open_instance(instance: str) -> Store:
            store = make_store(instance)
            await store.open(schema=TABLES)
            opened.append(store)
            return store

        yield open_instance
        for store in opened:
            await store.close()

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> Store:
        """Give a first instance's store."""
        return await open_store("one")

    @pytest.fixture
    async def other(self, store: Store, open_store: OpenStore) -> Store:
        """Give a second instance's store, which is the same one."""
        return await open_store("two")


def call(number: int, *, lane: int = 1, **changed: Any) -> Call:
    """Return a call with a number; its id is in the order of the numbers."""
    values: dict[str, Any] = {
        "place": place_of(lane, number),
        "id": f"{lane:04x}{number:028x}",
        "service": "stock",
        "operation": "stock.take",
        "state": CallState.OPEN,
        "wants": Wants.CALLER,
        "frame": b"frame of %d" % number,
        "digest": b"digest of %d" % number,
        "created": NOON + number,
        "owner": "one",
    }
    return Call(**{**values, **changed})


def waiting(number: int, **changed: Any) -> Call:
    """Return a call that has no number yet; the number is for its id alone."""
    return call(number, **{"place": 0, "state": CallState.WAITING, **changed})


def request(number: int, *, lane: int = 1, **changed: Any) -> Request:
    """Return a request that was received."""
    values: dict[str, Any] = {
        "place": place_of(lane, number),
        "id": f"{lane:04x}{number:028x}",
        "operation": "prices.quote",
        "state": RequestState.RECEIVED,
        "digest": b"digest of %d" % number,
        "frame": b"frame of %d" % number,
        "due": NOON,
        "asked": 1,
        "asker": 1,
    }
    return Request(**{**values, **changed})


def running(number: int, *, instance: str = "one", attempt: int = 1, **changed: Any) -> Request:
    """Return a request that an instance runs."""
    return request(number, state=RequestState.RUNNING, instance=instance, attempt=attempt, **changed)


def lane_with(books: Books, calls: Sequence[Call], *, service: str = "stock") -> int:
    """Open a lane, put calls into it, and return its number."""
    lane = books.open_lane_out(service)
    books.add_calls(calls)
    lane.next = len(calls)
    books.save_lane_out(lane)
    return lane.lane


def lane_from_shop(books: Books) -> int:
    """Open the lane of the shop, and return its number."""
    return books.open_lane_in(SHOP, "shop").lane


def numbers(calls: Sequence[Call | Request]) -> list[int]:
    """Return the numbers that the ids were made of."""
    return [int(each.id[4:], 16) for each in calls]


async def order(tail: Tail, number: int, what: str = "") -> None:
    """Write an order into the user's table."""
    await tail.execute("INSERT INTO orders VALUES (?, ?)", (number, what or f"order {number}"))


async def orders(store: Store) -> list[int]:
    """Return the orders that are committed."""
    async with store.reading() as rows:
        return [number for (number,) in await rows.execute("SELECT id FROM orders ORDER BY id")]
