"""The journaled call in its barest true shape: what posthouse's own figure is measured against.

    python -m benchmarks.spikes.journaled [--runs N] [--seconds S] [--set WHAT=HOW,...] [--compare NAME,...|all]

Caller A and replier B, two processes with an SQLite file each (WAL, synchronous NORMAL, our own fdatasync of the WAL
where the flush rule asks for one), a Unix stream socket between them. Commits run on the loop; all that one turn of the
loop collected shares a transaction. One call:

    A  insert the row, open          COMMIT, flush, REQUEST with A's floor
    B  delete what is below the floor, insert the row as running, attempt 1          COMMIT
    B  the handler; the row is done, with its outcome, if it still runs in this attempt    COMMIT, flush, REPLY
    A  the row is done, with its outcome          COMMIT, then the caller has its result

A send is the same, but its sender goes on after A's flush. Not here: sending again, recovery, epochs that change,
leases, limits, several processes a store. `WAYS` names what can be done otherwise; each is a variant of the table.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, time_ns
from typing import Any, cast

import apsw
import msgspec

from benchmarks.ours.orders import Order, Taken, order
from benchmarks.talk import SENDERS, at_once, quantile

WAYS: dict[str, tuple[str, ...]] = {  # the first is the base
    "insert": ("each", "values"),  # executemany, or one statement with many rows
    "update": ("each", "values", "json"),  # executemany, UPDATE FROM (VALUES ...), UPDATE FROM json_each
    "index": ("caller", "none", "both"),  # who has an index on the text id
    "rowid": ("yes", "no"),  # no: WITHOUT ROWID
    "carry": ("socket", "queue", "queue-unflushed", "packed"),  # REQUEST through a third file; packed: a row a turn
    "outcome": ("kept", "state"),  # whether A stores what B answered
    "claim": ("commit", "late"),  # late: nothing is stored before the handler is done, the insert is the guard
    "body": ("kept", "not-at-b"),  # whether B stores the request
    "effects": ("no", "yes"),  # whether the handler writes a row of its own, in the transaction of its outcome
    "handler": ("task", "stepped"),  # stepped: run to its first wait without a task
    "checkpoint": ("commit", "thread"),  # the WAL is copied back inside a COMMIT, or by a thread
    "lock": ("normal", "exclusive"),  # of the file: exclusive shuts other processes out
    "group": ("all", "64", "128", "256"),  # rows a transaction at most
    "flush": ("loop", "thread"),  # thread: the loop goes on meanwhile, what leaves waits
    "forget": ("no", "yes"),  # whether A deletes its final rows
    "gc": ("on", "frozen"),
    "cpu": ("two", "one"),  # one: both processes on the same CPU
    "window": ("2048", "512"),  # requests of sends on the way to B at most
}
PAGES = 1000  # of WAL, then it is copied back; as the product does
OPEN, RUNNING, DONE = 0, 1, 2
REQUEST, REPLY, STAT, BELL = 1, 2, 3, 4
HEAD = struct.Struct("<IBQIIQ")  # length of what follows the head; kind; place; A's and B's epoch; floor
LANE = 1 << 40
NUMBER = LANE - 1
Rows = list[tuple[Any, ...]]


class Body(msgspec.Struct, array_like=True):
    """What A stores, and B: the frame without what changes from one try to the next."""

    id: str
    to: str
    trace: str
    data: bytes


encode_body, decode_body = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Body).decode
encode_json, decode_order = msgspec.json.Encoder().encode, msgspec.json.Decoder(Order).decode
decode_taken = msgspec.json.Decoder(Taken).decode


class Store:
    """A file, its transactions and its flushes."""

    def __init__(self, path: Path, ways: dict[str, str], tables: str) -> None:
        self.connection = connection = apsw.Connection(str(path), statementcachesize=500)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        connection.set_busy_timeout(10_000)
        self._cursor = cursor = connection.cursor()
        self.execute, self.executemany = cursor.execute, cursor.executemany
        if ways["lock"] == "exclusive":
            self.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        self.execute("PRAGMA journal_mode = WAL").fetchall()
        self.execute("PRAGMA synchronous = NORMAL")
        self.execute(tables)
        self._wal = os.open(f"{path}-wal", os.O_RDONLY)
        self.commits = self.flushes = self.checkpoints = 0
        self.flushing = self.checkpointing = 0.0
        self._thread = ThreadPoolExecutor(1) if ways["checkpoint"] == "thread" else None
        self._busy = False
        if self._thread:
            self._second = apsw.Connection(str(path))
            self._second.execute("PRAGMA synchronous = NORMAL")
        connection.set_wal_hook(self._written)
        self._many = ways["insert"] == "values"
        self._update = ways["update"]

    def _written(self, connection: apsw.Connection, _: str, pages: int) -> int:
        if pages < PAGES:
            return 0
        if self._thread is None or pages > 8 * PAGES:
            self._copy_back(connection)
        elif not self._busy:
            self._busy = True
            self._thread.submit(self._copy_back, self._second)
        return 0

    def _copy_back(self, connection: apsw.Connection) -> None:
        start = perf_counter()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self.checkpointing += perf_counter() - start
        self.checkpoints += 1
        self._busy = False

    def commit(self) -> None:
        self.execute("COMMIT")
        self.commits += 1

    def flush(self) -> None:
        start = perf_counter()
        os.fdatasync(self._wal)
        self.flushing += perf_counter() - start
        self.flushes += 1

    def insert(self, into: str, width: int, rows: Rows) -> None:
        one = f"({','.join('?' * width)})"
        if not self._many:
            self.executemany(f"INSERT INTO {into} VALUES {one} ON CONFLICT DO NOTHING", rows)
            return
        at = 0
        while at < len(rows):
            size = min(
                256, 1 << ((len(rows) - at).bit_length() - 1)
            )  # few sizes, so that statements are found prepared
            flat = [value for row in rows[at : at + size] for value in row]
            self.execute(f"INSERT INTO {into} VALUES {','.join([one] * size)} ON CONFLICT DO NOTHING", flat)
            at += size

    def settle(self, rows: Rows, state: int) -> None:
        """Rows are (outcome, place, attempt); each must be in `state`, in that attempt."""
        before = self.connection.total_changes()
        if self._update == "each":
            self.executemany(
                f"UPDATE row SET state = {DONE}, outcome = ? WHERE place = ? AND attempt = ? AND state = {state}", rows
            )
        elif self._update == "json":
            text = encode_json([(row[0] and row[0].decode(), row[1], row[2]) for row in rows]).decode()
            self.execute(
                f"UPDATE row SET state = {DONE}, outcome = v.value ->> 0 FROM json_each(?) AS v"
                f" WHERE place = v.value ->> 1 AND attempt = v.value ->> 2 AND state = {state}",
                (text,),
            )
        else:
            at = 0
            while at < len(rows):
                size = min(256, 1 << ((len(rows) - at).bit_length() - 1))
                flat = [value for row in rows[at : at + size] for value in row]
                values = ",".join(["(?,?,?)"] * size)
                self.execute(
                    f"UPDATE row SET state = {DONE}, outcome = v.column1 FROM (VALUES {values}) AS v"
                    f" WHERE place = v.column2 AND attempt = v.column3 AND state = {state}",
                    flat,
                )
                at += size
        if self.connection.total_changes() - before != len(rows):
            raise RuntimeError("a row was not in the state that it had to be in")

    def facts(self) -> dict[str, float]:
        return {
            "cpu": process_time(),
            "commits": self.commits,
            "flushes": self.flushes,
            "flushing": self.flushing,
            "checkpoints": self.checkpoints,
            "checkpointing": self.checkpointing,
        }


class Queue:
    """The third file: a queue that lies between them, as a transport's does."""

    def __init__(self, path: Path, ways: dict[str, str]) -> None:
        self.store = Store(
            path,
            ways | {"lock": "normal"},
            "CREATE TABLE IF NOT EXISTS letter (seq INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB)",
        )
        self._lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT)
        self._flushed = ways["carry"] != "queue-unflushed"
        self._packed = ways["carry"] == "packed"
        self._last = 0

    def put(self, frames: list[bytes]) -> None:
        self._begin()
        self.store.insert("letter (data)", 1, [(b"".join(frames),)] if self._packed else [(frame,) for frame in frames])
        self._commit()
        if self._flushed:
            self.store.flush()

    def take(self) -> bytes:
        rows = self.store.execute("SELECT seq, data FROM letter WHERE seq > ?", (self._last,)).fetchall()
        if rows:
            self._last = rows[-1][0]
        return b"".join(cast("list[bytes]", [row[1] for row in rows]))

    def settle(self) -> None:
        self._begin()
        self.store.execute("DELETE FROM letter WHERE seq <= ?", (self._last,))
        self._commit()

    def _begin(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # SQLite's own busy handler starves one of two writers
        self.store.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        self.store.commit()
        fcntl.flock(self._lock, fcntl.LOCK_UN)


def row_table(ways: dict[str, str], who: str) -> str:
    index = ways["index"] == "both" or ways["index"] == who
    return (
        "CREATE TABLE row (place INTEGER PRIMARY KEY, id TEXT NOT NULL, state INTEGER NOT NULL,"
        " attempt INTEGER NOT NULL, body BLOB, outcome BLOB)"
        + (" WITHOUT ROWID;" if ways["rowid"] == "no" else ";")
        + ("CREATE INDEX row_id ON row (id);" if index else "")
        + "CREATE TABLE effect (number INTEGER PRIMARY KEY, customer TEXT, cents INTEGER);"
    )


class Party(asyncio.Protocol):
    """What both have: frames in, and one transaction a turn of the loop."""

    transport: asyncio.Transport

    def __init__(self, ways: dict[str, str], folder: Path, who: str) -> None:
        self.ways = ways
        self.loop = asyncio.get_running_loop()
        self.store = Store(folder / f"{who}.db", ways, row_table(ways, who))
        self.queue = Queue(folder / "queue.db", ways) if ways["carry"] != "socket" else None
        self.group = 1 << 30 if ways["group"] == "all" else int(ways["group"])
        self._rest = b""
        self._woken = False
        self._flusher = ThreadPoolExecutor(1) if ways["flush"] == "thread" else None
        self._after: list[Callable[[], None]] = []
        self._flushing = False

    def flushed(self, then: Callable[[], None]) -> None:
        """Flush what was committed, then do this."""
        if self._flusher is None:
            self.store.flush()
            then()
            return
        self._after.append(then)
        if not self._flushing:
            self._flush()

    def _flush(self) -> None:
        self._flushing = True
        after, self._after = self._after, []

        def done(_: asyncio.Future[None]) -> None:
            for then in after:
                then()
            self._flushing = False
            if self._after:
                self._flush()

        self.loop.run_in_executor(self._flusher, self.store.flush).add_done_callback(done)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        self._rest = data[self.frames(data) :]

    def frames(self, data: bytes) -> int:
        at, end, unpack, head = 0, len(data), HEAD.unpack_from, HEAD.size
        while end - at >= head:
            length, kind, place, _, _, floor = unpack(data, at)
            stop = at + head + length
            if stop > end:
                break
            self.frame(kind, place, floor, data[at + head : stop])
            at = stop
        self.wake()
        return at

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._woken = False
        if self.turn():
            self.wake()

    def frame(self, kind: int, place: int, floor: int, data: bytes) -> None:
        raise NotImplementedError

    def turn(self) -> bool:
        """Commit what was collected; return whether something is left."""
        raise NotImplementedError


def some(rows: list[Any], most: int) -> tuple[list[Any], list[Any]]:
    return (rows, []) if len(rows) <= most else (rows[:most], rows[most:])


class Caller(Party):
    """A."""

    def __init__(self, ways: dict[str, str], folder: Path) -> None:
        super().__init__(ways, folder, "caller")
        self._fresh: list[tuple[str, bytes, asyncio.Future[Any], bool]] = []
        self._replies: Rows = []
        self._waiting: dict[int, asyncio.Future[Any] | None] = {}
        self._next = self._floor = self._told = self._deleted = 0
        self._above: set[int] = set()
        self._on_the_way = 0
        self._held: deque[tuple[int, bytes]] = deque()
        self._window = int(ways["window"])
        self._keep = ways["outcome"] == "kept"
        self._forget = ways["forget"] == "yes"
        self._stat: asyncio.Future[bytes] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._count = 0

    def ask(self, to: str, data: bytes, send: bool = False) -> asyncio.Future[Any]:
        self._count += 1
        id = f"{time_ns() // 1_000_000:012x}{self._count:012x}{'0a1b2c3d'}"
        future: asyncio.Future[Any] = self.loop.create_future()
        self._fresh.append((id, encode_body(Body(id, to, "", data)), future, send))
        self.wake()
        return future

    async def idle(self) -> None:
        """Wait until all is final."""
        if self._waiting or self._fresh:
            self._idle = self.loop.create_future()
            await self._idle

    async def stat(self) -> dict[str, float]:
        self._stat = self.loop.create_future()
        self.transport.write(HEAD.pack(0, STAT, 0, 1, 1, 0))
        return json.loads(await self._stat)

    def frame(self, kind: int, place: int, floor: int, data: bytes) -> None:
        if kind == STAT and self._stat:
            self._stat.set_result(data)
        else:
            self._replies.append((data, place, 0))

    def turn(self) -> bool:
        fresh, self._fresh = some(self._fresh, self.group)
        replies, self._replies = some(self._replies, self.group)
        if not fresh and not replies:
            return False
        store, waiting = self.store, self._waiting
        first = self._next
        store.execute("BEGIN IMMEDIATE")
        if replies:
            store.settle(replies if self._keep else [(None, place, attempt) for _, place, attempt in replies], OPEN)
            self._raise_floor(replies)
            if self._forget:
                store.execute(
                    "DELETE FROM row WHERE place >= ? AND place < ?", (LANE + self._deleted, LANE + self._floor)
                )
                self._deleted = self._floor
        if fresh:
            self._next += len(fresh)
            rows: Rows = [(LANE + first + i, id, OPEN, 0, body, None) for i, (id, body, _, _) in enumerate(fresh)]
            store.insert("row", 6, rows)
        store.commit()
        self._on_the_way -= len(replies)
        for i, (_, _, future, send) in enumerate(fresh):
            waiting[LANE + first + i] = None if send else future
        if fresh:
            floor = self._floor
            self.flushed(lambda: self._confirmed(first, fresh, floor))
        else:
            self._send()
        for data, place, _ in replies:
            future = waiting.pop(place)
            if future is not None:
                future.set_result(decode_taken(data))
        if self._idle and not waiting and not self._fresh and not self._idle.done():
            self._idle.set_result(None)
        return bool(self._fresh or self._replies)

    def _confirmed(self, first: int, fresh: list[tuple[str, bytes, asyncio.Future[Any], bool]], floor: int) -> None:
        self._told = floor  # B forgets what is below: so only what is on the disk
        for i, (_, body, future, send) in enumerate(fresh):
            self._held.append((LANE + first + i, body))
            if send:
                future.set_result(None)
        self._send()

    def _raise_floor(self, replies: Rows) -> None:
        above, floor = self._above, self._floor
        for _, place, _ in replies:
            above.add(place & NUMBER)
        while floor in above:
            above.remove(floor)
            floor += 1
        self._floor = floor

    def _send(self) -> None:
        parts: list[bytes] = []
        held, pack, floor = self._held, HEAD.pack, self._told
        while held and self._on_the_way < self._window:
            place, body = held.popleft()
            parts.append(pack(len(body), REQUEST, place, 1, 1, floor))
            parts.append(body)
            self._on_the_way += 1
        if not parts:
            return
        if self.queue:
            self.queue.put([head + body for head, body in zip(parts[::2], parts[1::2], strict=True)])
            parts = [HEAD.pack(0, BELL, 0, 1, 1, 0)]
        self.transport.write(b"".join(parts))


class Replier(Party):
    """B."""

    def __init__(self, ways: dict[str, str], folder: Path) -> None:
        super().__init__(ways, folder, "replier")
        self._received: Rows = []
        self._finished: Rows = []
        self._ids: dict[int, str] = {}
        self._effects: Rows = []
        self._floor = self._deleted = 0
        self._late = ways["claim"] == "late"
        self._step = ways["handler"] == "stepped"
        self._writes = ways["effects"] == "yes"
        self._keep_body = ways["body"] == "kept"
        self._unsettled = False

    async def handle(self, order: Order) -> Taken:
        """What a user would write."""
        if self._writes:
            self._effects.append((order.id, order.customer, 46999))
        return Taken(order.id, ok=True)

    def frame(self, kind: int, place: int, floor: int, data: bytes) -> None:
        if kind == REQUEST:
            self._floor = max(self._floor, floor)
            body = decode_body(data)
            self._received.append((place, body.id, RUNNING, 1, data if self._keep_body else None, None, body.data))
        elif kind == BELL and self.queue:
            self.frames(self.queue.take())
            self._unsettled = True
        elif kind == STAT:
            said = json.dumps(self.store.facts()).encode()
            self.transport.write(HEAD.pack(len(said), STAT, 0, 1, 1, 0) + said)

    async def _run(self, row: tuple[Any, ...]) -> None:
        taken = await self.handle(decode_order(row[6]))
        outcome = encode_json(taken)
        if self._late:
            self._finished.append((row[0], row[1], DONE, 1, row[4], outcome))
        else:
            self._finished.append((outcome, row[0], 1))
        self.wake()

    def _start(self, rows: Rows) -> None:
        for row in rows:
            run = self._run(row)
            if self._step:
                try:
                    run.send(None)
                except StopIteration:
                    continue
                raise RuntimeError("the handler waits, which is not for here")
            self.loop.create_task(run)

    def turn(self) -> bool:
        received, self._received = some(self._received, self.group)
        if self._late and received:
            self._start(received)
            received = []
        finished, self._finished = some(self._finished, self.group)
        if not received and not finished:
            return bool(self._received)
        store = self.store
        store.execute("BEGIN IMMEDIATE")
        if self._floor > self._deleted:
            store.execute("DELETE FROM row WHERE place >= ? AND place < ?", (LANE + self._deleted, LANE + self._floor))
            self._deleted = self._floor
        if received:
            store.insert("row", 6, [row[:6] for row in received])
        if finished:
            if self._effects:
                effects, self._effects = self._effects, []
                store.executemany(
                    "INSERT INTO effect VALUES (?, ?, ?) ON CONFLICT (number) DO UPDATE SET cents = 1", effects
                )
            if self._late:
                before = store.connection.total_changes()
                store.insert("row", 6, finished)
                if store.connection.total_changes() - before != len(finished):
                    raise RuntimeError("a row was there already")
            else:
                store.settle(finished, RUNNING)
        store.commit()
        if self.queue and self._unsettled:
            self._unsettled = False
            self.queue.settle()
        if finished:
            self.flushed(lambda: self._reply(finished))
        self._start(received)
        return bool(self._received or self._finished)

    def _reply(self, finished: Rows) -> None:
        parts: list[bytes] = []
        for row in finished:
            outcome, place = (row[5], row[0]) if self._late else (row[0], row[1])
            parts.append(HEAD.pack(len(outcome), REPLY, place, 1, 1, self._floor))
            parts.append(outcome)
        self.transport.write(b"".join(parts))


async def replier(ways: dict[str, str], folder: Path) -> None:
    party = Replier(ways, folder)
    gone = asyncio.get_running_loop().create_future()
    party.connection_lost = lambda exc: gone.done() or gone.set_result(None)  # type: ignore[method-assign]
    server = await party.loop.create_unix_server(lambda: party, str(folder / "socket"))
    print("READY", flush=True)
    await gone
    server.close()


async def caller(ways: dict[str, str], folder: Path, seconds: float) -> None:
    party = Caller(ways, folder)
    await party.loop.create_unix_connection(lambda: party, str(folder / "socket"))
    took: list[float] = []
    said: dict[str, float] = {"flush": flush_time(folder)}
    number = 0

    async def call(number: int) -> None:
        start = perf_counter()
        taken = await party.ask("orders.take", encode_json(order(number)))
        took.append(perf_counter() - start)
        if taken.id != number:
            raise RuntimeError("the reply is not that of this request")

    async def send(number: int) -> None:
        start = perf_counter()
        await party.ask("orders.take", encode_json(order(number)), send=True)
        took.append(perf_counter() - start)

    async def phase(name: str, width: int, seconds: float, one: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        nonlocal number
        took.clear()
        mine, theirs, start = party.store.facts(), await party.stat(), perf_counter()
        end, first = start + seconds, number

        def until() -> Any:
            nonlocal number
            while perf_counter() < end:
                number += 1
                yield 10_000 + number % 80_000  # five digits, so that each order is of 297 bytes

        await at_once(width, until(), one)
        said[f"{name}_confirmed"] = len(took) / (perf_counter() - start)
        await party.idle()
        passed, count = perf_counter() - start, number - first
        said[f"{name}_rate"] = count / passed
        said[f"{name}_p50"], said[f"{name}_p99"] = quantile(took, 0.5) * 1e6, quantile(took, 0.99) * 1e6
        for who, before, after in (("a", mine, party.store.facts()), ("b", theirs, await party.stat())):
            used = {key: after[key] - before[key] for key in after}
            said[f"{name}_cpu_{who}"] = used["cpu"] / count * 1e6
            said[f"{name}_flushes_{who}"] = used["flushes"]
            said[f"{name}_flush_us_{who}"] = used["flushing"] / max(1, used["flushes"]) * 1e6
            said[f"{name}_commits_{who}"] = used["commits"]
            said[f"{name}_checkpoints_{who}"] = used["checkpoints"]
            said[f"{name}_checkpoint_ms_{who}"] = used["checkpointing"] / max(1, used["checkpoints"]) * 1e3
        said[f"{name}_count"] = count

    await phase("warm", 64, 0.5, call)
    await phase("one", 1, seconds, call)
    await phase("at64", 64, seconds, call)
    await phase("at512", 512, seconds, call)
    await phase("send", SENDERS, seconds, send)
    party.transport.close()
    print(json.dumps(said), flush=True)


def flush_time(folder: Path) -> float:
    """Return how many microseconds fdatasync of an appended page takes: the median of 300."""
    took: list[float] = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(300):
            file.write(bytes(4096))
            start = perf_counter()
            os.fdatasync(file.fileno())
            took.append(perf_counter() - start)
    return median(took) * 1e6


def child(role: str, ways: dict[str, str], folder: Path, seconds: float) -> None:
    import uvloop

    cpus = sorted(os.sched_getaffinity(0))
    if ways["cpu"] == "one":
        os.sched_setaffinity(0, cpus[:1])
    if ways["gc"] == "frozen":
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(replier(ways, folder) if role == "b" else caller(ways, folder, seconds))


def measure(ways: dict[str, str], where: str | None, seconds: float) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="journaled-", dir=where))
    argv = [sys.executable, "-m", "benchmarks.spikes.journaled", "--ways", json.dumps(ways), "--folder", str(folder)]
    argv += ["--seconds", str(seconds), "--role"]
    b = subprocess.Popen([*argv, "b"], stdout=subprocess.PIPE)
    try:
        assert b.stdout
        b.stdout.readline()
        a = subprocess.run([*argv, "a"], stdout=subprocess.PIPE, timeout=20 * seconds + 30, check=True)
        b.wait(10)
        return json.loads(a.stdout)
    finally:
        b.kill()
        b.wait()
        shutil.rmtree(folder)


