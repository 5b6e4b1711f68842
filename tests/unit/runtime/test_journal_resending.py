"""Calls that are sent again when a replier's store was restored, or is another one: which, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from posthouse import Context, Service
from posthouse.contracts.store import Books, LaneOut, Store
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import Numbers, place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.runtime.steps.resending import bind, due_of
from tests.house import House, until

pytestmark = pytest.mark.anyio

BEFORE, AFTER = Identity("steps-store", 1), Identity("steps-store", 2)
OPEN, ANSWERED, CANCEL_WANTED = CallState.OPEN, CallState.ANSWERED, CallState.CANCEL_WANTED


class Step(Struct):
    number: int
    key: str


@pytest.fixture
async def store(house: House) -> Store:
    """The store of the shop, which nobody serves."""
    await house.open()
    await house.read("shop", lambda books: None)
    return house._stores["shop"]


def call(lane: LaneOut, number: int, state: CallState = OPEN, *, key: str = "tea") -> Call:
    place = place_of(lane.lane, number)
    return Call(place, f"id{place}", lane.service, "steps.take", state, Wants.HANDLER, b"", b"", key=key)


def with_calls(books: Books, *states: CallState, service: str = "steps", key: str = "tea") -> LaneOut:
    """Open a lane, with calls of one key in these states."""
    lane = books.lane_to(service) or books.open_lane_out(service)
    calls = [call(lane, lane.next + index, state, key=key) for index, state in enumerate(states)]
    books.add_calls(calls)
    lane.next += len(calls)
    lane.pending += sum(state.asked for state in states)
    lane.peer = BEFORE
    books.save_lane_out(lane)
    return lane


# --- whose turn it is -------------------------------------------------------------------------------------


async def test_of_a_key_the_first_that_is_not_answered_is_sent_and_none_behind_it(store: Store):
    def look(books: Books) -> set[int]:
        lane = with_calls(books, ANSWERED, OPEN, OPEN, ANSWERED, CANCEL_WANTED)
        due = due_of(books, [place_of(lane.lane, number) for number in range(5)])
        return {place - place_of(lane.lane, 0) for place in due.behind}

    assert await store.commit(look, name="look") == {2, 4}


async def test_what_has_no_key_or_another_one_or_goes_elsewhere_does_not_wait(store: Store):
    def look(books: Books) -> set[int]:
        first = with_calls(books, OPEN)
        with_calls(books, OPEN, OPEN, key="")
        with_calls(books, OPEN, key="milk")
        other = with_calls(books, OPEN, service="mail")
        places = [place_of(first.lane, number) for number in range(4)]
        return due_of(books, [*places, place_of(other.lane, 0)]).behind

    assert await store.commit(look, name="look") == set()


# --- answers that are taken back --------------------------------------------------------------------------


async def test_a_new_life_of_the_replier_takes_back_all_answers_that_nobody_has_used(store: Store):
    count = 1500

    def restored(books: Books) -> tuple[int, int, set[CallState]]:
        lane = with_calls(books, CallState.DONE, OPEN, *[ANSWERED] * count)
        over = Numbers(1)
        [bound], taken_back, redriven, forgotten = bind(books, [lane.lane], AFTER, floors={lane.epoch: over}, now=0.0)
        assert (redriven, forgotten) == (0, [])
        states = books.standings(lane.lane, 1, lane.next).values()
        return len(taken_back), bound.pending, {standing.state for standing in states}

    assert await store.commit(restored, name="restored") == (count, count + 1, {OPEN})


async def test_who_was_asked_the_same_life_before_is_told_nothing_new(store: Store):
    def told_again(books: Books) -> Any:
        lane = with_calls(books, ANSWERED)
        return bind(books, [lane.lane], BEFORE, floors={}, now=0.0)

    assert await store.commit(told_again, name="told again") == ([], [], 0, [])


async def test_what_was_done_and_is_not_over_at_the_restored_replier_is_asked_for_again_and_not_final(store: Store):
    done = CallState.DONE

    def restored(books: Books) -> Any:
        lane = with_calls(books, *[done] * 4, CallState.NOT_DONE, done)
        lane.final = Numbers(6)
        books.save_lane_out(lane)
        [bound], _, redriven, forgotten = bind(
            books, [lane.lane], AFTER, floors={lane.epoch: Numbers(1, [(2, 2)])}, now=0.0
        )
        states = {number: each.state for number, each in books.standings(lane.lane, 0, 5).items()}
        return bound.final, redriven, forgotten, [number for number in states if states[number] is CallState.REDRIVING]

    final, redriven, forgotten, numbers = await store.commit(restored, name="restored")

    assert (final, redriven, forgotten) == (Numbers(1, [(2, 2), (4, 4)]), 3, [])
    assert sorted(numbers) == [1, 3, 5]


async def test_what_would_have_to_be_asked_for_again_and_is_not_kept_any_more_is_told(store: Store):
    def restored(books: Books) -> Any:
        lane = with_calls(books, *[CallState.DONE] * 5)
        lane.final, lane.acked = Numbers(5), 5
        books.save_lane_out(lane)
        books.forget_calls(lane=lane.lane, below=3, before=1e12, keep_bytes=0)
        bound = bind(books, [lane.lane], AFTER, floors={lane.epoch: Numbers(1)}, now=7.0)
        return bound.redriven, bound.forgotten, [(letter.code, letter.at) for letter in books.dead_letters()]

    told = await store.commit(restored, name="restored")

    assert told == (2, [("steps", 1, 2)], [("call.not_redriven", 7.0)])


async def test_a_replier_that_does_not_say_what_was_over_is_not_believed_to_live_anew(store: Store):
    def restored(books: Books) -> Any:
        lane = with_calls(books, ANSWERED)
        bound = bind(books, [lane.lane], AFTER, floors=None, now=0.0)
        return bound.lanes, books.lane_to(lane.service)

    lanes, lane = await store.commit(restored, name="restored")

    assert lanes == []
    assert lane.peer == BEFORE


async def test_what_a_handler_asked_with_one_key_is_asked_again_in_order_when_the_replier_has_lost_it(house: House):
    steps, till = Service("steps"), Service("till")
    ran, may_end = list[int](), asyncio.Event()

    @steps.handler(key="key")
    async def take(step: Step) -> int:
        await asyncio.sleep(1 / (1 + step.number))  # the later, the faster
        ran.append(step.number)
        return step.number

    @till.handler
    async def sell(key: str, ctx: Context) -> list[int]:
        numbers = [await ctx.call(take, Step(number, key)) for number in range(4)]
        await may_end.wait()
        return numbers

    async def states() -> list[CallState]:
        return [call.state for call in await house.calls("steps.take", of="till")][:4]

    old = await house.serve(steps)
    host = await house.serve(till)
    asked = asyncio.ensure_future((await house.client()).call(sell, "tea", timeout="10m"))
    await until(states, lambda found: found == [ANSWERED] * 4)
    await old.close()
    house._disk._databases.pop("steps")  # its store is gone, with all that was done
    await house.serve(steps)
    ran.clear()
    await host.client("till").call(take, Step(9, "coffee"), timeout="5m")  # so till hears that it is another one
    await until(states, lambda found: len(ran) == 5 and found == [ANSWERED] * 4)
    may_end.set()

    assert await asked == [0, 1, 2, 3]
    assert [number for number in ran if number < 9] == [0, 1, 2, 3]
