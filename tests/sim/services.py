"""What is asked in the simulated worlds: services whose handlers do what the request says.

A handler writes its effect into its own table, or leaves it with somebody outside who knows `ctx.id`; asks other
services on the way, sends, fails, and says no. What happens is noted for the history checker.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct, structs

from posthouse import Context, Operation, Reject, Reply, Service
from posthouse.errors import NotDoneError, PosthouseError
from tests.history.events import Began, Ended, Invoked, Told, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.history.events import Record
    from tests.sim.news import Ledger

SCHEMA: Final = (
    "CREATE TABLE effects (sequence INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT, value TEXT, run TEXT, id TEXT)",
    "CREATE TABLE applied (op TEXT, outcome TEXT, value TEXT, code TEXT)",
    "CREATE TABLE acked (op TEXT)",
    "CREATE TABLE sent (op TEXT)",
    "CREATE TABLE other (op TEXT)",
)


class Job(Struct, omit_defaults=True):
    """What a handler is to do.

    Attributes:
        op: the operation, as the history knows it.
        effect: a row in the service's own table; or something outside that goes by ctx.id; or nothing.
        slow: so many seconds before anything else.
        hold: so many seconds within the transaction.
        fails: so many runs raise.
        no: a Reject, raised or returned.
        asks: what the handler asks on its way.
        together: it asks all of that at once.
        timeout: for what it asks; 0 for the default.
        sends: what it sends.
        tells: names of events that it publishes.
        key: the ordering key, for an operation that has one.
    """

    op: str
    effect: Literal["row", "id", "none"] = "row"
    slow: float = 0.0
    hold: float = 0.0
    fails: int = 0
    no: Literal["", "raised", "returned"] = ""
    asks: list[Job] = []
    together: bool = False
    timeout: float = 0.0
    sends: list[Job] = []
    tells: list[str] = []
    key: str = ""
    to: str = ""


class Done(Struct):
    """What a handler answers.

    Attributes:
        op: the operation, so that another one's answer is noticed.
        value: new for each run.
    """

    op: str
    value: str


class No(Reject):
    """The handler's own no."""

    code = "no"


class Outside:
    """Somebody outside, to whom handlers bring things under an id of theirs: the first one counts.

    Args:
        ledger: what is seen of events, by all processes.
    """

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = ledger
        self.brought: dict[str, str] = {}
        self.ids: dict[str, set[str]] = {}

    def bring(self, id: str, op: str, value: str) -> str:
        """Bring a value; return the one that counts."""
        self.ids.setdefault(op, set()).add(id)
        return self.brought.setdefault(id, value)


