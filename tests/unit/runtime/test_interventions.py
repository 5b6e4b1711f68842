"""What an operator does to the books, and that those who run go on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec
import pytest
from msgspec import Struct

from posthouse import (
    CallCanceledError,
    Context,
    FailedError,
    NotDoneError,
    OutcomeUnknownError,
    PendingError,
    Reply,
    Service,
)
from posthouse.clock import Instant
from posthouse.contracts.store import Books, Deceased, LaneOut, Store
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Message, Mode
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import SELF, WINDOW, place_of
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.runtime.host import Host
from posthouse.runtime.steps import intervening
from posthouse.runtime.steps.here import Here
from posthouse.runtime.steps.intervening import Changed, Did
from posthouse.runtime.steps.receiving import Answer
from posthouse.runtime.steps.wire import Outcome, outcome_bytes, outcome_of
from posthouse.testing.loop import LoopClock
from tests.house import House, until

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class Order(Struct):
    sku: str


async def change(house: House, service: str, step: Callable[[Books], T]) -> T:
    """Do something to a store, as an operator does it from another process."""
    await house.read(service, lambda books: None)
    return await house._stores[service].commit(step, name="operator", flush=True)


def here(house: House, service: str) -> Here:
    """The operator's place: one that serves nothing."""
    return Here(service, peer="operator", now=LoopClock().now, directory=house.hosts[0].directory)


def flaky(exhausted: Literal["park", "fail"] = "fail") -> tuple[Service, Any, list[str]]:
    """A service whose handler fails until it is mended; and what it did."""
    prices, did = Service("prices"), list[str]()

    @prices.handler(attempts=1, exhausted=exhausted)
    async def quote(order: Order, ctx: Context) -> str:
        did.append(ctx.id)
        if "mended" not in did:
            raise ValueError("it broke")
        return order.sku

    return prices, quote, did


async def state_of(house: House, id: str) -> Callable[[], Any]:
    async def read() -> CallState | None:
        call = await house.read("shop", lambda books: books.call(id))
        return None if call is None else call.state

    return read


async def comes_to(house: House, id: str, state: CallState) -> None:
    """Wait until the shop's call is in a state."""
    await until(await state_of(house, id), lambda found: found is state)


# --- dead letters ---------------------------------------------------------------------------------------


async def test_a_parked_request_that_is_replayed_runs_under_its_own_number_and_its_caller_is_told(house: House):
    prices, quote, did = flaky(exhausted="park")
    await house.serve(prices)
    shop = await house.client()
    id = await shop.send(quote, Order("tea"))
    [letter] = await house.bury(1)
    did.append("mended")

    done = await change(house, "prices", lambda books: intervening.replay(books, int(letter.handle), now=_now()))
    await comes_to(house, id, CallState.DONE)

    assert done is Did.DONE
    assert did == [id, "mended", id]
    assert await house.dead() == []


async def test_a_parked_request_that_is_given_up_is_not_done_for_its_caller_and_so_are_the_calls_it_made(house: House):
    prices, stock = Service("prices"), Service("stock")

    @stock.handler
    async def take(order: Order) -> str:
        return order.sku

    @prices.handler(attempts=1, exhausted="park")
    async def quote(order: Order, ctx: Context) -> str:
        await ctx.call(take, order)
        raise ValueError("it broke")

    await house.serve(prices, stock)
    shop = await house.client()
    id = await shop.send(quote, Order("tea"))
    [letter] = await house.bury(1)
    answers: list[Answer] = []

    done = await change(
        house, "prices", lambda books: intervening.drop(books, int(letter.handle), here(house, "prices"), answers)
    )
    await comes_to(house, id, CallState.NOT_DONE)

    assert done is Did.DONE
    assert [answer.message.id for answer in answers] == [id]
    with pytest.raises(FailedError, match=r"was given up by an operator: .*it broke"):
        await shop.reply(quote, id)
    [call] = await house.calls("stock.take", of="prices")
    assert call.state is CallState.DONE
    assert await house.dead() == []


async def test_what_failed_is_not_replayed_but_can_be_asked_anew(house: House):
    prices, quote, did = flaky()
    await house.serve(prices)
    shop = await house.client()
    with pytest.raises(FailedError):
        await shop.call(quote, Order("tea"))
    [letter] = await house.bury(1)
    number = int(letter.handle)

    refused = await change(house, "prices", lambda books: intervening.replay(books, number, now=_now()))
    did.append("mended")
    done = await change(
        house, "prices", lambda books: intervening.replay_as_new(books, number, here(house, "prices"), id="anew")
    )
    await until(lambda: asyncio.sleep(0, did), lambda did: did[-1] == "anew")

    assert (refused, done) == (Did.DECIDED, Did.DONE)
    assert did.count("anew") == 1
    assert await house.dead() == []


