"""The steps of a caller that was put back, and of the replier that hears of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from posthouse import Service
from posthouse.contracts.store import Life
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.runtime.steps.applying import apply
from posthouse.runtime.steps.claiming import message_of
from posthouse.runtime.steps.closing import ORPHANED, close, undecided
from posthouse.runtime.steps.lives import is_unsure, make_unsure
from posthouse.runtime.steps.receiving import Arrived, Received, Receiving
from posthouse.runtime.steps.restoring import begin_life, settle_waiting, unsure
from tests.house import House
from tests.unit.runtime.test_journal_steps import journal_of

if TYPE_CHECKING:
    from posthouse.contracts.store import Books

pytestmark = pytest.mark.anyio


BEGAN = 50.0


class PutBack:
    """Books of a store that was put back.

    Args:
        books: of a store that was not.
    """

    def __init__(self, books: Books) -> None:
        self._books = books

    def lives(self) -> list[Life]:
        """Return two of them."""
        return [Life(1, "created", 1.0), Life(2, "restored", BEGAN)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)


def put_back(books: Books) -> Books:
    """Return the books of a store as if it had been put back."""
    restored: Any = PutBack(books)
    return restored


def waiting(books: Books, id: str, created: float) -> None:
    """Write a call that waits for a number."""
    call = Call(0, id, "prices", "prices.keyed", CallState.WAITING, Wants.NOBODY, b"", b"", key="k", created=created)
    books.add_waiting((call,))


def told(books: Books, tops: list[tuple[int, int]]) -> Message:
    """Return a replier's answer to a probe."""
    ours = books.identity
    stamps = Lane(ours.id, ours.epoch, "replier", 1, -1, 0, b"", ours.epoch)
    data = msgspec.msgpack.encode(tops)
    return Message(Kind.CONTROL, "", "tops", "prices", 0.0, data, Mode.JOURNALED, "", lane=stamps)


# --- the caller was put back ------------------------------------------------------------------------------


@pytest.mark.parametrize("restored", [True, False])
async def test_answers_are_open_again_in_the_first_step_of_a_life_that_is_not_the_first(house: House, restored: bool):
    journal = await journal_of(house, "shop")

    def begin(books: Books) -> list[tuple[CallState, bytes, int]]:
        lane = books.open_lane_out("prices")
        lane.next = 1
        books.save_lane_out(lane)
        call = Call(
            place_of(lane.lane, 0), "id", "prices", "q", CallState.ANSWERED, Wants.HANDLER, b"", b"", outcome=b"so"
        )
        books.add_calls((call,))
        books.drop_key("life", "calls")  # the service has begun it when it was opened
        seen: list[tuple[CallState, bytes, int]] = []
        for _ in range(2):
            begin_life(put_back(books) if restored else books)
            [call] = books.calls_at((call.place,))
            [lane] = books.lanes_out()
            seen.append((call.state, call.outcome, lane.pending))
        return seen

    once, twice = await journal.store.commit(begin, name="begin")

    assert once == twice == ((CallState.OPEN, b"", 1) if restored else (CallState.ANSWERED, b"so", 0))


async def test_what_waits_is_counted_in_the_lane_of_this_life_and_numbered_only_after_a_probe(house: House):
    journal = await journal_of(house, "shop")

    def begin(books: Books) -> tuple[int, list[str]]:
        waiting(books, "old", BEGAN - 1)
        books.drop_key("life", "calls")
        begin_life(put_back(books))
        [lane] = books.lanes_out()
        return lane.waiting, [each.service for each in unsure(books)]

    assert await journal.store.commit(begin, name="begin") == (1, ["prices"])


