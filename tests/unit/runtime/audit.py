"""What tests of journaled events are tried out with: prices that are quoted, and a service that hears of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from posthouse import Context, Event, Service
from posthouse.contracts.store import Books
from posthouse.message.codec import decode
from posthouse.message.message import Kind
from posthouse.runtime.steps.intervening import Did
from tests.house import House, until


class Price(Struct):
    number: int


LATER = 12.0
"""By then each subscription has asked its publishers twice more."""

quoted: Event[Price] = Event("prices.quoted", Price, mode="journaled")

brief: Event[Price] = Event("prices.quoted", Price, mode="journaled", retain="2m")
"""The same one, and kept for a shorter time."""


def publisher() -> Service:
    """Return a service that publishes; nobody else may."""
    prices = Service("prices")
    prices.event("quoted", Price, mode="journaled")
    return prices


class Audit:
    """A service that writes down what it hears: in a list, and in a table of its own."""

    def __init__(self, name: str = "audit", *, capacity: int = 1000, **how: Any) -> None:
        self.service = Service(name, capacity=capacity, schema=["CREATE TABLE heard (number INTEGER)"])
        self.ran: list[int] = []
        self.name = f"{name}.note"

        async def note(price: Price, ctx: Context) -> None:
            self.ran.append(price.number)
            db = await ctx.transaction()
            await db.execute("INSERT INTO heard VALUES (?)", (price.number,))

        self.service.on(quoted, **how)(note)

    async def heard(self, house: House) -> list[int]:
        rows = await house.rows(self.service.name, "SELECT number FROM heard ORDER BY number")
        return [number for (number,) in rows]

    async def hears(self, house: House, numbers: Any) -> None:
        """Wait until it has heard these, each once, and then a little longer."""
        wanted = sorted(numbers)
        await until(lambda: self.heard(house), lambda heard: len(heard) >= len(wanted))
        await asyncio.sleep(LATER)
        assert await self.heard(house) == wanted


async def publish(house: House, numbers: Any, *, event: Event[Price] = quoted) -> None:
    client = house.hosts[0].client("prices")
    await asyncio.gather(*(client.publish(event, Price(number)) for number in numbers))


def drop_events(house: House, which: Callable[[int], bool]) -> None:
    """Lose the events on the direct path of the publisher for whose number this is true."""
    direct = house.hosts[0].transport.direct
    send = direct.send

    def send_some(peer: str, frame: bytes) -> None:
        message = decode(frame)
        if message.kind is not Kind.EVENT or message.lane is None or not which(message.lane.number):
            send(peer, frame)

    direct.send = send_some


def questions_of(house: House, host: int) -> list[float]:
    """Return when a host asks for events, as it goes on."""
    direct, asked, loop = house.hosts[host].transport.direct, list[float](), asyncio.get_running_loop()
    send = direct.send

    def seen(peer: str, frame: bytes) -> None:
        if (message := decode(frame)).kind is Kind.CONTROL and message.type == "pull":
            asked.append(loop.time())
        send(peer, frame)

    direct.send = seen
    return asked


async def operate(house: House, step: Callable[[Books], Did]) -> Did:
    """Do something to the store of the subscriber, as an operator does it from another process."""
    await house.read("audit", lambda books: None)
    return await house._stores["audit"].commit(step, name="operator", flush=True)


def answer_of(value: Any) -> Any:
    """Return a question whose answer is always this, to wait for a change in it."""

    async def answer() -> Any:
        return value

    return answer
