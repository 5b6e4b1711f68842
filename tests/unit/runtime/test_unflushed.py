"""What is queued on a disk that does not flush: nobody is told that nothing was stored, for it may be done."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from msgspec import Struct

from posthouse import NotStoredError, OutcomeUnknownError, Service
from posthouse.contracts.flushing import NotFlushedError
from posthouse.contracts.transport import Outgoing
from posthouse.testing.faulty import FaultyTransport
from tests.house import House, until

pytestmark = pytest.mark.anyio


class Step(Struct):
    number: int


class Unflushed(FaultyTransport):
    """Stores what it is given, and then cannot flush it."""

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these."""
        return self._unsure(super().send(messages))

    async def _unsure(self, stored: Awaitable[None]) -> None:
        await stored
        raise NotFlushedError("the disk could not be flushed (Input/output error)")


@pytest.mark.parametrize("asks", ["call", "send"])
async def test_who_asks_is_told_that_it_may_be_done_and_it_is(house: House, asks: str):
    steps, ran = Service("steps"), list[int]()

    @steps.handler(mode="queued")
    async def take(step: Step) -> int:
        ran.append(step.number)
        return step.number

    await house.serve(steps)
    host = await house.open(wrap=Unflushed)
    ask: Any = getattr(house.client_of(host), asks)

    with pytest.raises(OutcomeUnknownError, match="could not be flushed") as told:
        await ask(take, Step(1))

    assert not isinstance(told.value, NotStoredError)
    assert told.value.message_id is not None
    assert await until(lambda: _copied(ran), bool) == [1]


async def test_who_publishes_is_told_that_it_may_be_heard_and_it_is(house: House):
    steps = Service("steps")
    taken = steps.event("taken", Step, mode="queued")
    diary, heard = Service("diary"), list[int]()

    @diary.on(taken)
    async def note(step: Step) -> None:
        heard.append(step.number)

    await house.serve(diary)
    host = await house.serve(steps, wrap=Unflushed)

    with pytest.raises(OutcomeUnknownError, match=r"steps\.taken was stored"):
        await host.client("steps").publish(taken, Step(1))

    assert await until(lambda: _copied(heard), bool) == [1]


async def _copied(numbers: list[int]) -> list[int]:
    return list(numbers)
