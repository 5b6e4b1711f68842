"""What people ask of a store: found by the beginning of an id, counted, with its ages; and parked ones run again."""

from __future__ import annotations

from posthouse.contracts.store import Books, CallTally, Deceased, Key, Life, RequestTally, Store
from posthouse.contracts.streams import Told
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import SELF, place_of
from posthouse.protocol.outbox import CallState
from posthouse.protocol.stream import FEEDS
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import (
    OnOneStore,
    call,
    lane_from_shop,
    lane_with,
    numbers,
    request,
    running,
    waiting,
)

DONE, OPEN = CallState.DONE, CallState.OPEN
PARKED, RECEIVED = RequestState.PARKED, RequestState.RECEIVED


def letter_of(row: Request) -> Deceased:
    """Return the dead letter of a request."""
    return Deceased(
        place=row.place,
        id=row.id,
        operation=row.operation,
        frame=b"",
        state="parked",
        code="handler.failed",
        reason="it failed",
        detail="",
        attempts=8,
        cause="c1",
        at=NOON,
    )


class PeopleTests(OnOneStore):
    """What is kept for those who look."""

    async def test_ids_are_found_by_their_beginning_wherever_they_stand(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [call(0, id="ab1"), call(1, id="ac9"), call(2, id="abc")])
            books.add_waiting([waiting(3, id="ab0")])
            books.add_requests([request(0, id="ab2"), request(1, id="ab1")])
            books.add_dead(letter_of(request(7, id="ab3")))
            books.add_key(Key("deposit", "ab4", b"", "5", NOON))
            books.add_key(Key("prices.quote", "ab5", b"", "5", NOON))
            books.add_events([Told(place_of(1, 0), "ab6", b"told", NOON)])

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.ids("ab", 10)) == ["ab0", "ab1", "ab2", "ab3", "ab4", "ab6", "abc"]
        assert await store.read(lambda books: books.ids("ab1", 10)) == ["ab1"]
        assert await store.read(lambda books: books.ids("ab", 2)) == ["ab0", "ab1"]
        assert await store.read(lambda books: books.ids("b", 10)) == []

    async def test_all_requests_of_an_id_are_found(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests(
                [
                    request(4, lane=SELF, id="abc", operation="prices.on_ack.quote"),
                    request(2, id="abc"),
                    request(3, id="abcd"),
                ]
            )

        await store.commit(make, name="make")

        found = await store.read(lambda books: books.requests_named("abc"))
        assert [row.operation for row in found] == ["prices.on_ack.quote", "prices.quote"]

    async def test_calls_and_undecided_requests_are_counted_with_the_age_of_the_oldest(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [call(0, state=DONE), call(1), call(2), call(3, parked=True)])
            lane_with(books, [call(4, lane=2, service="mail")], service="mail")
            lane = lane_from_shop(books)
            books.add_requests(
                [
                    request(0, due=NOON + 9),
                    request(1, due=NOON + 3),
                    request(2, state=PARKED),
                    request(3, state=RequestState.DONE),
                    running(4),
                    request(0, lane=SELF),
                    request(5, operation="prices.stock"),
                ]
            )
            assert lane == 1

        await store.commit(make, name="make")

        def calls(service: str, state: CallState, count: int, age: int, *, parked: bool = False) -> CallTally:
            return CallTally(service=service, state=state, parked=parked, count=count, oldest=NOON + age)

        assert await store.read(lambda books: books.call_tallies()) == [
            calls("mail", OPEN, 1, 4),
            calls("stock", OPEN, 2, 1),
            calls("stock", OPEN, 1, 3, parked=True),
            calls("stock", DONE, 1, 0),
        ]

        def requests(state: RequestState, count: int, first: int, due: int = 0, *, lane: int = 1) -> RequestTally:
            place = place_of(lane, first)
            return RequestTally(
                operation="prices.quote", state=state, lane=lane, count=count, first=place, due=NOON + due
            )

        *quotes, stock = await store.read(lambda books: books.request_tallies())
        assert quotes == [
            requests(RECEIVED, 1, 0, lane=SELF),
            requests(RECEIVED, 2, 0, 3),
            requests(RequestState.RUNNING, 1, 4),
            requests(PARKED, 1, 2),
        ]
        assert (stock.operation, stock.count) == ("prices.stock", 1)

    async def test_calls_and_requests_in_one_state_are_listed_alone(self, store: Store):
        def make(books: Books) -> None:
            lane_with(books, [call(0, state=DONE), call(1), call(2, state=DONE)])
            books.add_waiting([waiting(3)])
            books.add_requests([request(0), request(1, state=PARKED), request(2, state=PARKED)])

        await store.commit(make, name="make")

        assert numbers(await store.read(lambda books: books.calls_listed(state=DONE))) == [2, 0]
        assert numbers(await store.read(lambda books: books.calls_listed(state=CallState.WAITING))) == [3]
        assert numbers(await store.read(lambda books: books.requests_listed(state=PARKED))) == [2, 1]

    async def test_requests_of_one_lane_are_listed_alone(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests([request(0), request(1), request(2, lane=SELF), request(3, lane=2)])

        await store.commit(make, name="make")

        assert numbers(await store.read(lambda books: books.requests_listed(lane=1))) == [1, 0]
        assert numbers(await store.read(lambda books: books.requests_listed(lane=SELF))) == [2]
        assert numbers(await store.read(lambda books: books.requests_listed(limit=2))) == [3, 1]

    async def test_only_what_is_parked_is_revived_with_all_its_attempts(self, store: Store):
        def make(books: Books) -> None:
            books.add_requests(
                [
                    request(0, state=PARKED, attempt=8, failures=8, due=NOON + 99),
                    request(1, state=PARKED, attempt=3, deaths=3),
                    running(2, failures=4),
                    request(3, state=RequestState.NOT_DONE),
                ]
            )
            books.revive([request(number).place for number in range(4)], NOON + 5)

        await store.commit(make, name="make")

        rows = await store.read(lambda books: books.requests_at([request(number).place for number in range(4)]))
        assert [(row.state, row.attempt, row.failures, row.deaths) for row in rows] == [
            (RECEIVED, 8, 0, 0),
            (RECEIVED, 3, 0, 1),
            (RequestState.RUNNING, 1, 4, 0),
            (RequestState.NOT_DONE, 0, 0, 0),
        ]
        assert rows[0].due == rows[1].due == NOON + 5

    async def test_what_is_revived_is_told_and_nothing_that_its_caller_has_not_asked_for_in_this_life(
        self, store: Store
    ):
        def make(books: Books) -> list[int]:
            books.add_requests([request(0, state=PARKED), request(1, state=PARKED, asked=0), request(2)])
            books.add_requests([request(number, lane=SELF, state=PARKED, asked=0) for number in (1, 2)])
            books.add_requests([request(0, lane=FEEDS, state=PARKED, asked=0)])
            parked = [request(number).place for number in range(3)]
            return books.revive([*parked, request(1, lane=SELF).place, request(0, lane=FEEDS).place, 77], NOON)

        revived = await store.commit(make, name="make")

        assert revived == [request(0).place, request(1, lane=SELF).place, request(0, lane=FEEDS).place]
        left = await store.read(lambda books: books.requests_listed(state=PARKED))
        assert {each.place for each in left} == {request(1).place, request(2, lane=SELF).place}

    async def test_a_store_tells_its_lives_how_far_back_it_reaches_and_that_it_is_whole(self, store: Store):
        [first] = await store.read(lambda books: books.lives())
        before = await store.read(lambda books: books.kept_since())
        await store.commit(
            lambda books: lane_with(books, [call(0), call(2, state=DONE), call(1, state=CallState.NOT_DONE)]),
            name="add",
        )

        assert first == Life(1, first.reason, NOON)
        assert first.reason
        assert before is None
        assert await store.read(lambda books: books.kept_since()) == NOON + 1
        assert await store.read(lambda books: books.damage()) == []
