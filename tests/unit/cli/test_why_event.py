"""Why an event is not handled everywhere, and what should be seen to: the sentence for each state."""

from __future__ import annotations

from typing import Any

import pytest

from posthouse.cli.conversation import InstanceSeen, LetterSeen, StoreSeen
from posthouse.cli.event_findings import FAR, SOON, of_streams, of_subscriptions
from posthouse.cli.events import EventSeen, HeardSeen
from posthouse.cli.feeds import FeedRow, SubscriptionRow
from posthouse.cli.streams import StreamRow
from posthouse.cli.why_event import why
from posthouse.protocol.epoch import Identity
from posthouse.testing.clock import NOON

RUNS = InstanceSeen("0123456789abcdef", 77, "box", there=True)
GONE = InstanceSeen("0123456789abcdef")
LETTER = LetterSeen(
    id="audit:3", state="parked", code="handler.failed", reason="it broke", attempts=8, cause="c1", at=NOON
)


def heard(state: str, **changed: Any) -> HeardSeen:
    values: dict[str, Any] = {
        "subscription": "audit.note", "store": StoreSeen("audit", "audit-store", 1), "declared": True, "instances": 1,
        "since": NOON - 99, "floor": 7, "due": NOON - 5, **changed,
    }  # fmt: skip
    return HeardSeen(state=state, **values)


def told(*by: HeardSeen, **changed: Any) -> EventSeen:
    values: dict[str, Any] = {"kept": True, "until": NOON + 99, "instances": 1, **changed}
    return EventSeen(
        id="e1", event="prices.quoted", publisher="prices", told=NOON - 9, stream=Identity("prices-store", 1), number=7,
        heard=list(by), **values,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("event", "says", "does"),
    [
        (told(heard("missing", instances=0)), "no instance is there; the first that comes asks", "Start audit."),
        (told(heard("missing"), instances=0), "no instance of prices is there to be asked", "Start prices."),
        (told(heard("missing", floor=4)), "3 events before it may not be over yet", "posthouse subscriptions"),
        (told(heard("missing")), "which asks for it within seconds", ""),
        (told(heard("missing"), kept=False), "does not keep it any more", ""),
        (told(heard("received", instances=0)), "no instance of it is there", "Start audit."),
        (told(heard("received", due=NOON + 5, failures=2)), "failed 2 times; audit runs it again in 5 s", ""),
        (told(heard("received")), "is busy with others", ""),
        (told(heard("running", attempt=2, instance=RUNS)), "attempt 2, on instance 01234567 (pid 77 on box)", ""),
        (told(heard("running", instance=GONE)), "another takes it over", ""),
        (told(heard("running", instance=GONE, instances=0)), "no other is there", "Start audit."),
        (told(heard("suspended")), "rests at audit until a call of its own is answered", ""),
        (told(heard("parked", letter=LETTER)), "parked after 8 attempts (handler.failed)", "dead replay audit:3"),
        (told(heard("unseen", store=None)), "the store of audit is not here", ""),
    ],
)  # fmt: skip
def test_what_is_not_over_is_told_with_its_reason_and_what_to_do(event: EventSeen, says: str, does: str):
    answer = why(event, NOON)

    assert not answer.settled
    assert answer.why.startswith("audit.note: ")
    assert says in answer.why
    assert does in answer.do
    assert bool(answer.do) == bool(does)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (told(), "nobody has subscribed to prices.quoted"),
        (told(heard("had")), "over at audit.note"),
        (told(heard("failed", letter=LETTER)), "it failed at audit.note (handler.failed): it broke"),
        (told(heard("missing", declared=False)), "nobody who hears prices.quoted is declared any more"),
        (told(heard("had"), heard("missing", subscription="mail.note", declared=False)), "over at audit.note"),
    ],
)
def test_what_is_over_everywhere_is_settled(event: EventSeen, says: str):
    answer = why(event, NOON)

    assert answer.settled
    assert says in answer.why


def test_what_needs_a_person_is_told_before_what_ends_by_itself():
    running = heard("running", subscription="a.note", instance=RUNS)
    parked = heard("parked", subscription="b.note", letter=LETTER)
    had = heard("had", subscription="c.note")

    answer = why(told(running, parked, had), NOON)

    assert answer.why.startswith("b.note: parked")
    assert answer.why.endswith("; not over at 1 other subscription either; over at c.note")


def subscription(behind: int, *, lost_at: float = 0.0, **changed: Any) -> SubscriptionRow:
    feed = FeedRow(
        store="s",
        epoch=1,
        floor=0,
        ranges=[],
        next=0,
        head=behind,
        told=None,
        kept=None,
        behind=behind,
        lost_at=lost_at,
    )
    values: dict[str, Any] = {"declared": True, "instances": 1, **changed}
    return SubscriptionRow(
        name="audit.note", topic="prices.quoted", publisher="prices", mode="journaled", behind=behind, feeds=[feed],
        **values,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "says", "does"),
    [
        (subscription(FAR), "10,000 events behind", "posthouse inbox audit"),
        (subscription(FAR, instances=0), "10,000 events behind", "Start audit."),
        (subscription(1, lost_at=NOON + 60), "prices drops the oldest of them in 60 s", "posthouse inbox audit"),
        (subscription(1, declared=False, parked=2), "it has 2 events left", "posthouse subscriptions drop audit.note"),
    ],
)
def test_a_subscription_that_should_be_seen_to_is_told(row: SubscriptionRow, says: str, does: str):
    [seen] = of_subscriptions([row], NOON)

    assert seen.what == "audit.note"
    assert says in seen.text
    assert does in seen.hint


def test_a_subscription_that_keeps_up_or_is_over_and_empty_is_not_told():
    rows = [subscription(FAR - 1), subscription(1, lost_at=NOON + SOON), subscription(FAR, declared=False)]

    assert list(of_subscriptions(rows, NOON)) == []


@pytest.mark.parametrize(("size", "is_told"), [(79, False), (80, True)])
def test_a_stream_near_its_limit_is_told(size: int, is_told: bool):
    row = StreamRow(
        topic="prices.quoted", store="s", epoch=1, present=True, first=0, next=9, bytes=size, limit=100, oldest=NOON,
        retain=60.0, hearers=[],
    )  # fmt: skip

    assert [seen.what for seen in of_streams([row])] == (["prices.quoted"] if is_told else [])
