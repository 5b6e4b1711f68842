"""Idempotency keys in the books of who asks, and calls that he does not want any more."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.contracts.store import Books, Key, LaneOut, Life
from posthouse.errors import (
    IdempotencyConflictError,
    IdempotencyRunningError,
    OutcomeUnknownError,
    PosthouseError,
    QueueFullError,
)
from posthouse.protocol.lane import WINDOW
from posthouse.protocol.outbox import Call, CallState, Wants
from posthouse.runtime.journal.journal import Journal
from posthouse.runtime.steps.asking import Asked, Stored, store
from posthouse.runtime.steps.canceling import cancel
from posthouse.runtime.steps.wire import CANCELED, digest_of
from tests.house import House

pytestmark = pytest.mark.anyio

NOW = 1000.0


@pytest.fixture
async def journal(house: House) -> Journal:
    host = await house.open()
    host.journals.allow("gateway")
    journal = await host.journals.need("gateway")
    assert isinstance(journal, Journal)
    return journal


def asked(id: str, key: str = "", *, digest: bytes = b"tea", at: float = NOW, until: float = NOW + 60.0) -> Asked:
    under = Key("POST /orders", key, digest, id, until) if key else None
    digests = digest_of("shop.buy", digest)
    return Asked(id, "shop", "shop.buy", digest, digest=digests, time=at, wants=Wants.CALLER, idempotency=under)


async def ask(journal: Journal, *batch: Asked) -> list[Stored]:
    """Store calls in one step; nothing is sent."""
    result = await journal.store.commit(lambda books: store(books, batch, journal.here), name="test")
    return result.stored


async def settle(journal: Journal, id: str, state: CallState, outcome: bytes = CANCELED) -> None:
    """Have a call come to something."""

    def step(books: Books) -> None:
        call = books.call(id)
        assert call is not None
        books.set_calls([(state, outcome, 1, False, call.place)])

    await journal.store.commit(step, name="test")


async def calls(journal: Journal) -> list[str]:
    return sorted(call.id for call in await journal.store.read(lambda books: books.calls_listed()))


def errors(stored: list[Stored]) -> list[type[PosthouseError] | None]:
    return [None if each.error is None else type(each.error) for each in stored]


async def test_of_one_key_in_one_step_one_call_is_stored(journal: Journal):
    stored = await ask(journal, asked("a", "k"), asked("b", "k"), asked("c", "k", digest=b"coffee"), asked("d", "l"))

    assert errors(stored) == [None, IdempotencyRunningError, IdempotencyConflictError, None]
    assert stored[1].error is not None
    assert stored[1].error.message_id == "a"
    assert await calls(journal) == ["a", "d"]


async def test_a_key_whose_call_is_final_gives_that_call_and_stores_nothing(journal: Journal):
    await ask(journal, asked("a", "k"))
    await settle(journal, "a", CallState.NOT_DONE)

    [again] = await ask(journal, asked("b", "k"))

    assert again.earlier
    assert again.call is not None
    assert (again.call.id, again.call.outcome) == ("a", CANCELED)
    assert await calls(journal) == ["a"]


@pytest.mark.parametrize("state", [CallState.OPEN, CallState.CANCEL_WANTED, CallState.REDRIVING])
async def test_a_key_whose_call_is_open_says_so(journal: Journal, state: CallState):
    await ask(journal, asked("a", "k"))
    await settle(journal, "a", state, b"")

    assert errors(await ask(journal, asked("b", "k"))) == [IdempotencyRunningError]


async def test_a_key_whose_call_waits_for_a_number_says_so_too(journal: Journal):
    await ask(journal, *(asked(str(number)) for number in range(WINDOW)))
    [waits] = await ask(journal, asked("a", "k"))

    assert waits.call is not None
    assert waits.call.state is CallState.WAITING
    assert errors(await ask(journal, asked("b", "k"))) == [IdempotencyRunningError]


async def test_a_key_whose_call_is_forgotten_is_not_asked_again(journal: Journal):
    await ask(journal, asked("a", "k"))
    await settle(journal, "a", CallState.DONE)
    await journal.store.commit(
        lambda books: books.forget_calls(lane=1, below=1, before=NOW + 1, keep_bytes=0), name="test"
    )

    stored = await ask(journal, asked("b", "k"))

    assert errors(stored) == [OutcomeUnknownError]
    assert await calls(journal) == []


@pytest.mark.parametrize(("at", "is_free"), [(NOW + 59.9, False), (NOW + 60.0, True)])
async def test_a_key_is_free_when_its_time_is_over(journal: Journal, at: float, is_free: bool):
    await ask(journal, asked("a", "k"))

    stored = await ask(journal, asked("b", "k", digest=b"coffee", at=at, until=at + 60.0))

    assert errors(stored) == [None if is_free else IdempotencyConflictError]
    assert await calls(journal) == (["a", "b"] if is_free else ["a"])


async def test_what_was_not_stored_uses_no_key_up(journal: Journal):
    journal.here.capacity = 0

    stored = await ask(journal, asked("a", "k"))

    assert errors(stored) == [QueueFullError]
    assert await journal.store.read(lambda books: books.key("POST /orders", "k")) is None


async def test_keys_whose_time_is_over_are_dropped_however_many_they_are(journal: Journal):
    now = journal.here.now()
    old = [Key("POST /orders", str(number), b"", str(number), now + 1.0) for number in range(2_500)]
    new = Key("POST /orders", "new", b"", "new", now + 3600.0)

    def step(books: Books) -> None:
        for key in (*old, new):
            books.add_key(key)

    await journal.store.commit(step, name="test")
    await asyncio.sleep(63)

    left = await journal.store.read(lambda books: [key for key in (*old, new) if books.key(key.scope, key.key)])
    assert left == [new]


# --- canceling -------------------------------------------------------------------------------------------


async def test_a_call_that_waits_for_a_number_is_over_at_once_and_its_outcome_is_kept(journal: Journal):
    await ask(journal, *(asked(str(number)) for number in range(WINDOW)), asked("a"), asked("b"))

    found = await journal.store.commit(lambda books: cancel(books, "a", now=NOW), name="test")

    assert found is not None
    call, lane = found
    assert lane is not None
    assert (call.id, call.state, call.outcome) == ("a", CallState.NOT_DONE, CANCELED)
    assert (lane.waiting, lane.pending, lane.final.holds(WINDOW)) == (1, WINDOW, True)
    kept = await journal.call("a")
    assert kept is not None
    assert (kept.state, kept.outcome) == (CallState.NOT_DONE, CANCELED)
    assert lane == await journal.store.read(lambda books: books.lane_to("shop"))


async def test_a_call_that_waits_since_before_a_restore_may_have_been_sent_in_the_life_that_was_lost(journal: Journal):
    await ask(journal, *(asked(str(number)) for number in range(WINDOW)), asked("a"))

    def restored(books: Books) -> tuple[Call, LaneOut | None] | None:
        lives = [*books.lives(), Life(2, "restored", NOW + 3600.0)]
        books.lives = lambda: lives
        try:
            return cancel(books, "a", now=NOW)
        finally:
            del books.lives

    found = await journal.store.commit(restored, name="test")

    assert found is not None
    assert (found[0].id, found[0].state, found[0].outcome) == ("a", CallState.UNKNOWN, b"")


async def test_a_call_that_may_have_been_received_is_wanted_no_more_until_the_replier_has_spoken(journal: Journal):
    await ask(journal, asked("a"))

    for _ in range(2):
        found = await journal.store.commit(lambda books: cancel(books, "a", now=NOW), name="test")

        assert found is not None
        call, lane = found
        assert (call.state, call.outcome) == (CallState.CANCEL_WANTED, b"")
        assert lane is not None


@pytest.mark.parametrize("state", [CallState.DONE, CallState.NOT_DONE, CallState.UNKNOWN, CallState.CONFLICT])
async def test_a_call_that_is_final_stays_as_it_is(journal: Journal, state: CallState):
    await ask(journal, asked("a"))
    await settle(journal, "a", state)

    found = await journal.store.commit(lambda books: cancel(books, "a", now=NOW), name="test")

    kept: Call | None = await journal.call("a")
    assert found == (kept, None)
    assert kept is not None
    assert kept.state is state


async def test_of_a_call_that_was_never_made_nothing_is_found(journal: Journal):
    assert await journal.store.commit(lambda books: cancel(books, "a", now=NOW), name="test") is None
    assert not await journal.cancel("a")
