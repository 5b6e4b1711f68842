"""Single steps of a journal, on books that are written by hand: what is rare, or too large to be played through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from posthouse.message.codec import encode
from posthouse.message.message import Kind, Lane, Message, Mode
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import DEATHS, Request, RequestState
from posthouse.protocol.lane import SELF, Numbers, place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.runtime.steps.applying import apply
from posthouse.runtime.steps.receiving import Arrived, Receiving
from posthouse.runtime.steps.taking_over import TakenOver, take_over
from posthouse.runtime.steps.wire import Outcome, ack, outcome_bytes, reply_to, word
from tests.house import House

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.contracts.store import Books
    from posthouse.runtime.journal.journal import Journal

pytestmark = pytest.mark.anyio

CALLER = Identity("caller", 1)


async def journal_of(house: House, name: str) -> Journal:
    """Return the journal of a service that serves nothing."""
    host = await house.open()
    host.journals.allow(name)
    journal = await host.journals.need(name)
    assert journal is not None
    return journal


def request(operation: str) -> Message:
    return Message(Kind.REQUEST, "id", operation, "shop", 0.0, b"", Mode.JOURNALED)


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["over", "done"])
async def test_a_call_that_was_done_keeps_its_outcome_when_it_is_asked_for_again(house: House, told: str):
    journal = await journal_of(house, "shop")
    first = outcome_bytes(Outcome(b"first"))

    def redriven(books: Books) -> tuple[Call, list[tuple[int, bytes]]]:
        lane = books.open_lane_out("prices")
        lane.peer = Identity("replier", 2)
        lane.next = 1
        books.save_lane_out(lane)
        place = place_of(lane.lane, 0)
        call = Call(place, "id", "prices", "prices.quote", CallState.REDRIVING, Wants.CALLER, b"", b"")
        call.outcome, call.outcome_epoch = first, 1
        books.add_calls((call,))
        stamps = Lane(books.identity.id, books.identity.epoch, "replier", 2, 0, 0, b"", lane.epoch)
        message = (
            word("over", stamps, id="id", about="prices.quote", source="prices", now=0.0)
            if told == "over"
            else reply_to(request("prices.quote"), Outcome(b"second"), stamps, source="prices", now=0.0)
        )
        applied = apply(books, [(lane.lane, message)], journal.here, numbers=False)
        [call] = books.calls_at((place,))
        return call, applied.told

    call, heard = await journal.store.commit(redriven, name="redriven")

    assert (call.state, call.outcome, call.outcome_epoch) == (CallState.DONE, first, 1)
    assert heard == [(call.place, first)]


# --- acks -------------------------------------------------------------------------------------------------


async def test_a_floor_that_jumps_far_looks_only_at_what_there_is(house: House):
    journal = await journal_of(house, "prices")
    journal.here.ack_handlers = {"prices.quote": "prices.on_ack.prices.quote"}
    numbers = [3, 40_000, 99_999, 200_000]
    asked: list[int] = []

    def acked(books: Books) -> list[str]:
        lane = books.open_lane_in(CALLER, "shop")
        frame, outcome = encode(request("prices.quote")), outcome_bytes(Outcome(b""))
        for number in numbers:
            place = place_of(lane.lane, number)
            row = Request(place, f"n{number}", "prices.quote", RequestState.DONE, b"", frame, outcome=outcome)
            books.add_requests((row,))
        lane.next = 300_000
        books.save_lane_in(lane)
        stamps = Lane(CALLER.id, CALLER.epoch, books.identity.id, books.identity.epoch, -1, 100_000, b"", CALLER.epoch)
        final = Numbers(100_000, [(150_000, 250_000)])
        told = ack(final, stamps, service="prices", source="shop", now=0.0, reply_to="")
        requests_at = books.requests_at

        def counted(places: Sequence[int]) -> Any:
            asked.extend(places)
            return requests_at(places)

        books.requests_at = counted
        try:
            Receiving(books, journal.here, lambda operation: 0).take([Arrived(told, b"")])
        finally:
            del books.requests_at
        return [row.id for row in reversed(books.requests_listed(lane=SELF))]

    heard = await journal.store.commit(acked, name="ack")

    assert heard == [f"n{number}" for number in numbers]
    assert len(asked) == len(numbers)


# --- the dead -------------------------------------------------------------------------------------------


async def test_what_is_parked_as_its_instances_died_is_told(house: House, caplog: pytest.LogCaptureFixture):
    journal = await journal_of(house, "prices")

    def die(books: Books) -> TakenOver:
        lane = books.open_lane_in(CALLER, "shop").lane
        for number, deaths in enumerate((DEATHS - 1, DEATHS - 2)):
            row = Request(
                place_of(lane, number), f"n{number}", "prices.quote", RequestState.RUNNING, b"",
                encode(request("prices.quote")), instance="gone", attempt=1, deaths=deaths,
            )  # fmt: skip
            books.add_requests((row,))
        books.beat("gone", until=0.0)
        return take_over(books, journal.here)

    taken = await journal.store.commit(die, name="die")
    journal.inbox._took_over(taken)

    assert taken.operations == {"prices.quote"}
    assert [letter.id for letter in taken.parked] == ["n0"]
    assert "prices.quote parks n0: 3 instances of prices died while it ran (`posthouse dead ls`)" in caplog.text
    assert "n1" not in caplog.text
