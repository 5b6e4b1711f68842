"""The program of the journaled crash tests: three services that ask each other, and callers that have no service.

    python journaled_storm.py ROLE RUN

`prices` replies; `shop` replies too, asks prices on the way, and asks for itself; `cust` only asks, and has a store;
`guest` only asks, and has none. Every process notes what it sees for the history checker (see tests/history). What
the stores hold at the end is read elsewhere.

The POSTHOUSE_ variables say where the data is. These say the rest:

    STORM_RECORDS  the directory of the histories; a caller makes no new requests when a file "enough" lies there
    STORM_LIFELINE a pipe that is closed when the test is gone, and this process with it
    STORM_REST     how long each of a caller's ways rests after a request, in seconds
    STORM_WAYS     how many ways a caller has
    STORM_PAUSE    how long a handler takes at most, in seconds
    STORM_PLAIN    only requests that are done at the first run
    STORM_BATCH    each way of a caller only makes so many calls at once, which have no effect and are not noted
    STORM_PAGES    how large the files of stores may grow, until a file "space" lies beside the histories
    STORM_LEASE    how long an instance that is silent is alive, in seconds
    STORM_KEPT     how long settled calls are kept, and how often they are looked for, in seconds
    STORM_MODE     of the operations: "journaled", or "queued" to see what that loses
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, cast

import apsw
from msgspec import Struct

from posthouse import Context, Operation, Reject, Reply, Service, connect, run
from posthouse.errors import CallUnknownError, NotDoneError, NotStoredError, PosthouseError
from posthouse.runtime.journal import journal, relay
from posthouse.runtime.steps import forgetting
from tests.history.events import Began, Ended, Invoked, Recorder, Told, refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from posthouse.runtime.client import Client

ROLE = sys.argv[1] if __name__ == "__main__" else "run"
RUN = sys.argv[2] if __name__ == "__main__" else "0"
RECORDS = Path(os.environ["STORM_RECORDS"])
REST = float(os.environ.get("STORM_REST", "0.02"))
WAYS = int(os.environ.get("STORM_WAYS", "8"))
PAUSE = float(os.environ.get("STORM_PAUSE", "0.002"))
PLAIN = bool(os.environ.get("STORM_PLAIN", ""))
BATCH = int(os.environ.get("STORM_BATCH", "0"))
PAGES = os.environ.get("STORM_PAGES", "")
LEASE = os.environ.get("STORM_LEASE", "")
KEPT = os.environ.get("STORM_KEPT", "")
MODE = cast("Literal['journaled', 'queued']", os.environ.get("STORM_MODE", "journaled"))
SCHEMA = (
    "CREATE TABLE effects (sequence INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT, value TEXT, run TEXT)",
    "CREATE TABLE applied (op TEXT, outcome TEXT, value TEXT, code TEXT)",
    "CREATE TABLE acked (op TEXT)",
    "CREATE TABLE sent (op TEXT)",
    "CREATE TABLE other (op TEXT)",
)

Does = Literal["done", "no", "kept no", "flaky", "fails"]
SORTS: list[Does] = ["no", "kept no", "flaky", "flaky", "fails"]


class Order(Struct):
    """What is asked: its id, what becomes of it, and its ordering key."""

    op: str
    does: Does = "done"
    key: str = ""


class Price(Struct):
    """What is answered: which operation, and a value of this run."""

    op: str
    value: str


class No(Reject):
    """The handler's own no."""

    code = "no"


class WentWrongError(Exception):
    """A handler's failure."""


