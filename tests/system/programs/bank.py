"""The program of the backup tests: a bank that books each request in a ledger of its own, and somebody who pays.

    python bank.py serve         until it is killed
    python bank.py pay FILE      eight at once, until it is killed; FILE grows by a byte with each that was booked

The POSTHOUSE_ variables say where the data is. When its standard input is closed, the test is gone, and so is it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from threading import Thread

from msgspec import Struct

from posthouse import Context, Service, connect, run

BLOB = 1 << 16
BLOBS = 512
"""32 MiB that nobody changes, so that a backup takes a while."""


class Payment(Struct):
    """Somebody pays so many cents."""

    cents: int


bank = Service(
    "bank",
    schema=[
        "CREATE TABLE ledger (id TEXT PRIMARY KEY, cents INTEGER NOT NULL); CREATE TABLE books (bytes BLOB)",
        f"""
        INSERT INTO books
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT randomblob({BLOB}) FROM n LIMIT {BLOBS}
        """,
    ],
)
payer = Service("payer")


@bank.handler
async def book(payment: Payment, ctx: Context) -> int:
    """Book a payment, and return how many there are."""
    db = await ctx.transaction()
    await db.execute("INSERT INTO ledger VALUES (:id, :cents)", {"id": ctx.id, "cents": payment.cents})
    return payment.cents


async def pay(booked: Path) -> None:
    """Pay, eight at once."""
    async with connect(payer) as client:

        async def go_on() -> None:
            while True:
                await client.call(book, Payment(1), timeout="1h")
                with booked.open("ab") as file:
                    file.write(b".")

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(go_on())


def end_with_test() -> None:
    """End when nobody holds the other end of our standard input any more."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    Thread(target=end_with_test, daemon=True).start()
    if sys.argv[1] == "serve":
        run(bank)
    else:
        asyncio.run(pay(Path(sys.argv[2])))
