"""Why a request is not done: the sentence for each state of both sides."""

from __future__ import annotations

from typing import Any

import pytest

from posthouse.cli.conversation import (
    CallSeen,
    Conversation,
    InstanceSeen,
    LaneSeen,
    LetterSeen,
    OutcomeSeen,
    RequestSeen,
    StoreSeen,
)
from posthouse.cli.why import why
from posthouse.contracts.store import Life
from posthouse.protocol.epoch import Identity
from posthouse.testing.clock import NOON

SHOP = StoreSeen("shop", "shop-store", 1)
PRICES = StoreSeen("prices", "prices-store", 1)
RUNS = InstanceSeen("0123456789abcdef", 77, "box", there=True)
GONE = InstanceSeen("0123456789abcdef")


def lane(**changed: Any) -> LaneSeen:
    values: dict[str, Any] = {
        "lane": 1, "number": 7, "floor": 5, "next": 9, "pending": 2, "waiting": 0, "acked": 5,
        "bound_to": Identity("prices-store", 1), "is_full": False, **changed,
    }  # fmt: skip
    return LaneSeen(**values)


def call(state: str, **changed: Any) -> CallSeen:
    values: dict[str, Any] = {
        "store": SHOP, "state": state, "wanted_by": "caller", "created": NOON - 9, "lane": lane(), "owner": RUNS,
        **changed,
    }  # fmt: skip
    return CallSeen(**values)


def request(state: str, **changed: Any) -> RequestSeen:
    values: dict[str, Any] = {"store": PRICES, "state": state, "due": NOON - 5, **changed}
    return RequestSeen(**values)


def told(*, id: str = "a1", operation: str = "prices.quote", **changed: Any) -> Conversation:
    values: dict[str, Any] = {
        "caller": "shop", "asked": NOON - 9, "instances": 1, "callers": 1, "announced": True,
        "offered": "journaled", "store_here": PRICES,
        **changed,
    }  # fmt: skip
    return Conversation(id=id, operation=operation, **values)


LETTER = LetterSeen(
    id="prices:3", state="parked", code="handler.failed", reason="no price", attempts=8, cause="c", at=NOON
)
OPEN = call("open")
DONE = OutcomeSeen(True)


def refused(code: str, message: str = "no") -> OutcomeSeen:
    return OutcomeSeen(False, code=code, message=message)


