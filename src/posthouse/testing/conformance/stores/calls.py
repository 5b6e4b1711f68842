"""Calls: found by number, by id and by the delivery that made them; and those that wait for a number."""

from __future__ import annotations

from typing import Any

import pytest

from posthouse.contracts.store import Books, Standing, Store
from posthouse.errors import UsageError
from posthouse.protocol.inbox import RequestState
from posthouse.protocol.lane import Numbers, place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import (
    OnOneStore,
    call,
    lane_with,
    numbers,
    request,
    waiting,
)

DONE, OPEN = CallState.DONE, CallState.OPEN


def final(number: int, **changed: Any) -> Call:
    """Return a call that is final."""
    return call(number, state=DONE, **changed)


class CallTests(OnOneStore):
    """What the caller's side keeps."""

    async def test_a_call_is_found_as_it_was_stored(self, store: Store, other: Store):
        whole = call(
            0,
            wants=Wants.HANDLER,
            frame=bytes(range(256)) * 40,
            work=place_of(3, 4),
            nth=2,
            key="käse",
            deadline=NOON + 0.25,
            parked=True,
            state=CallState.ANSWERED,
            outcome=b"\0outcome",
            outcome_epoch=9,
        )
        plain = call(1)

        await store.commit(lambda books: lane_with(books, [whole, plain]), name="add")

        assert await other.read(lambda books: books.calls_at([plain.place, 77, whole.place])) == [plain, whole]
        assert await other.read(lambda books: books.call(whole.id)) == whole
        assert await other.read(lambda books: books.call("nobody")) is None

    async def test_a_number_is_taken_once(self, store: Store):
        await store.commit(lambda books: lane_with(books, [call(0)]), name="add")

        with pytest.raises(UsageError):
            await store.commit(lambda books: books.add_calls([call(1), call(0)]), name="again")

        assert numbers(await store.read(lambda books: books.calls_listed())) == [0]

    async def test_standings_are_those_of_the_numbers_asked_for(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [call(0), call(1, wants=Wants.HANDLER, work=5), call(2), call(3)])
            lane_with(books, [call(1, lane=2)], service="mail")
            books.set_calls([(CallState.ANSWERED, b"so", 7, False, call(1).place)])
            books.set_calls([(OPEN, b"", 0, True, call(2).place)])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.standings(1, 1, 2)) == {
            1: Standing(call(1).place, CallState.ANSWERED, Wants.HANDLER, 5, parked=False, outcome_epoch=7),
            2: Standing(call(2).place, OPEN, Wants.CALLER, 0, parked=True),
        }
        assert await store.read(lambda books: books.standings(1, 4, 9)) == {}

    async def test_setting_a_call_writes_its_outcome_and_leaves_the_rest(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [call(0), call(1)])
            books.set_calls([(DONE, b"so", 3, False, call(0).place)])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.calls_at([call(0).place, call(1).place])) == [
            final(0, outcome=b"so", outcome_epoch=3),
            call(1),
        ]

    async def test_a_call_can_be_encoded_anew_by_another_owner(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [call(0), call(1)])
            books.set_frames([(b"anew", "two", call(0).place)])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.calls_at([call(0).place, call(1).place])) == [
            call(0, frame=b"anew", owner="two"),
            call(1),
        ]

    async def test_unsettled_calls_are_those_of_the_lane_that_are_not_final_in_order(self, store: Store):
        states = [DONE, OPEN, DONE, CallState.CANCEL_WANTED, CallState.ANSWERED, CallState.CONFLICT, OPEN]

        def make(books: Books) -> None:
            lane_with(books, [call(number, state=state) for number, state in enumerate(states)])
            lane = books.lane_out(1)
            assert lane is not None
            lane.final = Numbers(1, [(2, 2), (5, 5)])
            books.save_lane_out(lane)
            lane_with(books, [call(0, lane=2)], service="mail")

        def look(books: Books, after: int = -1, limit: int = 1000) -> list[int]:
            lane = books.lane_out(1)
            assert lane is not None
            return numbers(books.unsettled(lane, after=after, limit=limit))

        await store.commit(make, name="make")

        assert await store.read(look) == [1, 3, 4, 6]
        assert await store.read(lambda books: look(books, 3)) == [4, 6]
        assert await store.read(lambda books: look(books, 0, 3)) == [1, 3, 4]

    async def test_the_calls_of_a_delivery_are_found_in_the_order_in_which_they_were_made(self, store: Store):
        work = place_of(1, 8)

        def make(books: Books) -> None:
            lane_with(books, [call(0, work=work, created=NOON + 5), call(1), call(2, work=work + 1)])
            lane_with(books, [final(0, lane=2, work=work, created=NOON + 1, outcome=b"so")], service="mail")
            books.add_waiting([waiting(7, work=work, created=NOON + 3)])

        await store.commit(make, name="make")

        found = await store.read(lambda books: books.calls_of(work))
        assert [(each.created - NOON, each.state) for each in found] == [
            (1, DONE),
            (3, CallState.WAITING),
            (5, OPEN),
        ]
        assert await store.read(lambda books: books.calls_of(0)) == []

    async def test_calls_are_listed_newest_first_by_service_and_by_whether_they_are_final(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [final(0), call(1), final(2)])
            lane_with(books, [call(3, lane=2, service="mail")], service="mail")

        await store.commit(make, name="make")

        assert numbers(await store.read(lambda books: books.calls_listed())) == [3, 2, 1, 0]
        assert numbers(await store.read(lambda books: books.calls_listed(service="stock", limit=2))) == [2, 1]
        assert numbers(await store.read(lambda books: books.calls_listed(final=True))) == [2, 0]
        assert numbers(await store.read(lambda books: books.calls_listed(final=False))) == [3, 1]

    # --- waiting for a number ------------------------------------------------------------------------------------

    async def test_those_that_wait_are_taken_out_in_order_each_once(self, store: Store):
        await store.commit(lambda books: books.add_waiting([waiting(5), waiting(4)]), name="wait")
        await store.commit(lambda books: books.add_waiting([waiting(6), waiting(7, service="mail")]), name="wait")

        first = await store.commit(lambda books: books.take_waiting("stock", 2), name="take")
        second = await store.commit(lambda books: books.take_waiting("stock", 2), name="take")
        third = await store.commit(lambda books: books.take_waiting("stock", 2), name="take")

        assert first == [waiting(5), waiting(4)]
        assert (numbers(second), numbers(third)) == ([6], [])

    async def test_one_that_waits_is_found_by_its_id_and_can_be_dropped(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [call(0)])
            books.add_waiting([waiting(1), waiting(2)])
            books.drop_waiting(waiting(1).id)
            books.drop_waiting(call(0).id)  # has a number, and stays

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.call(waiting(2).id)) == waiting(2)
        assert await store.read(lambda books: books.call(waiting(1).id)) is None
        assert await store.read(lambda books: books.call(call(0).id)) == call(0)

    async def test_of_a_key_only_the_first_is_taken_and_only_while_none_is_under_way(self, store: Store):
        def make(books: Books) -> None:
            answered = call(8, key="told", state=CallState.ANSWERED, wants=Wants.HANDLER)
            lane_with(books, [call(0, key="busy"), final(1, key="free"), answered])
            books.add_waiting(
                [
                    waiting(2, key="busy"),
                    waiting(3, key="free"),
                    waiting(4, key="free"),
                    waiting(5),
                    waiting(6, key="new"),
                    waiting(7, key="busy", service="mail"),
                    waiting(9, key="told"),
                    waiting(10, key="told"),
                ]
            )

        await store.commit(make, name="make")

        taken = await store.commit(lambda books: books.take_waiting("stock", 10), name="take")
        assert numbers(taken) == [3, 5, 6, 9]

    async def test_the_next_of_a_key_is_taken_when_the_one_before_is_final(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [call(0, key="k")])
            books.add_waiting([waiting(1, key="k"), waiting(2, key="k")])

        def settle(books: Books) -> list[int]:
            before = books.take_waiting("stock", 10)
            books.set_calls([(DONE, b"", 1, False, call(0).place)])
            return numbers([*before, *books.take_waiting("stock", 10)])

        await store.commit(make, name="make")

        assert await store.commit(settle, name="settle") == [1]

    async def test_a_key_is_free_when_none_of_it_waits_or_is_under_way(self, store: Store):
        def make(books: Books) -> None:
            states = (OPEN, CallState.CANCEL_WANTED, CallState.ANSWERED, CallState.REDRIVING, DONE)
            calls = [call(number, state=state, key=state.name) for number, state in enumerate(states)]
            lane_with(books, [*calls, call(5, state=CallState.ANSWERED, key="waits")])
            books.add_waiting([waiting(6, key="waits")])

        def look(books: Books) -> list[str]:
            keys = ("OPEN", "CANCEL_WANTED", "ANSWERED", "REDRIVING", "DONE", "waits", "never", "")
            return [key for key in keys if books.key_is_free("stock", key)]

        await store.commit(make, name="make")

        assert await store.read(look) == ["ANSWERED", "DONE", "never", ""]
        assert await store.read(lambda books: books.key_is_free("mail", "OPEN"))

    async def test_a_key_is_held_by_the_first_that_is_numbered_and_not_answered_else_by_the_oldest_that_waits(
        self, store: Store
    ):
        def make(books: Books) -> None:
            answered = call(1, key="k", state=CallState.ANSWERED)
            lane_with(books, [final(0, key="k"), answered, call(2, key="k"), call(3, key="k"), final(4, key="l")])
            books.add_waiting([waiting(5, key="k"), waiting(6, key="l"), waiting(7, key="l"), waiting(8)])

        await store.commit(make, name="make")

        holders = [
            await store.read(lambda books, key=key, service=service: books.key_holder(service, key))
            for service, key in [("stock", "k"), ("stock", "l"), ("mail", "k"), ("stock", "")]
        ]
        assert [each and numbers([each]) for each in holders] == [[2], [6], None, None]

    # --- forgetting -------------------------------------------------------------------------------------------------

    async def test_final_calls_below_a_number_go_when_they_are_old(self, store: Store):
        def make(books: Books) -> int:
            lane_with(books, [final(number) for number in range(6)])
            lane_with(books, [final(0, lane=2)], service="mail")
            return books.forget_calls(lane=1, below=4, before=NOON + 2, keep_bytes=1_000_000)

        gone = await store.commit(make, name="make")

        assert gone == 2
        assert numbers(await store.read(lambda books: books.calls_listed())) == [0, 5, 4, 3, 2]

    async def test_the_newest_final_calls_stay_up_to_so_many_bytes(self, store: Store):
        def make(books: Books) -> int:
            lane_with(books, [final(number, frame=bytes(60), outcome=bytes(40)) for number in range(10)])
            return books.forget_calls(lane=1, below=9, before=NOON - 1, keep_bytes=399)

        gone = await store.commit(make, name="make")

        assert gone == 6
        assert numbers(await store.read(lambda books: books.calls_listed())) == [9, 8, 7, 6]

    async def test_what_stays_up_to_so_many_bytes_is_the_same_however_often_it_is_asked(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [final(number, frame=bytes(100)) for number in range(2000)])

        def forget(books: Books, below: int) -> int:
            gone = 0
            while some := books.forget_calls(lane=1, below=below, before=NOON - 1, keep_bytes=50_000):
                gone += some
            return gone

        await store.commit(make, name="make")
        went = [await store.commit(lambda books, to=to: forget(books, to), name="f") for to in (300, 700, 1500, 2000)]

        assert went == [0, 200, 800, 500]
        kept = await store.read(lambda books: books.calls_listed(limit=5000))
        assert numbers(kept) == list(range(1999, 1499, -1))

    async def test_calls_that_are_not_final_or_whose_delivery_is_undecided_stay(self, store: Store):
        undecided, decided, unknown = (place_of(7, number) for number in range(3))

        def make(books: Books) -> int:
            books.add_requests(
                [request(0, lane=7), request(1, lane=7, state=RequestState.DONE)],
            )
            lane_with(
                books,
                [
                    final(0, work=undecided),
                    final(1, work=decided),
                    final(2, work=unknown),
                    call(3, state=CallState.REDRIVING),
                    final(4),
                ],
            )
            return books.forget_calls(lane=1, below=5, before=NOON + 1000, keep_bytes=0)

        gone = await store.commit(make, name="make")

        assert gone == 3
        assert numbers(await store.read(lambda books: books.calls_listed())) == [3, 0]

    async def test_what_was_done_is_asked_again_within_the_numbers_given(self, store: Store, other: Store):
        states = [DONE, DONE, CallState.NOT_DONE, DONE, OPEN, DONE]
        calls = [call(number + 3, state=state) for number, state in enumerate(states)]
        await store.commit(lambda books: lane_with(books, calls), name="add")

        again = await store.commit(lambda books: books.redrive(1, 4, 7), name="redrive")

        assert again == [4, 6]
        assert await other.read(lambda books: books.first_call(1)) == 3
        assert await other.read(lambda books: books.first_call(2)) is None
        found = await other.read(lambda books: books.calls_at([each.place for each in calls]))
        assert [each.state for each in found if each.state is CallState.REDRIVING] == [CallState.REDRIVING] * 2
