"""The program of test_gateway_restart: a service that writes down each order, once the gate is open.

DESK_RECORDS   the directory of the records, in which a file "gate" opens the gate
DESK_LIFELINE  a pipe that is closed when the test is gone, and this process with it
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from threading import Thread

from msgspec import Struct

from posthouse import Context, Service

RECORDS = Path(os.environ["DESK_RECORDS"])


class Order(Struct):
    sku: str


def end_with_test(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


def record(name: str, id: str) -> None:
    """Append a line by one short write, which a kill leaves whole or not at all."""
    file = os.open(RECORDS / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, id.encode() + b"\n")
    os.close(file)


Thread(target=end_with_test, args=[int(os.environ["DESK_LIFELINE"])], daemon=True).start()
desk = Service("desk")


@desk.handler(http="POST /orders", status=201)
async def take(order: Order, ctx: Context) -> str:
    record("begun", ctx.id)
    while not (RECORDS / "gate").exists():
        await asyncio.sleep(0.005)
    record("handled", ctx.id)
    return f"{order.sku} for {ctx.id}"