# --- lanes ----------------------------------------------------------------------------------------------


@pytest.fixture
async def waits(house: House) -> tuple[Host, Any]:
    """A shop that runs, and a price service that is announced and never there; and its operation."""
    prices = Service("prices")

    @prices.handler
    async def quote(order: Order) -> str:
        return order.sku

    host = await house.open()
    await host.announce(prices)
    return host, quote


async def retire(house: House) -> Changed:
    return await change(house, "shop", lambda books: intervening.retire_lanes(books, "prices", now=_now()))


async def is_seldom_sent(house: House, host: Host) -> None:
    """Wait until what the shop has asked was sent so often in vain that it is not sent again soon."""
    await until(lambda: house.calls("prices.quote", of="shop"), lambda calls: len(calls) == 1)
    journal = host.journals.get("shop")
    assert journal is not None
    sent = journal.outbox.sent
    await until(lambda: asyncio.sleep(0, [*sent.values()]), lambda some: any(each.tries > 8 for each in some))


async def test_who_waits_for_a_call_in_a_lane_that_is_retired_hears_that_its_outcome_is_unknown(
    house: House, waits: tuple[Host, Any]
):
    host, quote = waits
    shop = house.client_of(host)
    asked = asyncio.ensure_future(shop.call(quote, Order("tea"), timeout=900))
    await is_seldom_sent(house, host)

    changed = await retire(house)

    with pytest.raises(OutcomeUnknownError):
        async with asyncio.timeout(3):
            await asked
    assert len(changed.unknown) == 1
    [lane] = await house.read("shop", lambda books: books.lanes_out())
    assert (lane.final.floor, lane.pending, lane.peer, lane.closed) == (1, 0, Identity(), False)


async def test_a_handler_that_rests_until_a_call_is_answered_runs_again_when_its_lane_is_retired(
    house: House, waits: tuple[Host, Any]
):
    _host, quote = waits
    shop = Service("shop")
    said: list[str] = []

    @shop.handler
    async def buy(order: Order, ctx: Context) -> str:
        try:
            return await ctx.call(quote, order, timeout=1)
        except OutcomeUnknownError as error:
            said.append(error.code)
            return "nobody knows"

    await house.serve(shop)
    client = await house.client("customer")
    with pytest.raises(PendingError) as pending:
        await client.call(buy, Order("tea"), timeout=5)
    await until(lambda: house.requests("shop.buy"), lambda rows: rows[0].state is RequestState.SUSPENDED)

    await retire(house)

    assert await client.reply(buy, pending.value.id) == "nobody knows"
    assert said == ["outcome.unknown"]


async def test_calls_that_wait_for_a_number_were_never_sent_and_are_not_done(house: House, waits: tuple[Host, Any]):
    host, quote = waits
    shop = house.client_of(host)
    await asyncio.gather(*(shop.send(quote, Order(f"{number}")) for number in range(WINDOW + 2)))

    changed = await retire(house)

    assert (len(changed.unknown), len(changed.not_done)) == (WINDOW, 2)
    with pytest.raises(NotDoneError, match="was never sent"):
        await shop.reply(quote, changed.not_done[0])
    [lane] = await house.read("shop", lambda books: books.lanes_out())
    assert (lane.next, lane.final.floor, lane.waiting) == (WINDOW + 2, WINDOW + 2, 0)