class Scene:
    """One process's view of the world, which its handlers find in their context.

    Args:
        who: the process.
        note: takes records, unless the process is dead.
        outside: to whom effects by id are brought.
    """

    def __init__(self, who: str, note: Callable[[Record], None], outside: Outside) -> None:
        self._who = who
        self._note = note
        self._outside = outside
        self._runs = 0

    @property
    def ledger(self) -> Ledger:
        """What is seen of events."""
        assert self._outside.ledger is not None
        return self._outside.ledger

    def next_run(self, op: str) -> str:
        """Return the name of a run."""
        self._runs += 1
        return f"{op}#{self._who}.{self._runs}"

    async def run(self, service: str, job: Job, ctx: Context) -> Done:
        """Do a job, and note what is seen of it."""
        run = self.next_run(job.op)
        if job.effect != "row":
            return await self._do(service, job, ctx, run)
        self._note(Began(job.op, service, run, ctx.attempt))
        try:
            done = await self._do(service, job, ctx, run)
        except BaseException:
            self._note(Ended(job.op, run, "raised"))
            raise
        self._note(Ended(job.op, run, "returned"))
        return done

    async def _do(self, service: str, job: Job, ctx: Context, run: str) -> Any:
        if job.slow:
            await asyncio.sleep(job.slow)
        if ctx.attempt <= job.fails:
            raise ValueError(f"{job.op} fails")
        if job.no == "raised":
            raise No(job.op)
        if job.together:
            told = await asyncio.gather(
                *(self.ask(service, each, ctx, job) for each in job.asks), return_exceptions=True
            )
            for each in told:
                if isinstance(each, BaseException):
                    raise each
        else:
            for each in job.asks:
                await self.ask(service, each, ctx, job)
        value = f"{job.op} by {run}"
        sent = [await self._send(service, each, ctx, run) for each in job.sends]
        for told in job.tells:
            await self._tell(service, f"{told}+{run}", ctx)
        if job.effect == "id":
            value = self._outside.bring(ctx.id, job.op, value)
        if job.effect == "row" or sent or job.no:
            db = await ctx.transaction()
            if job.no:
                await db.execute("INSERT INTO other VALUES (?)", (job.op,))
            elif job.effect == "row":
                row = (job.op, value, run, ctx.id)
                await db.execute("INSERT INTO effects (op, value, run, id) VALUES (?, ?, ?, ?)", row)
            for op in sent:
                await db.execute("INSERT INTO sent VALUES (?)", (op,))
            if job.hold:
                await asyncio.sleep(job.hold)
        return No(job.op) if job.no else Done(job.op, value)

    async def ask(self, service: str, job: Job, ctx: Context, asker: Job) -> None:
        """Ask another service."""
        operation = OPERATIONS[job.to]
        self._note(Invoked(job.op, caller=service, service=job.to.partition(".")[0], key=job.key))
        try:
            done = await ctx.call(operation, job, timeout=asker.timeout or None)
        except PosthouseError as error:
            self._note(structs.replace(refused(job.op, error), provisional=True))
            raise
        self._note(Told(job.op, "done", done.value, echo=done.op, provisional=True))

    async def _send(self, service: str, job: Job, ctx: Context, run: str) -> str:
        op = f"{job.op}~{run}"
        self._note(Invoked(op, caller=service, service=job.to.partition(".")[0], key=job.key))
        await ctx.send(OPERATIONS[job.to], structs.replace(job, op=op))
        return op

    async def _tell(self, service: str, op: str, ctx: Context) -> None:
        from tests.sim.news import publish_in_handler

        await publish_in_handler(service, op, ctx)


SCENE: Final[ContextVar[Scene]] = ContextVar("scene")
OPERATIONS: Final[dict[str, Operation[Job, Done]]] = {}


async def _apply(reply: Reply[Job, Done], ctx: Context) -> None:
    try:
        done = reply.get()
    except NotDoneError as error:
        row = (reply.request.op, "not done", "", error.code)
    else:
        row = (reply.request.op, "done", done.value, "")
    if reply.request.effect != "row":
        return
    db = await ctx.transaction()
    await db.execute("INSERT INTO applied VALUES (?, ?, ?, ?)", row)


async def _ack(reply: Reply[Job, Done], ctx: Context) -> None:
    if reply.request.effect == "row":
        db = await ctx.transaction()
        await db.execute("INSERT INTO acked VALUES (?)", (reply.request.op,))


@cache
def services(*, hears: bool, concurrency: int, tells: bool = False) -> dict[str, Service]:
    """Return the services, declared once: whose scene a handler is in, its context says.

    Args:
        hears: of replies and acks.
        concurrency: of each service.
        tells: they tell events, and hear them.
    """
    from tests.sim.news import NEWS_SCHEMA, add_news

    schema = (*SCHEMA, *NEWS_SCHEMA) if tells else SCHEMA
    declared = {name: _declared(name, concurrency, schema) for name in ("shop", "prices", "stock")}
    if tells:
        add_news(declared)
    if hears:
        for operation in (OPERATIONS["prices.do"], OPERATIONS["prices.keyed"]):
            declared["shop"].on_reply(operation)(_apply)
            declared["prices"].on_ack(operation)(_ack)
    return declared


def _declared(name: str, concurrency: int, schema: Sequence[str]) -> Service:
    service = Service(name, schema=schema, concurrency=concurrency)

    @service.handler(name="do", rejects=(No,), backoff="100ms..2s", attempts=4, timeout="90m")
    async def do(job: Job, ctx: Context) -> Done:
        return await SCENE.get().run(name, job, ctx)

    @service.handler(name="keyed", key="key", rejects=(No,), backoff="100ms..2s", attempts=4)
    async def keyed(job: Job, ctx: Context) -> Done:
        return await SCENE.get().run(name, job, ctx)

    OPERATIONS[do.name] = do
    OPERATIONS[keyed.name] = keyed
    return service
