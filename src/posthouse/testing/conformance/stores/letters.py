"""Dead letters and idempotency keys."""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.contracts.store import Books, Deceased, Key, Store
from posthouse.testing.clock import NOON
from posthouse.testing.conformance.stores.bench import OnOneStore, request

LETTER = Deceased(
    place=request(0).place,
    id=request(0).id,
    operation="prices.quote",
    frame=b"\0frame",
    state="parked",
    code="handler.failed",
    reason="there is no price",
    detail="Traceback ...",
    attempts=5,
    cause="c1",
    at=NOON + 0.5,
)


def letter(**changed: Any) -> Deceased:
    """Return a dead letter."""
    return msgspec.structs.replace(LETTER, **changed)


class LetterTests(OnOneStore):
    """Dead letters."""

    async def test_a_dead_letter_is_found_as_it_was_kept_with_the_next_number(self, store: Store, other: Store):
        def make(books: Books) -> None:
            books.add_dead(letter())
            books.add_dead(letter(state="failed", place=9))

        await store.commit(make, name="make")

        assert await other.read(lambda books: books.dead_letters()) == [
            letter(number=1),
            letter(state="failed", place=9, number=2),
        ]
        assert await other.read(lambda books: books.dead_letter(1)) == letter(number=1)
        assert await other.read(lambda books: books.dead_letter(3)) is None

    async def test_a_number_is_not_given_again(self, store: Store):
        def make(books: Books) -> None:
            books.add_dead(letter())
            books.add_dead(letter())
            books.drop_dead([1, 2])
            books.add_dead(letter())

        await store.commit(make, name="make")

        assert [each.number for each in await store.read(lambda books: books.dead_letters())] == [3]

    async def test_dead_letters_are_listed_by_operation_and_by_cause_in_pages(self, store: Store):
        def make(books: Books) -> None:
            for operation, cause in (("a.a", "x"), ("a.b", "x"), ("a.a", "y"), ("a.a", "x"), ("a.a", "x")):
                books.add_dead(letter(operation=operation, cause=cause))

        async def listed(**asked: Any) -> list[int]:
            return [each.number for each in await store.read(lambda books: books.dead_letters(**asked))]

        await store.commit(make, name="make")

        assert await listed(operation="a.a") == [1, 3, 4, 5]
        assert await listed(cause="x") == [1, 2, 4, 5]
        assert await listed(operation="a.a", cause="x", after=1, limit=1) == [4]
        assert await listed(operation="a.a", after=3) == [4, 5]
        assert await listed(after=1, limit=2) == [2, 3]
        assert (await store.read(lambda books: books.counts())).dead == 5

    async def test_the_newest_dead_letter_of_a_request_is_found(self, store: Store):
        def make(books: Books) -> None:
            books.add_dead(letter(reason="first"))
            books.add_dead(letter(reason="second"))
            books.add_dead(letter(place=9))

        await store.commit(make, name="make")

        found = await store.read(lambda books: books.dead_at(LETTER.place))
        assert found is not None
        assert found.reason == "second"
        assert await store.read(lambda books: books.dead_at(10)) is None


class KeyTests(OnOneStore):
    """Idempotency keys."""

    async def test_a_key_is_found_in_its_scope_until_it_is_dropped(self, store: Store, other: Store):
        key = Key("prices.quote", "k", b"digest", "0af1", NOON + 60)

        await store.commit(lambda books: books.add_key(key), name="add")
        found = await other.read(lambda books: books.key("prices.quote", "k"))
        elsewhere = await other.read(lambda books: books.key("deposit", "k"))
        await other.commit(lambda books: books.drop_key("prices.quote", "k"), name="drop")

        assert (found, elsewhere) == (key, None)
        assert await store.read(lambda books: books.key("prices.quote", "k")) is None

    async def test_a_key_that_is_kept_again_stands_for_the_new(self, store: Store):
        def make(books: Books) -> Key | None:
            books.add_key(Key("deposit", "k", b"a", "1", NOON))
            books.add_key(Key("deposit", "k", b"b", "2", NOON + 9))
            return books.key("deposit", "k")

        assert await store.commit(make, name="make") == Key("deposit", "k", b"b", "2", NOON + 9)

    async def test_keys_whose_time_is_over_go_a_thousand_at_once(self, store: Store):
        def make(books: Books) -> None:
            for number in range(1005):
                books.add_key(Key("deposit", f"{number}", b"", f"{number}", NOON + number))

        def forget(books: Books) -> tuple[int, int, int]:
            return tuple(len(books.forget_keys(NOON + 1003)) for _ in range(3))  # pyright: ignore[reportReturnType]

        await store.commit(make, name="make")

        assert await store.commit(forget, name="forget") == (1000, 3, 0)
        assert await store.read(lambda books: books.key("deposit", "1002")) is None
        assert await store.read(lambda books: books.key("deposit", "1003")) is not None
