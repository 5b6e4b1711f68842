"""A sound store that passes everything on, for those that break one thing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from posthouse.contracts.store import Books, Store, Tail
from posthouse.protocol.epoch import Identity


class Page:
    """Sound books."""

    def __init__(self, books: Books) -> None:
        self.books = books

    def __getattr__(self, name: str) -> Any:
        return getattr(self.books, name)


class Sound:
    """A sound store, on a sound one in memory."""

    page: ClassVar[Callable[[Books], Any]] = Page

    def __init__(self, make: Callable[[], Store]) -> None:
        self.inner = make()
        self.make = make

    @property
    def identity(self) -> Identity:
        """Pass it on."""
        return self.inner.identity

    @property
    def hold_limit(self) -> float:
        """Pass it on."""
        return self.inner.hold_limit

    @hold_limit.setter
    def hold_limit(self, limit: float) -> None:
        self.inner.hold_limit = limit

    async def open(self, *, schema: Sequence[str] = ()) -> None:
        """Pass it on."""
        await self.inner.open(schema=schema)

    async def close(self) -> None:
        """Pass it on."""
        await self.inner.close()

    def commit(
        self, step: Callable[[Books], Any], *, name: str, flush: bool = False, weight: int = 1
    ) -> asyncio.Future[Any]:
        """Hand the books over."""
        return self.inner.commit(lambda books: step(type(self).page(books)), name=name, flush=flush, weight=weight)

    def read(self, step: Callable[[Books], Any], *, name: str = "read") -> asyncio.Future[Any]:
        """Hand the books over."""
        return self.inner.read(lambda books: step(type(self).page(books)), name=name)

    async def tail(self) -> Tail:
        """Pass it on."""
        return await self.inner.tail()

    def reading(self) -> Any:
        """Pass it on."""
        return self.inner.reading()
