"""Requests: received, claimed, decided once, and forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from posthouse.errors import UsageError
from posthouse.protocol.inbox import Known, Request, RequestState
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import OnOneStore, numbers, request, running

if TYPE_CHECKING:
    from posthouse.contracts.store import Books, Store

RECEIVED, RUNNING, SUSPENDED = RequestState.RECEIVED, RequestState.RUNNING, RequestState.SUSPENDED
PARKED, DONE, NOT_DONE = RequestState.PARKED, RequestState.DONE, RequestState.NOT_DONE
QUOTE = "prices.quote"
PLACE = request(0).place
NEVER = float("inf")


def decide(books: Books, *, instance: str = "one", attempt: int = 1, frame: bytes | None = None) -> bool:
    """Decide the first request of lane 1."""
    return books.decide(PLACE, instance=instance, attempt=attempt, state=DONE, outcome=b"so", frame=frame)


def put_back(
    books: Books, *, instance: str = "one", attempt: int = 1, state: RequestState = RECEIVED, deaths: int = 0
) -> bool:
    """Take the first request of lane 1 from the one who runs it."""
    return books.put_back(
        PLACE, instance=instance, attempt=attempt, state=state, due=NOON + 5, failures=2, deaths=deaths
    )


class RequestTests(OnOneStore):
    """What the replier's side keeps."""

    async def found(self, store: Store) -> Request:
        """Return the first request of lane 1."""
        [one] = await store.read(lambda books: books.requests_at([PLACE]))
        return one

    async def test_a_request_is_found_as_it_was_stored(self, store: Store, other: Store):
        whole = request(
            0,
            frame=bytes(range(256)) * 40,
            instance="two",
            state=PARKED,
            attempt=3,
            failures=2,
            deaths=1,
            due=NOON + 0.125,
            deadline=NOON + 9.5,
            asked=4,
            asker=5,
            reply_to="shop-9",
            outcome=b"\0so",
        )
        plain = request(1)

        await store.commit(lambda books: books.add_requests([whole, plain]), name="add")

        assert await other.read(lambda books: books.requests_at([plain.place, 77, whole.place])) == [plain, whole]
        assert await other.read(lambda books: books.request(whole.id)) == whole
        assert await other.read(lambda books: books.request("nobody")) is None

    async def test_a_place_is_taken_once_and_the_slip_leaves_nothing(self, store: Store):
        await store.commit(lambda books: books.add_requests([request(0)]), name="add")

        with pytest.raises(UsageError):
            await store.commit(lambda books: books.add_requests([request(1), request(0)]), name="again")

        assert numbers(await store.read(lambda books: books.requests_listed())) == [0]

    async def test_known_are_the_numbers_asked_for_with_what_judges_them(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([request(0), request(1, state=DONE, asked=3, asker=4), request(2), request(1, lane=2)])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.known(1, 1, 2)) == {
            1: Known(DONE, request(1).digest, 3, 4),
            2: Known(RECEIVED, request(2).digest, 1, 1),
        }

    # --- claiming -----------------------------------------------------------------------------------------------

    async def test_claimable_are_those_of_the_operation_that_are_due_the_one_that_is_due_first_first(
        self, store: Store
    ):
        def make(books: Books) -> None:
            books.add_requests(
                [
                    request(0, due=NOON + 2),
                    request(1, due=NOON + 1),
                    request(2, due=NOON + 4),
                    request(3, operation="prices.list"),
                    request(4, state=SUSPENDED, due=NOON),
                    request(5, state=PARKED),
                    request(6, state=DONE),
                    running(7),
                    request(8, due=NOON + 1),
                    request(9, deaths=1),
                ]
            )

        await store.commit(make, name="make")

        assert numbers(await store.read(lambda books: books.claimable(QUOTE, NOON + 3, 10))) == [4, 1, 8, 0]
        assert numbers(await store.read(lambda books: books.claimable(QUOTE, NOON + 3, 2))) == [4, 1]
        assert numbers(await store.read(lambda books: books.claimable(QUOTE, NOON + 3, 9, suspects=True))) == [9]

    async def test_those_that_wait_are_counted_by_operation(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([request(0), request(1, state=SUSPENDED, due=float("inf")), running(2)])
            books.add_requests([request(3, state=PARKED), request(4, operation="prices.list"), request(5, state=DONE)])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.waiting_requests()) == {QUOTE: 2, "prices.list": 1}

    async def test_what_is_left_of_a_request_is_found_by_its_place(self, store: Store):
        await store.commit(lambda books: books.add_requests([request(0)]), name="add")

        assert await store.read(lambda books: books.remains(PLACE)) == request(0)
        assert await store.read(lambda books: books.remains(77)) is None

    async def test_the_next_due_is_the_soonest_of_those_that_can_be_claimed(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([running(0), request(1, due=NOON + 7), request(2, state=PARKED)])
            books.add_requests([request(3, state=SUSPENDED, due=float("inf"), operation="prices.list")])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.next_due(QUOTE)) == NOON + 7
        assert await store.read(lambda books: books.next_due("prices.list")) == float("inf")
        assert await store.read(lambda books: books.next_due("prices.other")) is None

    async def test_a_claim_makes_requests_running_ones_of_the_instance_with_one_attempt_more(self, store: Store):
        states = [RECEIVED, SUSPENDED, DONE, PARKED]

        def make(books: Books) -> None:
            books.add_requests([request(number, state=state, attempt=4) for number, state in enumerate(states)])
            books.claim("two", [request(number).place for number in range(5)])

        await store.commit(make, name="make")

        found = await store.read(lambda books: books.requests_at([request(n).place for n in range(4)]))
        assert [(each.state, each.instance, each.attempt) for each in found] == [
            (RUNNING, "two", 5),
            (RUNNING, "two", 5),
            (DONE, "", 4),
            (PARKED, "", 4),
        ]
        assert await store.read(lambda books: books.claimable(QUOTE, NOON, 10)) == []

    async def test_one_that_runs_cannot_be_claimed_from_the_one_who_runs_it(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([running(0)])
            books.claim("two", [PLACE])

        await store.commit(make, name="make")

        assert await self.found(store) == running(0)

    async def test_what_an_instance_runs_is_told_without_the_frames(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([running(0), running(1, instance="two"), running(2, attempt=3), request(3)])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.held_by("one")) == [
            running(0, frame=b""),
            running(2, attempt=3, frame=b""),
        ]

    # --- deciding -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("kept", "frame"), [(None, request(0).frame), (b"", b""), (b"less", b"less")])
    async def test_who_holds_a_request_decides_it(self, kept: bytes | None, frame: bytes, store: Store):
        await store.commit(lambda books: books.add_requests([running(0)]), name="add")

        held = await store.commit(lambda books: decide(books, frame=kept), name="decide")

        assert held is True
        found = await self.found(store)
        assert (found.state, found.outcome, found.frame, found.attempt) == (DONE, b"so", frame, 1)

    @pytest.mark.parametrize(
        ("stored", "instance", "attempt"),
        [
            (running(0), "two", 1),
            (running(0, attempt=2), "one", 1),
            (request(0, instance="one", attempt=1), "one", 1),
            (request(0, state=NOT_DONE, instance="one", attempt=1, outcome=b"no"), "one", 1),
        ],
    )
    async def test_who_does_not_hold_a_request_changes_nothing(
        self, stored: Request, instance: str, attempt: int, store: Store
    ):
        await store.commit(lambda books: books.add_requests([stored]), name="add")

        decided = await store.commit(lambda books: decide(books, instance=instance, attempt=attempt), name="decide")
        dropped = await store.commit(
            lambda books: decide(books, instance=instance, attempt=attempt, frame=b""), name="decide"
        )
        back = await store.commit(lambda books: put_back(books, instance=instance, attempt=attempt), name="back")

        assert (decided, dropped, back) == (False, False, False)
        assert await self.found(store) == stored

    @pytest.mark.parametrize("state", [RECEIVED, SUSPENDED, PARKED])
    async def test_who_holds_a_request_can_put_it_back(self, state: RequestState, store: Store):
        await store.commit(lambda books: books.add_requests([running(0)]), name="add")

        held = await store.commit(lambda books: put_back(books, state=state, deaths=1), name="back")

        assert held is True
        assert await self.found(store) == request(0, state=state, attempt=1, due=NOON + 5, failures=2, deaths=1)

    async def test_requests_that_do_not_run_are_set(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([request(0, state=PARKED), request(1, state=SUSPENDED), request(2)])
            books.set_requests(
                [(NOT_DONE, NOON, b"canceled", request(0).place), (RECEIVED, NOON + 3, b"", request(1).place)]
            )

        await store.commit(make, name="make")

        found = await store.read(lambda books: books.requests_at([request(n).place for n in range(3)]))
        assert found == [request(0, state=NOT_DONE, outcome=b"canceled"), request(1, due=NOON + 3), request(2)]

    async def test_a_request_that_is_asked_for_again_knows_by_whom(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([request(0), request(1)])
            books.ask_again([(5, 6, "shop-2", PLACE)], 7.0)

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.requests_listed()) == [
            request(1),
            request(0, asked=5, asker=6, reply_to="shop-2", due=7.0),
        ]

    async def test_what_was_last_asked_for_in_an_earlier_life_may_run_when_it_is_asked_for_again(self, store: Store):
        states = [RECEIVED, SUSPENDED, PARKED, DONE]

        def make(books: Books) -> None:
            books.add_requests([request(n, state=state, asked=0, due=NEVER) for n, state in enumerate(states)])
            books.add_requests([request(4, state=SUSPENDED, due=NEVER)])
            books.ask_again([(1, 1, "shop-2", request(number).place) for number in range(5)], NOON + 7)

        await store.commit(make, name="make")

        found = await store.read(lambda books: books.requests_at([request(n).place for n in range(5)]))
        assert [(each.state, each.due, each.asked) for each in found] == [
            (RECEIVED, NOON + 7, 1),
            (RECEIVED, NOON + 7, 1),
            (PARKED, NEVER, 1),
            (DONE, NEVER, 1),
            (SUSPENDED, NEVER, 1),
        ]

    async def test_what_is_undecided_in_a_lane_that_is_held_waits_and_its_claims_are_void(self, store: Store):
        def make(books: Books) -> list[bool]:
            books.add_requests([request(0), running(1), request(2, state=SUSPENDED), request(3, state=PARKED)])
            books.add_requests([request(4, state=DONE), running(5, lane=2)])
            books.hold(1)
            return [
                books.decide(
                    running(number, lane=lane).place, instance="one", attempt=1, state=DONE, outcome=b"", frame=b""
                )
                for lane, number in ((1, 1), (2, 5))
            ]

        decided = await store.commit(make, name="make")

        found = await store.read(lambda books: books.requests_at([request(n).place for n in range(5)]))
        assert decided == [False, True]
        assert [each.state for each in found] == [RECEIVED, RECEIVED, SUSPENDED, PARKED, DONE]
        assert [each.due for each in found[:3]] == [NEVER] * 3
        assert [each.asked for each in found] == [0, 0, 0, 0, 1]

    # --- forgetting and listing ---------------------------------------------------------------------------------

    async def test_forgotten_are_those_below_a_number_and_those_in_ranges_of_that_lane(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([request(number, lane=lane) for lane in (1, 2) for number in range(10)])
            books.forget_requests(1, below=2, ranges=[(4, 5), (8, 8)])
            books.forget_requests(2, below=9)

        await store.commit(make, name="make")

        assert numbers(await store.read(lambda books: books.requests_listed())) == [9, 9, 7, 6, 3, 2]

    async def test_requests_are_listed_newest_first_by_operation_and_by_whether_they_are_decided(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests(
                [request(0, state=DONE), request(1, operation="prices.list"), request(2), request(3, state=NOT_DONE)]
            )

        await store.commit(make, name="make")

        assert numbers(await store.read(lambda books: books.requests_listed())) == [3, 2, 1, 0]
        assert numbers(await store.read(lambda books: books.requests_listed(operation=QUOTE, limit=2))) == [3, 2]
        assert numbers(await store.read(lambda books: books.requests_listed(decided=True))) == [3, 0]
        assert numbers(await store.read(lambda books: books.requests_listed(decided=False))) == [2, 1]

    async def test_all_is_counted(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([request(0, state=DONE), request(1), request(2), request(3, lane=0)])
            books.open_lane_out("stock")

        await store.commit(make, name="make")

        counts = await store.read(lambda books: books.counts())
        assert counts.requests == {QUOTE: {"done": 1, "received": 3}}
        assert (counts.calls, counts.lanes_out, counts.lanes_in, counts.dead) == ({}, 1, 1, 0)
        assert counts.bytes > 0

    async def test_what_is_held_keeps_what_is_decided_and_voids_claims(self, store: Store):
        rows = [request(0), running(1), request(2, state=PARKED), request(3, state=DONE), request(0, lane=2)]
        await store.commit(lambda books: books.add_requests(rows), name="add")

        await store.commit(lambda books: books.hold(1), name="hold")

        held = await store.read(lambda books: books.requests_at([row.place for row in rows]))
        assert [row.state for row in held] == [RECEIVED, RECEIVED, PARKED, DONE, RECEIVED]
        assert [row.due == NEVER for row in held] == [True, True, True, False, False]
        assert not any(row.instance for row in held)
