"""The program of the restore tests: two services that ask and reply, and two that publish and hear.

    python restores_storm.py ROLE RUN

`shop` asks, and hears the replies to what it sends; `prices` replies; `news` publishes; `audit` hears. What was begun
and what was confirmed stands in files, unbuffered: how long they are at a moment says what came before it. Nobody asks
or publishes while a file "pause" names a round.

STORM_RECORDS is the directory of those files, STORM_LIFELINE a pipe that is closed when the test is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from posthouse import Context, Reject, Reply, Service, connect, run
from posthouse.errors import PosthouseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from posthouse.runtime.client import Client

ROLE, RUN = sys.argv[1:3]
RECORDS = Path(os.environ["STORM_RECORDS"])
REST = 0.02
WAYS = 4

Does = Literal["done", "no", "either"]
SORTS: list[Does] = ["done", "done", "done", "no", "either"]


class Order(Struct):
    """What is asked, and what becomes of it; "either" is decided anew whenever it is run."""

    op: str
    does: Does = "done"


class Piece(Struct):
    """What is told: only its name."""

    op: str


class No(Reject):
    """The handler's own no."""

    code = "no"


def end_with_test(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


chance = random.Random()
shop = Service("shop", schema=["CREATE TABLE applied (op TEXT)"])
prices = Service("prices", schema=["CREATE TABLE effects (op TEXT)"])
news = Service("news")
told = news.event("told", Piece, mode="journaled")
audit = Service("audit", schema=["CREATE TABLE heard (op TEXT)"])


@prices.handler(rejects=(No,))
async def take(order: Order, ctx: Context) -> str:
    await asyncio.sleep(chance.random() * 0.02)
    if order.does == "no" or (order.does == "either" and chance.random() < 0.5):
        raise No(order.op)
    db = await ctx.transaction()
    await db.execute("INSERT INTO effects VALUES (?)", (order.op,))
    return order.op


@shop.on_reply(take)
async def apply(reply: Reply[Order, str], ctx: Context) -> None:
    db = await ctx.transaction()
    await db.execute("INSERT INTO applied VALUES (?)", (reply.request.op,))


@audit.on(told, start="first")
async def hear(piece: Piece, ctx: Context) -> None:
    db = await ctx.transaction()
    await db.execute("INSERT INTO heard VALUES (?)", (piece.op,))


def record(name: str) -> Callable[[str], object]:
    """Return what writes lines to a file of the records."""
    file = os.open(RECORDS / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return lambda op: os.write(file, f"{op}\n".encode())


class Pause:
    """Holds the ways of this process, and tells when all of them are held."""

    def __init__(self) -> None:
        self._seen = [""] * WAYS

    async def hold(self, way: int) -> None:
        """Return when there is no pause."""
        while asked := self._asked():
            self._seen[way] = asked
            if self._seen == [asked] * WAYS:
                (RECORDS / f"paused-{os.getpid()}-{asked}").touch()
            await asyncio.sleep(0.01)

    def _asked(self) -> str:
        with contextlib.suppress(FileNotFoundError):  # it may go at any moment
            return (RECORDS / "pause").read_text()
        return ""


async def ask(client: Client) -> None:
    """Make requests, one after the other on each way."""
    asked, accepted, pause = record("asked"), record("accepted"), Pause()

    async def ask_on(way: int) -> None:
        count = 0
        while True:
            await pause.hold(way)
            count += 1
            verb = chance.choice([client.call, client.send])
            does: Does = chance.choice(SORTS)
            order = Order(f"{verb.__name__}-{RUN}-{way}-{count}", does)
            asked(order.op)
            try:
                await verb(take, order)
            except No:
                pass
            except PosthouseError:  # unknown, since a store was put back
                await asyncio.sleep(REST)
                continue
            accepted(order.op)
            await asyncio.sleep(REST)

    await asyncio.gather(*(ask_on(way) for way in range(WAYS)))


async def publish(client: Client) -> None:
    """Publish, one after the other on each way."""
    confirmed, pause = record("confirmed"), Pause()

    async def publish_on(way: int) -> None:
        count = 0
        while True:
            await pause.hold(way)
            count += 1
            piece = Piece(f"{RUN}-{way}-{count}")
            await client.publish(told, piece)
            confirmed(piece.op)
            await asyncio.sleep(REST)

    await asyncio.gather(*(publish_on(way) for way in range(WAYS)))


async def work(service: Service, begin: Callable[[Client], Awaitable[None]]) -> None:
    async with connect(service, serve=True) as client:
        await begin(client)


Thread(target=end_with_test, args=(int(os.environ["STORM_LIFELINE"]),), daemon=True).start()
if ROLE == "shop":
    asyncio.run(work(shop, ask))
elif ROLE == "news":
    asyncio.run(work(news, publish))
else:
    run({"prices": prices, "audit": audit}[ROLE])
