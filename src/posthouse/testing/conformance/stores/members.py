"""Instances: who has the store open, and who is gone."""

from __future__ import annotations

from posthouse.contracts.store import Books, Member, Store
from posthouse.protocol.outbox import CallState
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import OnOneStore, call, lane_with, request, running, waiting


class MemberTests(OnOneStore):
    """Instances."""

    async def test_who_has_beaten_is_a_member_until_it_leaves(self, store: Store, other: Store):
        await store.commit(lambda books: books.beat("one", NOON + 15), name="beat")
        await other.commit(lambda books: books.beat("two", NOON + 15), name="beat")
        await store.commit(lambda books: books.beat("one", NOON + 20), name="beat")
        before = await store.read(lambda books: books.members())

        await store.commit(lambda books: books.leave("one"), name="leave")

        assert before == [Member("one", NOON + 20), Member("two", NOON + 15)]
        assert await other.read(lambda books: books.members()) == [Member("two", NOON + 15)]

    async def test_who_does_not_beat_is_dead_when_its_lease_is_over(self, store: Store):
        def make(books: Books) -> None:
            books.beat("one", NOON + 15)
            books.beat("two", NOON + 20)

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.dead(NOON + 14)) == []
        assert await store.read(lambda books: books.dead(NOON + 15)) == ["one"]
        assert await store.read(lambda books: books.dead(NOON + 30)) == ["one", "two"]

    async def test_who_is_no_member_and_has_left_rows_is_dead(self, store: Store):
        def make(books: Books) -> None:
            books.beat("one", NOON + 15)
            books.add_requests(
                [running(0), running(1, instance="runs"), request(2, state=running(0).state.DONE, instance="decided")]
            )
            lane_with(books, [call(0), call(1, owner="asks"), call(2, owner="settled", state=CallState.DONE)])
            lane = books.lane_out(1)
            assert lane is not None
            lane.final.add(2)
            books.save_lane_out(lane)

        await store.commit(make, name="make")

        assert await store.read(lambda books: books.dead(NOON)) == ["asks", "runs"]

    async def test_what_waits_for_a_number_makes_nobody_dead(self, store: Store):
        await store.commit(lambda books: books.add_waiting([waiting(0, owner="gone")]), name="wait")

        assert await store.read(lambda books: books.dead(NOON)) == []