def end_with_test(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


recorder = Recorder.to_file(RECORDS, ROLE)
note = recorder.note
chance = random.Random()
runs = 0

prices = Service("prices", schema=SCHEMA if MODE == "journaled" else [])
shop = Service("shop", schema=SCHEMA if MODE == "journaled" else [])


async def do(service: str, order: Order, ctx: Context, ask: Callable[[str], Awaitable[list[str]]] | None = None) -> Any:
    """Do what an order says; its effect is one row in this service's own table."""
    global runs
    runs += 1
    run = f"{recorder.by}.{runs}"
    note(Began(order.op, service, run, ctx.attempt))
    try:
        await asyncio.sleep(chance.random() * PAUSE)
        if order.does == "fails" or (order.does == "flaky" and chance.random() < 0.5):
            raise WentWrongError(order.op)
        if order.does == "no":
            raise No(order.op)
        sent = await ask(run) if ask is not None else []
        if MODE == "queued":
            note_effect(order, run)
            return Price(order.op, order.op)
        db = await ctx.transaction()
        if order.does == "kept no":
            await db.execute("INSERT INTO other VALUES (?)", (order.op,))
        else:
            await db.execute("INSERT INTO effects (op, value, run) VALUES (?, ?, ?)", (order.op, run, run))
        for op in sent:
            await db.execute("INSERT INTO sent VALUES (?)", (op,))
    except BaseException:
        note(Ended(order.op, run, "raised"))
        raise
    note(Ended(order.op, run, "returned"))
    return No(order.op) if order.does == "kept no" else Price(order.op, run)


def note_effect(order: Order, run: str) -> None:
    """Without a store of its own, a handler's effect is what it notes; the order among processes is that of time."""
    from tests.history.events import Effect

    note(Effect(order.op, "prices", sequence=0, value=order.op, run=run))


@prices.handler(mode=MODE, attempts=3, backoff="10ms..50ms", exhausted="fail", rejects=(No,))
async def take(order: Order, ctx: Context) -> Price:
    return await do("prices", order, ctx)


@prices.handler(mode=MODE)
async def look(order: Order) -> Price:
    return Price(order.op, order.op)


@prices.handler(attempts=3, backoff="10ms..50ms", exhausted="fail", rejects=(No,), key="key")
async def line(order: Order, ctx: Context) -> Price:
    return await do("prices", order, ctx)


@shop.handler(mode=MODE, attempts=3, backoff="10ms..50ms", exhausted="fail", rejects=(No,))
async def buy(order: Order, ctx: Context) -> Price:
    async def ask(run: str) -> list[str]:
        asked = Order(f"{order.op}/1", "done" if order.does == "flaky" else order.does)
        note(Invoked(asked.op, caller="shop", service="prices"))
        try:
            price = await ctx.call(take, asked)
        except NotDoneError as error:
            note(refused(asked.op, error))
            raise
        note(Told(asked.op, "done", price.value, echo=price.op))
        sent = Order(f"{order.op}/2/{run}")
        note(Invoked(sent.op, caller="shop", service="prices", applies=True))
        await ctx.send(take, sent)
        return [sent.op]

    return await do("shop", order, ctx, ask)


if MODE == "journaled":

    @shop.on_reply(take)
    async def heard(reply: Reply[Order, Price], ctx: Context) -> None:
        try:
            price = reply.get()
        except NotDoneError as error:
            row = (reply.request.op, "not done", "", error.code)
        else:
            row = (reply.request.op, "done", price.value, "")
        db = await ctx.transaction()
        await db.execute("INSERT INTO applied VALUES (?, ?, ?, ?)", row)

    @prices.on_ack(take)
    async def acked(reply: Reply[Order, Price], ctx: Context) -> None:
        db = await ctx.transaction()
        await db.execute("INSERT INTO acked VALUES (?)", (reply.request.op,))


# --- those who ask --------------------------------------------------------------------------------------


class Asker:
    """Makes requests until there are enough."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._count = 0
        self._asked = os.open(RECORDS / "asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def ask_on(self, way: int) -> None:
        """Make one request after the other."""
        while not (RECORDS / "enough").exists():
            if BATCH:
                await asyncio.gather(*(self._client.call(look, Order("")) for _ in range(BATCH)))
                os.write(self._asked, b"1" * BATCH)
            else:
                await self._one(*self._choice(), key=f"{self._name}-{way % 3}")
            await asyncio.sleep(REST)

    def _choice(self) -> tuple[Any, Operation[Order, Price]]:
        if self._name == "guest":
            return self.send, take
        if PLAIN:
            return self.call, take
        verb = chance.choice([self.call, self.send])
        return verb, chance.choice([take, take, line, buy] if self._name == "cust" else [take, take, line])

    async def _one(self, verb: Any, operation: Operation[Order, Price], key: str = "") -> None:
        self._count += 1
        does: Does = "done" if PLAIN or chance.random() < 0.7 else chance.choice(SORTS)
        order = Order(f"{self._name}-{RUN}-{self._count}", does, key if operation is line else "")
        note(
            Invoked(
                order.op,
                caller="" if self._name == "guest" else self._name,
                service=operation.name.partition(".")[0],
                key=order.key,
                applies=self._name == "shop" and verb == self.send and operation is take,
            )
        )
        try:
            await verb(operation, order)
        except NotStoredError as error:
            note(refused(order.op, error))
            return
        os.write(self._asked, b"1")

    async def call(self, operation: Operation[Order, Price], order: Order) -> None:
        id = order.op if MODE == "journaled" and chance.random() < 0.3 else None
        try:
            price = await self._client.call(operation, order, id=id)
            if id is not None and chance.random() < 0.3:  # once more, which is the same request
                price = await self._client.call(operation, order, id=id)
        except NotStoredError:
            raise
        except PosthouseError as error:
            note(refused(order.op, error))
        else:
            note(Told(order.op, "done", price.value, echo=price.op))

    async def send(self, operation: Operation[Order, Price], order: Order) -> None:
        again = MODE == "journaled" and chance.random() < 0.3
        named = again or (MODE == "journaled" and self._name == "guest")
        for _ in range(2 if again else 1):
            await self._client.send(operation, order, id=order.op if named else None)
        note(Told(order.op, "stored"))


async def ask(name: str) -> None:
    declared = name if name == "guest" else shop if name == "shop" else Service(name)
    async with connect(declared, serve=name == "shop") as client:
        if name.startswith("cust"):  # opens the store: what an earlier process has asked for is asked for again
            with contextlib.suppress(CallUnknownError):
                await client.cancel("none")
        (RECORDS / f"ready-{os.getpid()}").touch()
        asker = Asker(client, name)
        ways = [asyncio.create_task(asker.ask_on(way)) for way in range(WAYS)]
        await asyncio.gather(*ways)
        (RECORDS / f"asked-{os.getpid()}").touch()
        await asyncio.Event().wait()  # what was asked goes on being looked after


limited: list[Any] = []


def limit_pages(connection: Any) -> None:
    """Let a store's file not grow beyond what a full disk would have room for."""
    if "/stores/" in connection.filename:
        limited.append(connection)
        if not (RECORDS / "space").exists():
            connection.execute(f"PRAGMA max_page_count = {PAGES}")


def make_room() -> None:
    """End the limit when the test says so; a connection that is at work is tried again."""
    while not (RECORDS / "space").exists():
        time.sleep(0.05)  # another process makes the file, and nothing tells of it; this thread has no more to do
    for connection in limited:
        while True:
            with contextlib.suppress(apsw.ThreadingViolationError, apsw.BusyError):
                connection.execute("PRAGMA max_page_count = 1000000")
                break


Thread(target=end_with_test, args=(int(os.environ["STORM_LIFELINE"]),), daemon=True).start()
if PAGES:
    apsw.connection_hooks.append(limit_pages)
    Thread(target=make_room, daemon=True).start()
if LEASE:
    journal.LEASE, journal.BEAT = float(LEASE), float(LEASE) / 3  # type: ignore[misc] - final for all but tests
if KEPT:
    forgetting.KEPT_FOR = relay.FORGET = float(KEPT)  # type: ignore[misc] - final for all but tests
if __name__ == "__main__":
    if ROLE == "prices":
        run(prices)
    elif ROLE == "shop-only":
        run(shop)
    else:
        asyncio.run(ask(ROLE))