@pytest.mark.parametrize(("top", "is_lost"), [(3, False), (4, True)])
async def test_what_waited_is_unknown_if_its_replier_has_a_number_that_is_not_known(
    house: House, top: int, is_lost: bool
):
    journal = await journal_of(house, "shop")

    def settle(books: Books) -> tuple[list[str], bool, set[str]]:
        lane = books.open_lane_out("prices")
        lane.next, lane.waiting = 3, 2
        books.save_lane_out(lane)
        make_unsure(books, "prices")
        waiting(books, "old", BEGAN - 1)
        waiting(books, "new", BEGAN + 1)
        lost = settle_waiting(put_back(books), told(books, [(books.identity.epoch, top)]), BEGAN + 2)
        left = {call.id for call in books.calls_listed(state=CallState.WAITING)}
        return [call.id for call in lost if call.state is CallState.UNKNOWN], is_unsure(books, "prices"), left

    unknown, unsure_still, left = await journal.store.commit(settle, name="settle")

    assert unknown == (["old"] if is_lost else [])
    assert left == ({"new"} if is_lost else {"old", "new"})
    assert not unsure_still


# --- the replier hears of it ------------------------------------------------------------------------------


def received(books: Books, *states: RequestState) -> int:
    """Write requests of a caller in these states, from number 0 on; return their lane."""
    lane = books.open_lane_in(Identity("caller", 1), "shop")
    lane.next = len(states)
    books.save_lane_in(lane)
    epoch = books.identity.epoch
    for number, state in enumerate(states):
        place = place_of(lane.lane, number)
        books.add_requests((Request(place, str(number), "prices.q", state, b"", b"", asked=epoch, asker=1),))
    return lane.lane


async def test_closing_a_lane_tells_of_what_its_caller_does_not_know(house: House):
    journal = await journal_of(house, "prices")

    def closed(books: Books) -> tuple[list[str], list[tuple[str, str]], int, int, bool]:
        number = received(books, RequestState.DONE, RequestState.DONE, RequestState.RECEIVED)
        lane = books.lane_in(number)
        assert lane is not None
        ended = close(books, lane, 1, now=5.0)
        letters = [(letter.id, letter.code) for letter in books.dead_letters()]
        return [row.id for row in ended], letters, len(books.requests_listed()), lane.over.floor, lane.closed

    ended, letters, left, floor, is_closed = await journal.store.commit(closed, name="close")

    assert ended == ["2"]
    assert letters == [("1", ORPHANED), ("2", ORPHANED)]
    assert (left, floor, is_closed) == (0, 3, True)


async def test_closing_a_lane_tells_of_a_damaged_request_too_and_keeps_nothing_that_could_be_asked_anew(house: House):
    journal = await journal_of(house, "prices")

    def closed(books: Any) -> tuple[list[str], list[tuple[str, bytes]]]:
        number = received(books, RequestState.DONE, RequestState.RECEIVED)
        books._sql.execute("UPDATE posthouse_requests SET frame = x'00' WHERE id = '1'")
        ended = close(books, books.lane_in(number), 0, now=5.0)
        return [row.id for row in ended], [(letter.id, letter.frame) for letter in books.dead_letters()]

    ended, letters = await journal.store.commit(closed, name="close")

    assert ended == ["1"]
    assert letters == [("0", b""), ("1", b"")]


async def test_what_is_undecided_is_found_within_the_numbers_asked_for(house: House):
    journal = await journal_of(house, "prices")

    def find(books: Books) -> list[str]:
        lane = received(books, RequestState.RECEIVED, RequestState.DONE, RequestState.PARKED, RequestState.RECEIVED)
        return [row.id for row in undecided(books, lane, [(0, 1), (2, 2)])]

    assert await journal.store.commit(find, name="find") == ["0", "2"]