async def test_a_handler_of_replies_hears_what_was_never_sent_when_its_lane_is_retired(
    house: House, waits: tuple[Host, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("posthouse.runtime.steps.asking.WINDOW", 1)
    _host, quote = waits
    shop, heard = Service("shop"), list[tuple[str, str]]()

    @shop.on_reply(quote)
    async def quoted(reply: Reply[Order, str]) -> None:
        with pytest.raises(CallCanceledError, match="was never sent") as refused:
            reply.get()
        heard.append((reply.request.sku, refused.value.code))

    client = house.client_of(await house.serve(shop))
    for sku in ("sent", "waits"):
        await client.send(quote, Order(sku))

    await retire(house)
    await until(lambda: asyncio.sleep(0, heard), bool)

    assert heard == [("waits", "call.canceled")]
    await until(lambda: house.requests("shop.on_reply.prices.quote"), lambda rows: not rows)


async def test_after_a_lane_was_retired_the_service_is_asked_again_when_it_comes(house: House, waits: tuple[Host, Any]):
    host, quote = waits
    shop = house.client_of(host)
    await shop.send(quote, Order("tea"))
    await retire(house)
    prices = Service("prices")

    @prices.handler(name="quote")
    async def answer(order: Order) -> str:
        return f"new {order.sku}"

    await house.serve(prices)

    assert await shop.call(quote, Order("milk"), timeout=100) == "new milk"


async def test_a_lane_that_is_mapped_leads_to_the_other_store_also_for_those_who_run(house: House):
    prices, quote, did = flaky()
    did.append("mended")
    old = await house.serve(prices)
    host = await house.open()
    shop = house.client_of(host)
    await shop.call(quote, Order("tea"))
    await old.close()
    house._disk._databases.pop("prices")  # and its store is gone for good
    asked = asyncio.ensure_future(shop.call(quote, Order("milk"), timeout=500))
    await until(lambda: house.calls("prices.quote", of="shop"), lambda calls: len(calls) == 2)
    journal = host.journals.get("shop")
    assert journal is not None
    journal.relay.lifelines._may_rebind = False  # as in prod
    await house.serve(prices)
    new = next(instance.store for instance in house.hosts[-1].directory.present["prices"])

    changed = await change(house, "shop", lambda books: intervening.map_lanes(books, "prices", Identity(new, 1)))

    async with asyncio.timeout(10):
        assert await asked == "milk"
    assert len(changed.asked_again) == 1


# --- the steps by themselves ------------------------------------------------------------------------------


@pytest.fixture
async def store(house: House) -> Store:
    """The store of the shop, which nobody serves."""
    await house.open()
    await house.read("shop", lambda books: None)
    return house._stores["shop"]


def _now() -> Instant:
    return LoopClock().now()


def parked(number: int, *, lane: int, **changed: Any) -> Request:
    values: dict[str, Any] = {"operation": "shop.buy", "asked": 1, "asker": 1, **changed}
    return Request(place_of(lane, number), f"id{number}", state=RequestState.PARKED, digest=b"", frame=b"", **values)


def letter_of(row: Request) -> Deceased:
    return Deceased(
        place=row.place, id=row.id, operation=row.operation, frame=b"", state="parked", code="handler.failed",
        reason="it broke", detail="", attempts=1, cause="c", at=0.0,
    )  # fmt: skip


async def test_what_its_caller_has_not_asked_again_since_a_restore_is_not_replayed(store: Store):
    def make(books: Books) -> list[Did]:
        lane = books.open_lane_in(Identity("customer", 1), "customer").lane
        rows = [parked(0, lane=lane), parked(1, lane=lane, asked=0), parked(2, lane=lane, asker=2)]
        books.hear_epoch("customer", 2)
        books.add_requests(rows)
        for row in rows:
            books.add_dead(letter_of(row))
        return [intervening.replay(books, number, now=5.0) for number in (1, 2, 3)]

    assert await store.commit(make, name="make") == [Did.NOT_ASKED, Did.NOT_ASKED, Did.DONE]


async def test_a_letter_that_was_overtaken_changes_nothing(store: Store, house: House):
    def make(books: Books) -> list[Did]:
        row = parked(0, lane=SELF)
        row.state = RequestState.RECEIVED
        books.add_requests([row, again := parked(1, lane=SELF)])
        for each in (row, again, again):
            books.add_dead(letter_of(each))
        return [
            intervening.replay(books, 1, now=5.0),
            intervening.drop(books, 1, here(house, "shop"), []),
            intervening.replay(books, 2, now=5.0),
            intervening.replay(books, 3, now=5.0),
            intervening.replay(books, 4, now=5.0),
        ]

    assert await store.commit(make, name="make") == [
        Did.OVERTAKEN,
        Did.OVERTAKEN,
        Did.OVERTAKEN,
        Did.DONE,
        Did.UNKNOWN,
    ]


def a_call(number: int, state: CallState, *, lane: int = 1, **changed: Any) -> Call:
    return Call(
        place_of(lane, number) if state is not CallState.WAITING else 0, f"id{number}", "prices", "prices.quote",
        state, Wants.NOBODY, b"", b"", **changed,
    )  # fmt: skip


ANSWER = outcome_bytes(Outcome(b'"tea"'))


def a_lane(books: Books) -> LaneOut:
    lane = books.open_lane_out("prices")
    states = [
        CallState.DONE,
        CallState.OPEN,
        CallState.CANCEL_WANTED,
        CallState.ANSWERED,
        CallState.REDRIVING,
        CallState.OPEN,
    ]
    outcomes = {CallState.DONE, CallState.ANSWERED, CallState.REDRIVING}
    calls = [a_call(n, state, outcome=ANSWER if state in outcomes else b"") for n, state in enumerate(states)]
    calls[5].parked = True
    books.add_calls(calls)
    lane.next, lane.pending, lane.peer, lane.acked = 6, 2, Identity("old", 3), 1
    lane.final.raise_to(1)
    books.save_lane_out(lane)
    return lane


async def test_mapped_what_is_not_final_is_asked_of_the_other_store_and_what_is_final_stays(store: Store):
    def make(books: Books) -> tuple[Changed, list[Call]]:
        lane = a_lane(books)
        changed = intervening.map_lanes(books, "prices", Identity("new", 1))
        return changed, books.calls_at([place_of(lane.lane, number) for number in range(6)])

    changed, calls = await store.commit(make, name="make")

    assert [(call.state, call.outcome) for call in calls] == [
        (CallState.DONE, ANSWER),
        (CallState.OPEN, b""),
        (CallState.CANCEL_WANTED, b""),
        (CallState.OPEN, b""),
        (CallState.REDRIVING, ANSWER),
        (CallState.OPEN, b""),
    ]
    [lane] = changed.lanes
    assert (lane.peer, lane.acked, lane.pending) == (Identity("new", 1), 0, 4)
    assert changed.asked_again == [f"id{number}" for number in range(1, 6)]


async def test_retired_what_was_sent_is_unknown_and_what_is_answered_is_left_to_its_handler(store: Store):
    def make(books: Books) -> tuple[Changed, list[Call]]:
        lane = a_lane(books)
        changed = intervening.retire_lanes(books, "prices", now=5.0)
        return changed, books.calls_at([place_of(lane.lane, number) for number in range(6)])

    changed, calls = await store.commit(make, name="make")

    assert [call.state for call in calls] == [
        CallState.DONE,
        CallState.UNKNOWN,
        CallState.UNKNOWN,
        CallState.ANSWERED,
        CallState.DONE,
        CallState.UNKNOWN,
    ]
    [lane] = changed.lanes
    assert (lane.final.floor, lane.final.ranges, lane.pending, lane.peer) == (3, [(4, 5)], 0, Identity())
    assert changed.unknown == ["id1", "id2", "id5"]


async def test_a_run_for_a_reply_that_is_given_up_makes_the_call_final_and_is_forgotten(store: Store, house: House):
    from posthouse.runtime.steps.applying import ReplyRun, run_to_bytes

    def make(books: Books) -> tuple[Did, Did, list[Call], list[Request], LaneOut | None]:
        lane = books.open_lane_out("prices")
        books.add_calls([a_call(0, CallState.ANSWERED, outcome=ANSWER)])
        lane.next = 1
        books.save_lane_out(lane)
        row = parked(0, lane=SELF, operation="shop.on_reply.prices.quote")
        row.frame = run_to_bytes(ReplyRun(place_of(1, 0), 1, b"", ANSWER))
        books.add_requests([row])
        letter = letter_of(row)
        message = Message(Kind.REPLY, row.id, row.operation, "prices", 0.0, row.frame, Mode.JOURNALED)
        books.add_dead(msgspec.structs.replace(letter, frame=encode(message)))
        anew = intervening.replay_as_new(books, 1, here(house, "shop"), id="anew")
        did = intervening.drop(books, 1, here(house, "shop"), [])
        return anew, did, books.calls_at([place_of(1, 0)]), books.requests_listed(), books.lane_out(1)

    anew, did, [call], rows, lane = await store.commit(make, name="make")

    assert (anew, did, call.state, rows) == (Did.NO_REQUEST, Did.DONE, CallState.DONE, [])
    assert lane is not None
    assert lane.final.floor == 1
    assert outcome_of(call.outcome).data == b'"tea"'


async def test_the_first_deposit_of_a_store_asks_its_calls_once_though_it_runs_twice(house: House):
    shop, prices = Service("shop"), Service("prices")
    asked: list[str] = []

    @prices.handler
    async def quote(order: Order, ctx: Context) -> str:
        asked.append(ctx.id)
        await asyncio.sleep(60)
        return order.sku

    @shop.handler
    async def buy(order: Order, ctx: Context) -> str:
        return await ctx.call(quote, order, timeout=1)  # it rests until the reply is there, and runs again

    await house.serve(shop, prices)
    house.callers_have_stores = False
    guest = await house.client("guest")

    assert await guest.call(buy, Order("tea"), timeout=500) == "tea"

    assert len(asked) == 1