@pytest.mark.parametrize(
    ("conversation", "settled", "says", "does"),
    [
        # --- settled
        (told(call=call("done"), outcome=DONE, request=request("", forgotten=True)), True,
         "done by prices; shop has it, and has acked it", ""),
        (told(call=call("done"), outcome=DONE, request=request("done")), True,
         "done by prices; shop has it, and prices keeps it until that is acked", ""),
        (told(call=call("done", lane=lane(acked=8)), outcome=DONE), True, "and has acked it", ""),
        (told(call=call("done"), outcome=DONE), True, "done by prices; shop has it", ""),
        (told(call=call("not_done"), outcome=refused("call.canceled", "it was not run")), True,
         "canceled: it was not run", ""),
        (told(call=call("not_done"), outcome=refused("deadline.expired")), True,
         "not done: its deadline passed before prices ran it", ""),
        (told(call=call("not_done"), outcome=refused("card.refused", "no money")), True,
         "prices said no (card.refused): no money", ""),
        (told(call=call("not_done"), outcome=refused("handler.failed", "it broke"), letter=LETTER), True,
         "failed: it broke", "posthouse dead show prices:3"),
        # --- nobody can say
        (told(call=call("unknown")), False, "unknown: an operator has retired the lane to prices", "Look at prices"),
        (told(call=call("unknown", restored=Life(2, "restored", NOON))), False,
         "unknown: shop was restored", "Look at prices"),
        (told(call=call("conflict")), False, "conflict: prices had done it, was restored, and says no", "compare both"),
        (told(call=call("redriving")), False, "prices was restored after it had done it", "by itself"),
        # --- answered
        (told(call=call("answered", wanted_by="handler"), work="b2"), False,
         "final when the handler of shop that asked has committed", "posthouse messages why b2"),
        (told(call=call("answered", wanted_by="reply handler"), runs={"shop.on_reply.prices.quote": "parked"}), False,
         "(shop.on_reply.prices.quote is parked)", "posthouse inbox shop"),
        # --- waiting
        (told(call=call("waiting", key="k", key_held_by="a0")), False,
         "waits for its turn: a0, earlier with the key 'k', is not settled", "posthouse messages why a0"),
        (told(call=call("waiting", lane=lane(number=-1, is_full=True, pending=1000, waiting=4))), False,
         "1,000 requests to prices are under way, which is the most, and 4 wait", "posthouse inbox prices"),
        (told(call=call("waiting")), False, "waits for a number, which shop gives it within a second", ""),
        (told(call=call("waiting"), callers=0), False, "no instance of it is there", ""),
        # --- open, and not there yet
        (told(call=OPEN, instances=0), False, "nobody serves prices now (asked 9 s ago)", "Start prices"),
        (told(call=OPEN, instances=0, announced=False, store_here=None), False,
         "nobody has announced prices.quote here", "lanes retire 'shop->prices'"),
        (told(call=OPEN, store_here=None), False, "keeps its store elsewhere", "Look where that is"),
        (told(call=OPEN, request=request("")), False, "prices has not received it yet", "until it is answered"),
        (told(call=OPEN, request=request(""), callers=0), False, "nobody runs shop, which sends it", "Start shop"),
        (told(call=OPEN, store_here=StoreSeen("prices", "newstore-1", 1)), False,
         "another store of prices (prices-s) than is here now (newstore)", "lanes map 'shop->prices' newstore"),
        (told(call=OPEN, request=request("", forgotten=True)), False, "prices has forgotten its number", ""),
        # --- open, and there
        (told(call=OPEN, request=request("received")), False, "has it stored, for 5 s, and is busy", "inbox prices"),
        (told(call=OPEN, request=request("received"), instances=0), False,
         "has it stored, and nobody serves prices now", "Start prices"),
        (told(call=OPEN, request=request("received"), offered=""), False,
         "prices has it stored, and prices.quote is not offered any more", "Start a prices that has"),
        (told(call=OPEN, request=request("received"), offered="queued"), False,
         "prices has it stored, and prices.quote is queued by now, so that nobody runs", "or cancel it"),
        (told(call=OPEN, request=request("received"), offered="", instances=0), False, "nobody serves prices now",
         "Start prices"),
        (told(call=OPEN, request=request("received", may_run=False)), False,
         "a store was restored: prices runs it when shop has asked for it again", ""),
        (told(call=OPEN, request=request("received", failures=2, due=NOON + 30)), False,
         "has failed 2 times at prices, and is tried again in 30 s", ""),
        (told(call=OPEN, request=request("received", failures=1)), False, "has failed once at prices, and is due", ""),
        (told(call=OPEN, request=request("received", deaths=1)), False, "once an instance of prices died", ""),
        (told(call=OPEN, request=request("running", attempt=2, instance=RUNS)), False,
         "prices runs it, attempt 2, on instance 01234567 (pid 77 on box), for at most 5 s", ""),
        (told(call=OPEN, request=request("running", attempt=2, instance=GONE)), False,
         "(attempt 2) is gone; another takes it over", ""),
        (told(call=OPEN, request=request("running", attempt=2, instance=GONE), instances=0), False,
         "is gone, and no other is there", "Start prices"),
        (told(call=OPEN, request=request("parked"), letter=LETTER), False,
         "parked at prices after 8 attempts (handler.failed): no price", "`posthouse dead replay prices:3`"),
        (told(call=OPEN, request=request("parked")), False, "parked at prices: undecided", ""),
        (told(call=OPEN, request=request("done"), outcome=DONE), False, "done by prices, and shop is being told", ""),
        (told(call=OPEN, request=request("done"), outcome=DONE, callers=0), False,
         "done by prices, and nobody runs shop, which is to be told", ""),
        (told(call=call("cancel_wanted"), request=request("running", attempt=1, instance=RUNS)), False,
         "shop wants it no more and says so to prices; prices runs it", ""),
        # --- without a caller's store
        (told(request=request("done"), outcome=DONE), True, "done by prices", ""),
        (told(request=request("received"), instances=0), False, "nobody serves prices now", "Start prices"),
        (told(request=request("", forgotten=True), letter=LETTER), True, "only its dead letter is kept", "prices:3"),
    ],
)  # fmt: skip
def test_each_state_has_its_sentence(conversation: Conversation, settled: bool, says: str, does: str):
    answer = why(conversation, NOON)

    assert says in answer.why
    assert does in answer.do
    assert bool(does) == bool(answer.do)
    assert answer.settled is settled


def test_of_calls_within_calls_the_innermost_is_the_reason():
    inner = told(id="c3", operation="bank.charge", caller="stock", call=call("open"), instances=0)
    middle = told(id="b2", operation="stock.take", caller="prices", call=call("open"), inside=[inner])
    done = told(id="b1", operation="stock.look", caller="prices", call=call("done"), outcome=DONE)
    outer = told(call=OPEN, request=request("suspended"), inside=[done, middle])

    answer = why(outer, NOON)

    assert answer.why == (
        "its handler rests at prices until stock.take has answered; bank.charge (c3): nobody serves bank now (asked 9 s"
        " ago)"
    )
    assert answer.do == "Start bank: it is stored, and sent then."


def test_a_handler_that_rests_for_several_calls_says_so():
    waits = [told(id=f"b{number}", operation="stock.take", call=call("open")) for number in range(3)]

    answer = why(told(call=OPEN, request=request("suspended"), inside=waits), NOON)

    assert "until stock.take has answered, and 2 more;" in answer.why


def test_a_handler_that_runs_and_waits_for_a_call_says_both():
    waits = told(id="b1", operation="stock.take", call=call("open"), instances=0)

    answer = why(told(call=OPEN, request=request("running", instance=RUNS), inside=[waits]), NOON)

    assert "prices runs it" in answer.why
    assert "waits there for stock.take; stock.take (b1): nobody serves stock now" in answer.why


def test_the_letter_of_a_call_that_failed_within_is_named():
    inner = told(id="b1", operation="stock.take", call=call("not_done"), letter=LETTER)
    outer = told(call=call("not_done"), outcome=refused("handler.failed", "it broke"), inside=[inner])

    assert "posthouse dead show prices:3" in why(outer, NOON).do