async def test_a_newer_life_of_a_caller_holds_what_is_undecided_of_its_earlier_ones(house: House):
    journal = await journal_of(house, "prices")

    def hear(books: Books) -> list[tuple[RequestState, bool]]:
        received(books, RequestState.RECEIVED, RequestState.RUNNING, RequestState.DONE)
        ours = books.identity
        stamps = Lane("caller", 2, ours.id, ours.epoch, -1, 0, b"", 2)
        data = msgspec.msgpack.encode([1])
        probe = Message(Kind.CONTROL, "", "probe", "shop", 0.0, data, Mode.JOURNALED, "peer", lane=stamps)
        Receiving(books, journal.here, lambda _: 9).take([Arrived(probe, b"")])
        return [(row.state, row.due == float("inf")) for row in reversed(books.requests_listed())]

    assert await journal.store.commit(hear, name="hear") == [
        (RequestState.RECEIVED, True),
        (RequestState.RECEIVED, True),
        (RequestState.DONE, False),
    ]


@pytest.mark.parametrize(("life", "stamped"), [(2, 2), (1, 1), (0, 1)])
async def test_a_request_is_run_for_the_life_that_asked_for_it_last_and_an_event_as_it_was_published(
    house: House, life: int, stamped: int
):
    journal = await journal_of(house, "prices")
    stamps = Lane("caller", 1, "replier", 1, 0, 0, b"", 1)
    sent = Message(Kind.REQUEST, "id", "prices.q", "shop", 0.0, b"", Mode.JOURNALED, reply_to="shop-1", lane=stamps)
    row = Request(
        place_of(5, 0), "id", "prices.q", RequestState.RECEIVED, b"", encode(sent), asker=life, reply_to="shop-2"
    )

    run = message_of(row, journal.here)

    assert run.lane == msgspec.structs.replace(stamps, caller_epoch=stamped)
    assert run.reply_to == "shop-2"


async def test_a_request_that_runs_while_its_caller_is_restored_is_answered_to_its_new_life(house: House):
    """It was begun for the earlier one; its caller asks again, and does not have to do so twice."""
    prices, began, go = Service("prices"), asyncio.Event(), asyncio.Event()

    @prices.handler
    async def quote(sku: str) -> str:
        began.set()
        await go.wait()
        return sku.upper()

    server = await house.serve(prices)
    journal = await server.journals.need("prices")
    assert journal is not None
    client = await house.client("shop")
    asking = asyncio.create_task(client.call(quote, "tea"))
    await began.wait()
    [work] = journal.inbox.ends.running.values()
    assert work.message.lane is not None
    stamps = msgspec.structs.replace(work.message.lane, caller_epoch=2)
    again = msgspec.structs.replace(work.message, lane=stamps, reply_to="shop-2")
    arrived = [Arrived(again, encode(again))]

    def receive(books: Books) -> Received:
        return Receiving(books, journal.here, lambda operation: 0).take(arrived)

    journal.inbox._received(arrived, await journal.store.commit(receive, name="receive"))

    assert (work.message.lane, work.message.reply_to) == (stamps, "shop-2")
    asking.cancel()
    go.set()


@pytest.mark.parametrize("opened_in", ["this life", "an earlier one"])
async def test_over_is_done_only_in_a_lane_of_this_life(house: House, opened_in: str):
    journal = await journal_of(house, "shop")

    def answer(books: Books) -> CallState:
        ours = books.identity
        lane = books.open_lane_out("prices")
        lane.peer, lane.next = Identity("replier", 2), 1
        books.save_lane_out(lane)
        call = Call(place_of(lane.lane, 0), "id", "prices", "q", CallState.REDRIVING, Wants.NOBODY, b"", b"")
        books.add_calls((call,))
        seen: Any = books
        if opened_in != "this life":
            seen = PutBack(books)
            seen.identity = Identity(ours.id, ours.epoch + 1)
        stamps = Lane(ours.id, seen.identity.epoch, "replier", 2, 0, 0, b"", ours.epoch)
        over = Message(Kind.CONTROL, "id", "over", "prices", 0.0, b"", Mode.JOURNALED, "", lane=stamps)
        apply(seen, [(lane.lane, over)], journal.here, numbers=False)
        [call] = books.calls_at((call.place,))
        return call.state

    state = await journal.store.commit(answer, name="answer")

    assert state is (CallState.DONE if opened_in == "this life" else CallState.UNKNOWN)