COLUMNS: Sequence[tuple[str, str, float]] = (
    ("flush us", "flush", 1),
    ("one p50 us", "one_p50", 1),
    ("one p99", "one_p99", 1),
    ("64: calls/s", "at64_rate", 1),
    ("p99 us", "at64_p99", 1),
    ("512: calls/s", "at512_rate", 1),
    ("p99 us", "at512_p99", 1),
    ("sends/s", "send_rate", 1),
    ("CPU us/call at 64 A", "at64_cpu_a", 1),
    ("B", "at64_cpu_b", 1),
    ("at 512 A", "at512_cpu_a", 1),
    ("B", "at512_cpu_b", 1),
    ("send A", "send_cpu_a", 1),
    ("B", "send_cpu_b", 1),
)


def show(name: str, runs: list[dict[str, float]], wide: bool) -> None:
    cells = [f"{median(run[key] for run in runs) / unit:,.0f}" for _, key, unit in COLUMNS]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    if not wide:
        return
    print("\n| figure | min | median | max |\n|---|---|---|---|")
    for key in runs[0]:
        values = sorted(run[key] for run in runs)
        print(f"| {key} | {values[0]:,.1f} | {median(values):,.1f} | {values[-1]:,.1f} |")


def main() -> None:
    """Measure the base, and what is to be compared with it, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each of the four measurements")
    parser.add_argument("--set", default="", help="ways for all rows, as `claim=late,update=values`")
    parser.add_argument("--compare", default="", help="`all`, or ways as `claim=late,index=none`: a row each")
    parser.add_argument("--dir", help="where the files are made; on a real disk")
    parser.add_argument("--raw", action="store_true", help="print every figure of the base")
    for hidden in ("--role", "--ways", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        child(given.role, json.loads(given.ways), Path(given.folder), given.seconds)
        return
    base = {way: hows[0] for way, hows in WAYS.items()} | chosen(given.set)
    rows = {given.set or "base": base}
    if given.compare == "all":
        rows |= {f"{way}={how}": base | {way: how} for way, hows in WAYS.items() for how in hows if how != base[way]}
    else:
        for word in filter(None, given.compare.split(",")):
            rows[word] = base | chosen(word.replace("+", ","))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for turn in range(given.runs):
        for name, ways in rows.items():
            print(f"run {turn + 1}: {name}", file=sys.stderr, flush=True)
            found[name].append(measure(ways, given.dir, given.seconds))
    print(f"| medians of {given.runs} | " + " | ".join(title for title, _, _ in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, runs in found.items():
        show(name, runs, wide=False)
    if given.raw:
        show("base", next(iter(found.values())), wide=True)


def chosen(words: str) -> dict[str, str]:
    """Return what `claim=late,index=none` asks for.

    Raises:
        SystemExit: there is no such way.
    """
    ways = dict(word.split("=", 1) for word in filter(None, words.split(",")))
    for way, how in ways.items():
        if way not in WAYS or (way not in ("group", "window") and how not in WAYS[way]):
            raise SystemExit(f"there is no {way}={how}; there are {WAYS}")
    return ways


if __name__ == "__main__":
    main()
