"""Handlers that hear of a reply which the replier, once it was restored, has never given."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse import Context, Reply, Service
from posthouse.contracts.store import Books, Deceased, LaneOut, Store
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Message, Mode
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import SELF, place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.runtime.steps.applying import add_own
from posthouse.runtime.steps.intervening import map_lanes
from posthouse.runtime.steps.resending import bind
from tests.house import House, until

pytestmark = pytest.mark.anyio


class Paint:
    """A painter who answers by the color he has, and a shop that sends and hears of the replies, one for each run."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.painter = Service("painter")
        self.shop = Service("shop", schema=("CREATE TABLE heard (what TEXT)",))
        self.may_answer, self.may_end = asyncio.Event(), asyncio.Event()
        self.may_answer.set()
        self.color = "red"
        self.begun: list[str] = []

        @self.painter.handler
        async def paint(what: str) -> str:
            await self.may_answer.wait()
            return f"{self.color} {what}"

        @self.painter.handler
        async def look(what: str) -> str:
            return self.color

        @self.shop.on_reply(paint)
        async def painted(reply: Reply[str, str], ctx: Context) -> None:
            self.begun.append(reply.get())
            await asyncio.sleep(0.1)
            await self.may_end.wait()
            db = await ctx.transaction()
            await db.execute("INSERT INTO heard VALUES (?)", (reply.get(),))

        self.paint, self.look = paint, look

    async def open(self) -> None:
        """Paint a door red, and lose that before the shop has used it."""
        old = await self.house.serve(self.painter)
        self.host = await self.house.serve(self.shop)
        await self.host.client("shop").send(self.paint, "door", id="door")
        await until(self.runs_begun, lambda count: count == 1)
        await old.close()
        self.house._disk._databases.pop("painter")  # its store is gone, with all that was done
        self.color = "blue"
        self.may_answer.clear()
        await self.house.serve(self.painter)
        assert await self.host.client("shop").call(self.look, "door", timeout="5m") == "blue"  # so the shop hears of it
        await until(self.state, lambda state: state is CallState.OPEN)

    async def runs(self) -> list[Request]:
        """Return the runs that there are for replies."""
        return await self.house.requests("shop.on_reply.painter.paint")

    async def heard(self) -> list[str]:
        """Return the replies that had an effect."""
        return [what for (what,) in await self.house.rows("shop", "SELECT what FROM heard")]

    async def state(self) -> CallState:
        """Return how what was sent stands."""
        return (await self.house.calls("painter.paint", of="shop"))[0].state

    async def runs_begun(self) -> int:
        """Return how often something was run for a reply."""
        return len(self.begun)


async def test_what_runs_for_a_reply_that_was_taken_back_is_not_run_again_for_that(house: House):
    paint = Paint(house)
    await paint.open()

    paint.may_end.set()
    await until(paint.runs, lambda runs: not runs)
    await asyncio.sleep(60)

    assert paint.begun == ["red door"]
    paint.may_answer.set()
    assert await until(paint.heard, bool) == ["blue door"]


async def test_a_reply_that_was_taken_back_is_not_used_beside_the_new_one(house: House):
    paint = Paint(house)
    await paint.open()

    paint.may_answer.set()
    await until(paint.runs_begun, lambda count: count == 2)
    paint.may_end.set()
    await until(paint.runs, lambda runs: not runs)

    assert await paint.heard() == ["blue door"]
    assert paint.begun == ["red door", "blue door"]


# --- what else goes with such a run --------------------------------------------------------------------------


def answered(books: Books) -> tuple[LaneOut, Request]:
    """Store a call that was answered, and the run that is to hear of that; it is parked, and has asked something."""
    lane = books.open_lane_out("painter")
    frame = encode(Message(Kind.REQUEST, "door", "painter.paint", "shop", 1.0, b"", Mode.JOURNALED))
    asked = (CallState.ANSWERED, Wants.REPLY_HANDLER), (CallState.OPEN, Wants.HANDLER)
    door, other = (
        Call(place_of(lane.lane, number), id, "painter", "painter.paint", state, wants, frame, b"")
        for number, (id, (state, wants)) in enumerate(zip(("door", "other"), asked, strict=True))
    )
    run = add_own(books, door.id, "shop.on_reply.painter.paint", b"", now=1.0)
    other.work = run.place
    books.add_calls((door, other))
    lane.next, lane.pending, lane.peer = 2, 1, Identity("painter", 1)
    books.save_lane_out(lane)
    books.set_requests(((RequestState.PARKED, 0.0, b"", run.place),))
    books.add_dead(
        Deceased(
            place=run.place, id=run.id, operation=run.operation, frame=b"", state="parked", code="", reason="",
            detail="", attempts=1, cause="", at=1.0,
        )
    )  # fmt: skip
    return lane, run


@pytest.fixture
async def store(house: House) -> Store:
    """The store of the shop, which nobody serves."""
    await house.open()
    await house.read("shop", lambda books: None)
    return house._stores["shop"]


async def test_a_new_life_of_the_replier_ends_the_run_with_its_letter_and_what_it_asked(store: Store):
    def restored(books: Books) -> tuple[Any, ...]:
        lane, run = answered(books)
        [bound], *_ = bind(books, [lane.lane], Identity("painter", 2), floors={}, now=0.0)
        states = [standing.state for standing in books.standings(lane.lane, 0, 1).values()]
        return bound.pending, states, books.requests_at((run.place,)), books.dead_at(run.place)

    found = await store.commit(restored, name="restored")

    assert found == (2, [CallState.OPEN, CallState.CANCEL_WANTED], [], None)


async def test_an_operator_who_maps_a_lane_ends_the_run_as_well(store: Store):
    def mapped(books: Books) -> tuple[Any, ...]:
        _, run = answered(books)
        map_lanes(books, "painter", Identity("other", 1))
        return books.requests_at((run.place,)), books.dead_at(run.place)

    assert await store.commit(mapped, name="mapped") == ([], None)


async def test_a_run_for_another_reply_stays(store: Store):
    def restored(books: Books) -> list[int]:
        lane, _ = answered(books)
        other = add_own(books, "window", "shop.on_reply.painter.paint", b"", now=1.0)
        bind(books, [lane.lane], Identity("painter", 2), floors={}, now=0.0)
        return [row.place - other.place for row in books.requests_listed(lane=SELF)]

    assert await store.commit(restored, name="restored") == [0]
