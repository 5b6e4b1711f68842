"""The program of the crash tests of events: a publisher, who asks it to publish, and three services that hear.

    python events_storm.py ROLE RUN

`prices` publishes, from its own client and in a handler that `cust` asks; `audit` hears one by one, `book` in batches,
and `desk` asks `prices` for each. What was confirmed stands in a file, what a handler told in its own table, and what
was heard in the tables of those who heard it. The variables are those of journaled_storm.py.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from threading import Thread

from msgspec import Struct

from posthouse import Context, Service, connect, run
from posthouse.errors import PosthouseError

ROLE, RUN = sys.argv[1:3]
RECORDS = Path(os.environ["STORM_RECORDS"])
REST = float(os.environ.get("STORM_REST", "0.02"))
WAYS = int(os.environ.get("STORM_WAYS", "4"))
HEARD = ["CREATE TABLE heard (op TEXT)"]


class Price(Struct):
    """What is told: only its name."""

    op: str


def end_with_test(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


prices = Service("prices", schema=["CREATE TABLE told (op TEXT)"])
quoted = prices.event("quoted", Price, mode="journaled")
audit = Service("audit", schema=HEARD)
book = Service("book", schema=HEARD)
desk = Service("desk", schema=HEARD)


@prices.handler
async def quote(price: Price, ctx: Context) -> Price:
    db = await ctx.transaction()
    await db.execute("INSERT INTO told VALUES (?)", (price.op,))
    await ctx.publish(quoted, price)
    return price


@prices.handler
async def look(price: Price) -> Price:
    return price


async def hear(price: Price, ctx: Context) -> None:
    db = await ctx.transaction()
    await db.execute("INSERT INTO heard VALUES (?)", (price.op,))


@audit.on(quoted, start="first")
async def note(price: Price, ctx: Context) -> None:
    await hear(price, ctx)


@book.on(quoted, batch=20, start="first")
async def enter(many: list[Price], ctx: Context) -> None:
    for each in many:
        await hear(each, ctx)


@desk.on(quoted, start="first")
async def check(price: Price, ctx: Context) -> None:
    assert (await ctx.call(look, price)).op == price.op
    await hear(price, ctx)


async def ask() -> None:
    declared = prices if ROLE == "prices" else Service(ROLE)
    async with connect(declared, serve=ROLE == "prices") as client:
        asked = os.open(RECORDS / "asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        confirmed = os.open(RECORDS / "confirmed", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        async def ask_on(way: int) -> None:
            count = 0
            while not (RECORDS / "enough").exists():
                count += 1
                price = Price(f"{ROLE}-{RUN}-{way}-{count}")
                try:
                    if ROLE == "prices":
                        await client.publish(quoted, price)
                        os.write(confirmed, f"{price.op}\n".encode())
                    else:
                        await client.call(quote, price)
                except PosthouseError:
                    continue
                os.write(asked, b"1")
                await asyncio.sleep(REST)

        await asyncio.gather(*(ask_on(way) for way in range(WAYS)))
        (RECORDS / f"asked-{os.getpid()}").touch()
        await asyncio.Event().wait()


Thread(target=end_with_test, args=(int(os.environ["STORM_LIFELINE"]),), daemon=True).start()
if ROLE in {"prices", "cust"}:
    asyncio.run(ask())
else:
    run({"audit": audit, "book": book, "desk": desk}[ROLE])
