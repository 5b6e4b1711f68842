"""The program of the crash tests: receives letters, or sends them, and keeps a record of each.

    posthouse run storm.py:office       receives
    python storm.py RUN                 sends

A record is one short write to a file that is only appended to, so it survives a SIGKILL of the process
that made it, whole or not at all. Its lines have one length, so that their number is the file's size.

The POSTHOUSE_ variables say where the data is. These say the rest:

    STORM_RECORDS  the directory of the records
    STORM_LIFELINE a pipe that is closed when the test is gone, and this process with it
    STORM_FAULT    a fault that the tests must notice: "settles-first", "confirms-first", "deaf"
    STORM_DIES     "PART.STEP.NUMBER": dies at the n-th time that a step of a transaction is reached
    STORM_PAUSE    how long a handler takes at least, in seconds
    STORM_AHEAD    a sender waits when so many letters that it knows to be stored have not been handled; 200
    STORM_REST     how long each of its eight ways rests after a letter, in seconds
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path
from threading import Thread

from msgspec import Struct

from posthouse import Service, connect
from posthouse.errors import NotStoredError
from posthouse.runtime.signals import Signals

RECORDS = Path(os.environ["STORM_RECORDS"])
FAULT = os.environ.get("STORM_FAULT", "")
PAUSE = float(os.environ.get("STORM_PAUSE", "0"))
LENGTH = 16
"""Bytes of a record."""
AHEAD = int(os.environ.get("STORM_AHEAD", "200"))
REST = float(os.environ.get("STORM_REST", "0.005" if FAULT else "0"))


def end_with_test(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


class Letter(Struct):
    name: str


def open_record(name: str) -> int:
    return os.open(RECORDS / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(record: int, name: str) -> None:
    os.write(record, name.encode().ljust(LENGTH - 1) + b"\n")


def count(name: str) -> int:
    path = RECORDS / name
    return path.stat().st_size // LENGTH if path.exists() else 0


office = Service("office", concurrency=32)
begun, handled = open_record(f"begun-{os.getpid()}"), open_record("handled")
chance = random.Random()


@office.handler(http="POST /letters", status=202, mode="queued")
async def take(letter: Letter) -> None:
    write(begun, letter.name)
    if FAULT == "settles-first":  # says that it is done, and does it a moment later
        asyncio.get_running_loop().call_later(0.1, write, handled, letter.name)
        return
    await asyncio.sleep(PAUSE + chance.random() * 0.005)
    write(handled, letter.name)


async def send(run_number: str) -> None:
    """Send for ever, and record what was confirmed."""
    confirmed = open_record("confirmed")
    number = 0
    async with connect("sender") as client:

        async def send_on() -> None:
            nonlocal number
            while True:
                while not FAULT and count("confirmed") - count("handled") > AHEAD:
                    await asyncio.sleep(0.005)
                number += 1
                name = f"{run_number}-{number}"
                if FAULT == "confirms-first":  # before it is stored
                    write(confirmed, name)
                    await asyncio.sleep(0.05)
                try:
                    await client.send(take, Letter(name))
                except NotStoredError:  # not confirmed, so nothing to record
                    await asyncio.sleep(REST)
                    continue
                if FAULT != "confirms-first":
                    write(confirmed, name)
                if REST:  # what is lost is never handled, so nobody says how far ahead this is
                    await asyncio.sleep(REST)

        await asyncio.gather(*(send_on() for _ in range(8)))


def die_at(place: str) -> None:
    """Let this process kill itself at the n-th time that it reaches a step of a transaction.

    Args:
        place: "claim.before.3": before, within or after the transaction with its third claim; also send and settle.
    """
    from posthouse.backends.sqlite.claiming import Claim
    from posthouse.backends.sqlite.sending import SendBatch
    from posthouse.backends.sqlite.settling import SettleBatch

    part, step, left = place.split(".")
    kind = {"claim": Claim, "send": SendBatch, "settle": SettleBatch}[part]
    method = "done" if step == "after" else "run"
    original = getattr(kind, method)
    until = int(left)

    def reached(self: object, argument: object) -> None:
        nonlocal until
        until -= 1
        if until == 0 and step != "within":
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, argument)
        if until == 0:  # everything was written, and nothing committed
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(kind, method, reached)


Thread(target=end_with_test, args=(int(os.environ["STORM_LIFELINE"]),), daemon=True).start()
if place := os.environ.get("STORM_DIES", ""):
    die_at(place)
if FAULT == "deaf":  # takes the signal, and goes on
    Signals.__enter__ = lambda self: [signal.signal(signal.SIGTERM, signal.SIG_IGN), self][1]  # type: ignore[method-assign] - the fault itself
if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
