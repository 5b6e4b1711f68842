"""Lanes: one row each, as it was last saved."""

from __future__ import annotations

from posthouse.contracts.store import Books, LaneIn, LaneOut, Store
from posthouse.protocol.epoch import Identity
from posthouse.protocol.lane import SELF, Numbers
from posthouse.testing.conformance.stores.bench import SHOP, OnOneStore


class LaneTests(OnOneStore):
    """Both sides of lanes."""

    async def test_a_new_lane_out_is_of_the_present_epoch_and_empty(self, store: Store, other: Store):
        opened = await store.commit(lambda books: books.open_lane_out("stock"), name="open")

        assert opened == LaneOut(lane=1, service="stock", epoch=store.identity.epoch)
        assert await other.read(lambda books: books.lane_to("stock")) == opened

    async def test_there_is_no_lane_before_it_is_opened(self, store: Store):
        def look(books: Books) -> list[object]:
            return [books.lane_to("stock"), books.lane_out(1), books.lanes_out(), books.lane_from(SHOP)]

        assert await store.read(look) == [None, None, [], None]

    async def test_a_lane_out_is_as_it_was_saved(self, store: Store, other: Store):
        lane = LaneOut(
            lane=1,
            service="stock",
            epoch=store.identity.epoch,
            peer=Identity("stock-store", 3),
            next=30,
            final=Numbers(4, [(6, 8), (10, 10)]),
            pending=12,
            waiting=5,
            acked=2,
            closed=True,
        )
        await store.commit(lambda books: books.open_lane_out("stock"), name="open")
        await store.commit(lambda books: books.open_lane_out("mail"), name="open")

        await store.commit(lambda books: books.save_lane_out(lane), name="save")

        assert await other.read(lambda books: books.lane_out(1)) == lane
        assert await other.read(lambda books: books.lanes_out()) == [
            lane,
            LaneOut(lane=2, service="mail", epoch=store.identity.epoch),
        ]

    async def test_a_new_lane_in_is_found_by_its_caller_and_by_its_number(self, store: Store, other: Store):
        opened = await store.commit(lambda books: books.open_lane_in(SHOP, "shop"), name="open")

        assert opened == LaneIn(lane=1, caller=SHOP, service="shop")
        assert await other.read(lambda books: books.lane_from(SHOP)) == opened
        assert await other.read(lambda books: books.lane_in(1)) == opened
        assert await other.read(lambda books: books.lane_from(Identity(SHOP.id, 2))) is None

    async def test_a_lane_in_is_as_it_was_saved(self, store: Store, other: Store):
        lane = LaneIn(lane=1, caller=SHOP, service="shop", next=9, over=Numbers(2, [(4, 7)]), closed=True)
        await store.commit(lambda books: books.open_lane_in(SHOP, ""), name="open")
        await store.commit(lambda books: books.open_lane_in(Identity(SHOP.id, 2), "shop"), name="open")

        await store.commit(lambda books: books.save_lane_in(lane), name="save")

        assert await other.read(lambda books: books.lane_in(1)) == lane
        assert await other.read(lambda books: books.lane_in(2)) == LaneIn(
            lane=2, caller=Identity(SHOP.id, 2), service="shop"
        )

    async def test_the_lane_of_the_store_to_itself_is_always_there(self, store: Store):
        [own] = await store.read(lambda books: books.lanes_in())
        first = own.next

        own.next = 3
        own.over.raise_to(2)
        await store.commit(lambda books: books.save_lane_in(own), name="save")

        assert (own.lane, first) == (SELF, 1)
        assert await store.read(lambda books: books.lane_in(SELF)) == own
        assert await store.read(lambda books: books.lane_from(store.identity)) is None

    async def test_nothing_was_over_when_the_first_life_began(self, store: Store):
        def make(books: Books) -> dict[int, Numbers]:
            lane = books.open_lane_in(SHOP, "shop")
            lane.over.raise_to(4)
            books.save_lane_in(lane)
            return books.floors_at(store.identity.epoch)

        assert await store.commit(make, name="make") == {}

    async def test_the_newest_epoch_of_a_caller_is_the_highest_that_was_heard_of(self, store: Store, other: Store):
        def hear(books: Books) -> list[int]:
            heard = [books.newest_epoch(SHOP.id)]
            books.open_lane_in(Identity(SHOP.id, 4), "shop")
            heard.append(books.newest_epoch(SHOP.id))
            books.hear_epoch(SHOP.id, 7)
            books.hear_epoch(SHOP.id, 5)
            books.open_lane_in(Identity(SHOP.id, 6), "shop")
            return [*heard, books.newest_epoch(SHOP.id), books.newest_epoch("another")]

        assert await store.commit(hear, name="hear") == [0, 4, 7, 0]
        assert await other.read(lambda books: books.newest_epoch(SHOP.id)) == 7
