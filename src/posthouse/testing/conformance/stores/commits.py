"""Steps: what is committed is there, all of it or nothing, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from posthouse.errors import StorageError, UnavailableError, UsageError
from posthouse.testing.conformance.stores.bench import (
    TABLES,
    MakeStore,
    OnOneStore,
    OpenStore,
    call,
    lane_with,
    numbers,
    order,
    orders,
)

if TYPE_CHECKING:
    from posthouse.contracts.store import Books, Store


class CommitTests(OnOneStore):
    """Steps, opening and closing."""

    # --- who it is -------------------------------------------------------------------------------------

    async def test_all_instances_open_the_same_store_in_its_first_epoch(self, store: Store, other: Store):
        assert store.identity == other.identity
        assert len(store.identity.id) == 32
        assert store.identity.epoch == 1

    async def test_a_store_is_the_same_when_it_is_opened_again(self, make_store: MakeStore):
        first = make_store("one")
        await first.open()
        await first.close()

        again = make_store("one")
        await again.open()
        await again.close()

        assert again.identity == first.identity

    async def test_the_books_know_which_store_they_are_of(self, store: Store):
        assert await store.commit(lambda books: books.identity, name="ask") == store.identity
        assert await store.read(lambda books: books.identity) == store.identity

    # --- steps -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("flush", [True, False])
    async def test_what_a_step_returns_is_told_and_what_it_wrote_is_there_for_all(
        self, flush: bool, store: Store, other: Store
    ):
        told = await store.commit(lambda books: lane_with(books, [call(0)]), name="make", flush=flush)

        assert told == 1
        assert await other.read(lambda books: books.calls_at([call(0).place])) == [call(0)]

    async def test_steps_of_one_turn_run_in_order_and_see_what_was_written_before_them(self, store: Store):
        steps = [
            store.commit(lambda books: lane_with(books, [call(0)]), name="make"),
            store.read(lambda books: len(books.lanes_out())),
            store.commit(lambda books: books.open_lane_out("mail").lane, name="more", flush=True),
            store.read(lambda books: len(books.lanes_out())),
        ]

        assert await asyncio.gather(*steps) == [1, 1, 2, 2]

    async def test_a_step_that_fails_has_written_nothing_and_takes_nobody_along(self, store: Store):
        def fail(books: Books) -> None:
            books.open_lane_out("nowhere")
            raise UsageError("not like this")

        steps: list[asyncio.Future[Any]] = [
            store.commit(lambda books: books.open_lane_out("stock").lane, name="before"),
            store.commit(fail, name="fail", flush=True),
            store.commit(lambda books: books.open_lane_out("mail").lane, name="after", flush=True),
        ]
        results = await asyncio.gather(*steps, return_exceptions=True)

        assert [results[0], results[2]] == [1, 2]
        assert isinstance(results[1], UsageError)
        assert [lane.service for lane in await store.read(lambda books: books.lanes_out())] == ["stock", "mail"]

    async def test_a_step_with_a_slip_in_it_fails_alone(self, store: Store):
        def slip(books: Books) -> None:
            books.open_lane_out("nowhere")
            raise ZeroDivisionError

        good = store.commit(lambda books: books.open_lane_out("stock").lane, name="good")
        bad = store.commit(slip, name="bad")

        with pytest.raises(ZeroDivisionError):
            await bad
        assert await good == 1
        assert len(await store.read(lambda books: books.lanes_out())) == 1

    async def test_what_was_committed_stays_although_nobody_waits_for_it_any_more(self, store: Store):
        committing = store.commit(lambda books: books.open_lane_out("stock"), name="make")

        committing.cancel()

        assert len(await store.read(lambda books: books.lanes_out())) == 1

    async def test_many_steps_of_both_instances_all_take_place(self, store: Store, other: Store):
        lane = await store.commit(lambda books: books.open_lane_out("stock").lane, name="make")

        def add(number: int) -> asyncio.Future[None]:
            each = (store, other)[number % 2]
            return each.commit(
                lambda books: books.add_calls([call(number, lane=lane)]), name="add", flush=number % 3 == 0
            )

        await asyncio.gather(*map(add, range(1200)))

        assert len(await other.read(lambda books: books.standings(lane, 0, 5000))) == 1200

    async def test_steps_of_any_weight_are_all_done_in_order(self, store: Store):
        done: list[int] = []
        steps = [
            store.commit(lambda books, number=number: done.append(number), name="weigh", weight=10**number)
            for number in range(8)
        ]

        await asyncio.gather(*steps)

        assert done == list(range(8))

    # --- opening and closing -------------------------------------------------------------------------------

    async def test_what_was_committed_is_there_when_the_store_is_opened_again(
        self, make_store: MakeStore, open_store: OpenStore
    ):
        first = make_store("one")
        await first.open()
        await first.commit(lambda books: lane_with(books, [call(0), call(1)]), name="make")
        await first.close()

        store = await open_store("one")

        assert numbers(await store.read(lambda books: books.calls_listed())) == [1, 0]

    async def test_closing_finishes_the_steps_that_were_given(self, make_store: MakeStore, open_store: OpenStore):
        closing = make_store("one")
        await closing.open()
        step = closing.commit(lambda books: books.open_lane_out("stock").lane, name="make", flush=True)

        await closing.close()

        assert await step == 1
        store = await open_store("two")
        assert len(await store.read(lambda books: books.lanes_out())) == 1

    async def test_a_store_that_is_not_open_says_so(self, make_store: MakeStore):
        store = make_store("one")
        before = store.commit(lambda books: books.open_lane_out("stock"), name="too early")
        await store.open()
        await store.close()
        after = store.read(lambda books: books.lanes_out())

        for step in (before, after):
            with pytest.raises(UnavailableError):
                await step
        with pytest.raises(UnavailableError):
            await store.tail()

    async def test_closing_sends_away_who_has_the_write_slot_and_who_waits_for_it(
        self, make_store: MakeStore, open_store: OpenStore
    ):
        closing = make_store("one")
        await closing.open(schema=TABLES)
        tail = await closing.tail()
        await order(tail, 1)
        waits = asyncio.ensure_future(closing.tail())
        await asyncio.sleep(0)

        await closing.close()

        with pytest.raises(UnavailableError):
            await tail.end(lambda books: None)
        with pytest.raises(UnavailableError):
            await waits
        assert await orders(await open_store("two")) == []

    # --- the user's own tables ---------------------------------------------------------------------------------

    async def test_each_script_is_run_once_and_a_new_one_when_it_comes(self, make_store: MakeStore):
        scripts = ["CREATE TABLE counted (n INTEGER)", "INSERT INTO counted VALUES (1)"]
        for schema in (scripts[:1], scripts, scripts):
            store = make_store("one")
            await store.open(schema=schema)
            async with store.reading() as rows:
                found = await rows.execute("SELECT count(*) FROM counted")
            await store.close()

        assert found == [(1,)]  # pyright: ignore[reportPossiblyUnboundVariable]

    async def test_a_program_of_before_with_fewer_scripts_opens_the_store_too(self, make_store: MakeStore):
        newer, older = make_store("one"), make_store("two")
        await newer.open(schema=TABLES)
        await newer.close()

        await older.open(schema=TABLES[:1])
        found = await orders(older)
        await older.close()

        assert found == []

    async def test_a_script_that_was_run_cannot_be_changed(self, make_store: MakeStore):
        store, changed = make_store("one"), make_store("one")
        await store.open(schema=TABLES)
        await store.close()

        with pytest.raises(StorageError, match=r"script 1 .* was changed") as refusal:
            await changed.open(schema=["CREATE TABLE orders (id INTEGER)", TABLES[1]])

        assert "behind the last one" in refusal.value.hint

    async def test_when_a_script_fails_nothing_of_it_is_kept_and_the_store_is_not_open(self, make_store: MakeStore):
        store, mended = make_store("one"), make_store("one")

        with pytest.raises(StorageError, match="script 2"):
            await store.open(schema=[TABLES[0], "CREATE TABLE more (n INTEGER); CREATE TABLE nonsense"])

        with pytest.raises(UnavailableError):
            await store.commit(lambda books: None, name="try")
        await mended.open(schema=[TABLES[0], "CREATE TABLE more (n INTEGER)"])
        assert await orders(mended) == []
        await mended.close()

    @pytest.mark.parametrize(
        "script", ["DROP TABLE orders; COMMIT", "CREATE TABLE posthouse_mine (n INTEGER)", "PRAGMA user_version = 7"]
    )
    async def test_a_script_keeps_to_the_user_s_own(self, script: str, make_store: MakeStore):
        store, again = make_store("one"), make_store("one")

        with pytest.raises(StorageError, match="script 3"):
            await store.open(schema=[*TABLES, script])

        await again.open(schema=TABLES)
        assert await orders(again) == []
        await again.close()
