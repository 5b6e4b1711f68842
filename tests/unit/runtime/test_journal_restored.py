"""A handler that rested when its store was restored goes on when its caller has asked again, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from posthouse.message.message import Lane
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import SELF, lane_of, place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.protocol.stream import FEEDS
from posthouse.runtime.steps.applying import apply
from posthouse.runtime.steps.canceling import wake
from posthouse.runtime.steps.wire import Outcome, reply_to
from tests.house import House
from tests.unit.runtime.test_journal_steps import journal_of, request

if TYPE_CHECKING:
    from posthouse.contracts.store import Books

pytestmark = pytest.mark.anyio

NEVER = float("inf")
LANES = [(SELF, True), (1, False), (FEEDS, True)]
OF = ["its own", "a caller's", "a feed"]


def rest(books: Books, lane: int) -> Call:
    """Write a handler that rests since an earlier life, until a call is answered."""
    work = place_of(lane, 5)
    resting = Request(
        work, "w", "shop.buy", RequestState.SUSPENDED, b"", b"", due=NEVER, asked=books.identity.epoch - 1
    )
    books.add_requests((resting,))
    out = books.open_lane_out("prices")
    out.peer = Identity("replier", 2)
    out.next = out.pending = 1
    books.save_lane_out(out)
    call = Call(place_of(out.lane, 0), "id", "prices", "prices.quote", CallState.OPEN, Wants.HANDLER, b"", b"", work)
    books.add_calls((call,))
    return call


def state_of(books: Books, call: Call) -> RequestState:
    """Return how the handler stands."""
    [row] = books.requests_at((call.work,))
    return row.state


@pytest.mark.parametrize(("lane", "wakes"), LANES, ids=OF)
async def test_an_answer_wakes_who_rests_unless_its_caller_has_to_ask_again(house: House, lane: int, wakes: bool):
    journal = await journal_of(house, "shop")

    def answer(books: Books) -> tuple[RequestState, CallState]:
        call = rest(books, lane)
        ours = books.identity
        stamps = Lane(ours.id, ours.epoch, "replier", 2, 0, 0, b"", ours.epoch)
        message = reply_to(request("prices.quote"), Outcome(b"so"), stamps, source="prices", now=0.0)
        apply(books, [(lane_of(call.place), message)], journal.here, numbers=False)
        [call] = books.calls_at((call.place,))
        return state_of(books, call), call.state

    state, answered = await journal.store.commit(answer, name="answer")

    assert answered is CallState.ANSWERED
    assert state is (RequestState.RECEIVED if wakes else RequestState.SUSPENDED)


@pytest.mark.parametrize(("lane", "wakes"), LANES, ids=OF)
async def test_the_end_of_a_call_wakes_who_rests_unless_its_caller_has_to_ask_again(
    house: House, lane: int, wakes: bool
):
    journal = await journal_of(house, "shop")

    def end(books: Books) -> RequestState:
        call = rest(books, lane)
        wake(books, call, 0.0)
        return state_of(books, call)

    state = await journal.store.commit(end, name="end")

    assert state is (RequestState.RECEIVED if wakes else RequestState.SUSPENDED)
