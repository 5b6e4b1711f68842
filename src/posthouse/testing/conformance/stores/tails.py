"""A handler's transaction: the user's rows and what ends the delivery, together or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from posthouse.errors import GroupLostError, SqlError, StoreHeldError, UsageError
from posthouse.testing.conformance.stores.bench import OnOneStore, call, lane_with, order, orders

if TYPE_CHECKING:
    from posthouse.contracts.store import Books, Store, Tail

NEVER = 1000.0
"""More seconds than any test here takes."""


def nothing(books: Books) -> None:
    """End a delivery with no row of ours."""


def refuse(books: Books) -> None:
    """Write something, and fail."""
    books.open_lane_out("nowhere")
    raise UsageError("it is not mine any more")


class TailTests(OnOneStore):
    """Handlers' transactions."""

    async def test_the_user_s_rows_and_the_end_of_the_delivery_are_there_together(self, store: Store, other: Store):
        tail = await store.tail()
        await order(tail, 1)

        told = await tail.end(lambda books: lane_with(books, [call(0)]))

        assert told == 1
        assert await orders(other) == [1]
        assert len(await other.read(lambda books: books.lanes_out())) == 1

    async def test_nothing_of_a_handler_is_seen_before_it_has_ended(self, store: Store, other: Store):
        tail = await store.tail()
        await order(tail, 1)
        mine = await tail.execute("SELECT id FROM orders")

        theirs = await orders(other)

        assert (mine, theirs) == ([(1,)], [])
        tail.give_up()

    async def test_when_the_step_that_ends_it_fails_nothing_is_kept(self, store: Store):
        tail = await store.tail()
        await order(tail, 1)

        with pytest.raises(UsageError):
            await tail.end(refuse)

        assert await orders(store) == []
        assert await store.read(lambda books: books.lanes_out()) == []

    async def test_what_is_given_up_is_rolled_back(self, store: Store):
        tail = await store.tail()
        await order(tail, 1)

        tail.give_up()

        await store.commit(nothing, name="what comes after it")
        assert await orders(store) == []

    async def test_giving_up_after_the_end_changes_nothing(self, store: Store):
        tail = await store.tail()
        await order(tail, 1)
        ending = tail.end(nothing)

        tail.give_up()

        await ending
        assert await orders(store) == [1]

    async def test_after_its_end_it_takes_nothing_more(self, store: Store):
        tail = await store.tail()
        await tail.end(nothing)

        with pytest.raises(UsageError):
            await order(tail, 1)
        with pytest.raises(UsageError):
            await tail.end(nothing)

    # --- whose turn it is ------------------------------------------------------------------------------------

    async def test_the_slot_goes_to_who_came_first(self, store: Store, other: Store):
        order_of: list[int] = []

        async def handle(each: Store, number: int) -> None:
            tail = await each.tail()
            order_of.append(number)
            await order(tail, number)
            await tail.end(nothing)

        handlers: list[asyncio.Future[None]] = []
        for number, each in enumerate([store] * 20):
            handlers.append(asyncio.ensure_future(handle(each, number)))
            await asyncio.sleep(0)
        await asyncio.gather(*handlers)

        assert order_of == list(range(20))
        assert await orders(other) == order_of

    async def test_handlers_of_all_instances_get_their_turn(self, store: Store, other: Store):
        async def handle(each: Store, number: int) -> None:
            tail = await each.tail()
            await order(tail, number)
            await tail.end(nothing)

        await asyncio.gather(*(handle((store, other)[number % 2], number) for number in range(300)))

        assert await orders(store) == list(range(300))

    async def test_steps_that_come_while_a_handler_has_the_slot_are_committed_after_it(self, store: Store):
        tail = await store.tail()
        await order(tail, 1)
        step = store.commit(lambda books: books.open_lane_out("stock").lane, name="meanwhile", flush=True)
        await asyncio.sleep(0)
        early = step.done()

        ending = tail.end(lambda books: len(books.lanes_out()))

        assert not early
        assert await ending == 0
        assert await step == 1

    async def test_one_who_fails_takes_nobody_along(self, store: Store):
        async def handle(number: int) -> None:
            tail = await store.tail()
            await order(tail, number)
            if number == 2:
                tail.give_up()
                return
            await tail.end(refuse if number == 1 else nothing)

        ends = await asyncio.gather(*(handle(number) for number in range(4)), return_exceptions=True)

        assert [type(end) for end in ends] == [type(None), UsageError, type(None), type(None)]
        assert await orders(store) == [0, 3]

    async def test_a_step_that_fails_beside_a_handler_takes_it_not_along(self, store: Store):
        tail = await store.tail()
        await order(tail, 1)
        steps: list[asyncio.Future[Any]] = [
            store.commit(refuse, name="fail"),
            store.commit(lambda books: books.open_lane_out("stock").lane, name="good"),
        ]

        await tail.end(nothing)

        failed, good = await asyncio.gather(*steps, return_exceptions=True)
        assert isinstance(failed, UsageError)
        assert good == 1
        assert await orders(store) == [1]

    async def test_one_that_is_canceled_while_it_waits_keeps_the_slot_from_nobody(self, store: Store):
        tail = await store.tail()
        gone = asyncio.ensure_future(store.tail())
        waits = asyncio.ensure_future(store.tail())
        await asyncio.sleep(0)

        gone.cancel()
        tail.give_up()

        async with asyncio.timeout(self.patience):
            (await waits).give_up()

    async def test_one_that_is_canceled_just_as_it_gets_the_slot_keeps_it_from_nobody(self, store: Store):
        tail = await store.tail()
        gone = asyncio.ensure_future(store.tail())
        await asyncio.sleep(0)
        tail.give_up()

        for _ in range(3):  # at one of these turns of the loop it is given the slot
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        if not gone.cancelled():
            gone.result().give_up()

        async with asyncio.timeout(self.patience):
            (await store.tail()).give_up()

    async def test_one_that_holds_the_slot_for_too_long_is_rolled_back_and_the_others_go_on(self, store: Store):
        store.hold_limit = 0.01
        tail = await store.tail()
        await order(tail, 1)
        store.hold_limit = NEVER

        async with asyncio.timeout(self.patience):
            following = await store.tail()

        with pytest.raises(StoreHeldError):
            await order(tail, 2)
        with pytest.raises(StoreHeldError):
            await tail.end(nothing)
        await order(following, 3)
        await following.end(nothing)
        assert await orders(store) == [3]

    # --- the user's statements ----------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("statement", "values", "constraint"),
        [
            ("INSERT INTO orders VALUES (2, 'order 1')", (), True),
            ("INSERT INTO orders VALUES (2, NULL)", (), True),
            ("INSERT INTO nowhere VALUES (2)", (), False),
            ("SELEKT 1", (), False),
            ("SELECT ?", (), False),
            ("SELECT :one", {"two": 2}, False),
            ("INSERT INTO orders VALUES (2, ?)", (object(),), False),
        ],
    )
    async def test_a_wrong_statement_is_refused_with_a_reason_and_changes_nothing(
        self, statement: str, values: tuple[object, ...], constraint: bool, store: Store
    ):
        tail = await store.tail()
        await order(tail, 1)

        with pytest.raises(SqlError) as refusal:
            await tail.execute(statement, values)

        assert refusal.value.constraint is constraint
        assert statement in str(refusal.value)
        await tail.end(nothing)
        assert await orders(store) == [1]

    @pytest.mark.parametrize(
        "statement",
        [
            "COMMIT",
            "ROLLBACK",
            "BEGIN IMMEDIATE",
            "SAVEPOINT mine",
            "ROLLBACK TO tail",
            "RELEASE tail",
            "ATTACH ':memory:' AS mine",
            "PRAGMA foreign_keys = OFF",
            "SELECT * FROM posthouse_calls",
            "DELETE FROM POSTHOUSE_CALLS",
            "DROP TABLE posthouse_calls",
            "CREATE TABLE posthouse_mine (n INTEGER)",
            "CREATE TEMP TABLE posthouse_calls (n INTEGER)",
            "CREATE TEMP TABLE mine (n INTEGER)",
            "CREATE TEMP VIEW mine AS SELECT * FROM orders",
            "CREATE TRIGGER mine AFTER INSERT ON posthouse_calls BEGIN SELECT 1; END",
            "CREATE VIEW mine AS SELECT 1; SELECT count(*) FROM posthouse_requests",
        ],
    )
    async def test_a_statement_on_what_is_not_the_user_s_is_refused(self, statement: str, store: Store):
        tail = await store.tail()
        await order(tail, 1)

        with pytest.raises(SqlError) as refusal:
            await tail.execute(statement)

        assert refusal.value.hint
        await tail.end(nothing)
        assert await orders(store) == [1]

    async def test_of_several_statements_at_once_none_stays_when_the_last_fails(self, store: Store):
        tail = await store.tail()

        with pytest.raises(SqlError):
            await tail.execute("INSERT INTO orders VALUES (1, 'one'); INSERT INTO orders VALUES (1, 'two')")

        await tail.end(nothing)
        assert await orders(store) == []

    async def test_many_rows_are_written_all_or_none(self, store: Store):
        tail = await store.tail()
        await tail.executemany("INSERT INTO orders VALUES (?, ?)", [(1, "one"), (2, "two")])

        with pytest.raises(SqlError):
            await tail.executemany("INSERT INTO orders VALUES (:id, :what)", [{"id": 3, "what": "x"}] * 2)

        await tail.end(nothing)
        assert await orders(store) == [1, 2]

    async def test_a_row_that_is_missing_at_the_end_fails_that_handler_alone(self, store: Store):
        async def handle(number: int) -> None:
            tail = await store.tail()
            await order(tail, number)
            await tail.execute("INSERT INTO parts VALUES (?)", (99 if number == 1 else number,))
            await tail.end(nothing)

        ends = await asyncio.gather(*(handle(number) for number in range(3)), return_exceptions=True)

        assert ends[0] is ends[2] is None
        assert isinstance(ends[1], SqlError)
        assert ends[1].constraint
        assert await orders(store) == [0, 2]

    async def test_who_rolls_back_more_than_is_his_fails_and_the_others_lose_nothing(self, store: Store):
        async def handle(number: int) -> None:
            while True:
                tail = await store.tail()
                try:
                    await order(tail, number)
                    if number == 1:
                        await tail.execute("INSERT OR ROLLBACK INTO orders VALUES (1, 'twice')")
                    await tail.end(nothing)
                except GroupLostError:
                    continue  # as the runtime does
                finally:
                    tail.give_up()
                return

        async with asyncio.timeout(self.patience):
            ends = await asyncio.gather(*(handle(number) for number in range(4)), return_exceptions=True)

        assert [type(end) for end in ends] == [type(None), SqlError, type(None), type(None)]
        assert await orders(store) == [0, 2, 3]

    async def test_what_a_handler_writes_after_such_a_rollback_is_not_kept(self, store: Store):
        tail = await store.tail()
        await order(tail, 1)
        with pytest.raises(SqlError):
            await tail.execute("INSERT OR ROLLBACK INTO orders VALUES (1, 'twice')")

        with pytest.raises(SqlError):
            await order(tail, 2)
        with pytest.raises(SqlError):
            await tail.end(nothing)

        assert await orders(store) == []

    # --- reading --------------------------------------------------------------------------------------------------

    async def test_who_reads_sees_one_moment_and_holds_nobody_up(self, store: Store, other: Store):
        async def write(each: Store, number: int) -> None:
            tail: Tail = await each.tail()
            await order(tail, number)
            await tail.end(nothing)

        await write(store, 1)
        async with store.reading() as rows:
            before = await rows.execute("SELECT count(*) FROM orders")
            await write(store, 2)
            await write(other, 3)
            after = await rows.execute("SELECT count(*) FROM orders")

        assert before == after == [(1,)]
        assert await orders(store) == [1, 2, 3]

    async def test_who_reads_beside_a_handler_s_transaction_sees_what_was_before_it(self, store: Store, other: Store):
        tail = await store.tail()
        await order(tail, 1)

        async with asyncio.timeout(self.patience), store.reading() as mine, other.reading() as theirs:
            before = [await rows.execute("SELECT id FROM orders") for rows in (mine, theirs)]
            await tail.end(nothing)
            after = [await rows.execute("SELECT id FROM orders") for rows in (mine, theirs)]

        assert before == after == [[], []]
        assert await orders(store) == [1]

    async def test_who_reads_cannot_write(self, store: Store):
        async with store.reading() as rows:
            with pytest.raises(SqlError):
                await rows.execute("INSERT INTO orders VALUES (1, 'one')")
            with pytest.raises(SqlError):
                await rows.execute("SELECT * FROM posthouse_calls")

        with pytest.raises(UsageError):
            await rows.execute("SELECT 1")
        assert await orders(store) == []
