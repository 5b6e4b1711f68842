"""The program of the tests with deadly requests: a mill that some orders kill, and somebody who asks it.

python journaled_poison.py mill RUN
python journaled_poison.py cust RUN     sends one of each deadly kind, and then asks for what is harmless

STORM_RECORDS  the directory of the histories; "enough" there ends the asking, "mended" makes all orders harmless
STORM_LIFELINE a pipe that is closed when the test is gone, and this process with it
STORM_KINDS    the deadly kinds
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import sys
from pathlib import Path
from threading import Thread

from msgspec import Struct

from posthouse import Context, Service, connect, run
from posthouse.runtime import watchdog
from tests.history.events import Began, Invoked, Recorder, Told

ROLE, RUN = sys.argv[1:]
RECORDS = Path(os.environ["STORM_RECORDS"])
KINDS = os.environ.get("STORM_KINDS", "").split()
MOST_MEMORY = 1 << 30
STUCK_AFTER = 2.0
SCHEMA = (
    "CREATE TABLE effects (sequence INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT, value TEXT, run TEXT)",
    "CREATE TABLE applied (op TEXT, outcome TEXT, value TEXT, code TEXT)",
    "CREATE TABLE acked (op TEXT)",
)


class Order(Struct):
    """What is asked, and how it kills."""

    op: str
    kind: str = ""


class Flour(Struct):
    """What is answered."""

    op: str
    value: str


def end_with_test(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


recorder = Recorder.to_file(RECORDS, ROLE)
note = recorder.note
mill = Service("mill", schema=SCHEMA)
cust = Service("cust")
runs = 0


def suffer(kind: str) -> None:
    """Do the deadly thing."""
    match kind:
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "loop":
            while True:
                pass
        case "memory":
            raise MemoryError
        case "gigabyte":
            bytearray(1 << 30)
        case _:
            pass


@mill.handler(attempts=3, backoff="10ms..50ms")
async def grind(order: Order, ctx: Context) -> Flour:
    global runs
    runs += 1
    value = f"{recorder.by}.{runs}"
    note(Began(order.op, "mill", value, ctx.attempt))
    await asyncio.sleep(0.001)
    if not (RECORDS / "mended").exists():
        suffer(order.kind)
    db = await ctx.transaction()
    await db.execute("INSERT INTO effects (op, value, run) VALUES (?, ?, ?)", (order.op, value, value))
    return Flour(order.op, value)


async def ask() -> None:
    async with connect(cust) as client:
        for kind in KINDS:
            op = f"cust-{RUN}-{kind}"
            note(Invoked(op, caller="cust", service="mill"))
            await client.send(grind, Order(op, kind))
            note(Told(op, "stored"))
        (RECORDS / f"ready-{os.getpid()}").touch()
        asked = os.open(RECORDS / "asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        number = 0
        while not (RECORDS / "enough").exists():
            number += 1
            op = f"cust-{RUN}-{number}"
            note(Invoked(op, caller="cust", service="mill"))
            flour = await client.call(grind, Order(op), timeout=None)
            note(Told(op, "done", flour.value, echo=flour.op))
            os.write(asked, b"1")
            await asyncio.sleep(0.01)
        (RECORDS / f"asked-{os.getpid()}").touch()
        await asyncio.Event().wait()


Thread(target=end_with_test, args=(int(os.environ["STORM_LIFELINE"]),), daemon=True).start()
if ROLE == "mill":
    watchdog.LIMIT = STUCK_AFTER  # type: ignore[misc] - final for all but tests
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run(mill)
else:
    asyncio.run(ask())
