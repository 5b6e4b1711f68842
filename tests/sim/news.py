"""What is told in the simulated worlds: events, the subscriptions that hear them, and what must have come of each.

An event goes by a name of its own. Who publishes it in a handler writes the name into its own table, and who hears it
writes the name into its own; so the tables say at the end what was told, and who has had it how often.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct

from posthouse import Context, Event
from posthouse.errors import IdReusedError, NotStoredError, PosthouseError
from tests.sim import services as scene
from tests.sim.services import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse import Service
    from posthouse.contracts.store import Books
    from tests.sim.plans import Tell
    from tests.sim.world import Place, World

T = TypeVar("T")

NEWS_SCHEMA: Final = (
    "CREATE TABLE told (op TEXT)",
    "CREATE TABLE heard (op TEXT, subscription TEXT, run TEXT)",
)

HEARS: Final = {
    "stock.note": "prices.told",
    "stock.many": "prices.told",
    "stock.first": "shop.told",
    "shop.flaky": "prices.told",
    "shop.asks": "prices.told",
    "prices.echo": "shop.told",
}
"""The event of each subscription."""

FROM_THE_FIRST: Final = frozenset({"stock.first"})
"""Subscriptions that hear also what was told before they were made."""


class News(Struct):
    """An event: its name, and what those who hear it do.

    Attributes:
        op: its name.
        fails: so many runs of a handler raise.
        slow: so many seconds before anything else.
    """

    op: str
    fails: int = 0
    slow: float = 0.0


TOLD: Final = {name: Event[News](f"{name}.told", News, mode="journaled", retain="1m") for name in ("shop", "prices")}
"""The event of each service that tells something. It is kept for longer than anybody is away."""


class Ledger:
    """What was seen of events.

    Attributes:
        begun: when each was about to be published for the first time, and by which service.
        confirmed: those whose publishing returned.
        tries: how often somebody began to publish each.
        refusals: how often each was refused.
        runs: how often each subscription ran for each.
        ready: when all instances of each service had started once; where a subscription begins is said by the one
            that makes it, which need not be the first that is ready.
    """

    def __init__(self) -> None:
        self.begun: dict[str, tuple[float, str]] = {}
        self.confirmed: set[str] = set()
        self.tries: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.runs: Counter[tuple[str, str]] = Counter()
        self.ready: dict[str, float] = {}

    def fail(self, op: str, subscription: str) -> int:
        """Return the how many-th run of a subscription this is for an event."""
        self.runs[op, subscription] += 1
        return self.runs[op, subscription]

    def begin(self, op: str, service: str) -> None:
        """Note that an event is about to be published."""
        self.tries[op] += 1
        self.begun.setdefault(op, (asyncio.get_running_loop().time(), service))


# --- who tells ----------------------------------------------------------------------------------------------


async def publish(place: Place, tell: Tell, ledger: Ledger) -> None:
    """Publish an event from outside of handlers."""
    assert place.post is not None
    ledger.begin(tell.news.op, place.service)
    id = tell.news.op if tell.named else None
    try:
        await place.post.client(place.service).publish(TOLD[place.service], tell.news, id=id)
    except (NotStoredError, IdReusedError):
        ledger.refusals[tell.news.op] += 1
    except PosthouseError:
        return  # it may have been stored
    else:
        ledger.confirmed.add(tell.news.op)


async def publish_in_handler(service: str, op: str, ctx: Context) -> None:
    """Publish an event in a handler, and note it in the handler's transaction."""
    scene.SCENE.get().ledger.begin(op, service)
    db = await ctx.transaction()
    await db.execute("INSERT INTO told VALUES (?)", (op,))
    await ctx.publish(TOLD[service], News(op))


# --- who hears ----------------------------------------------------------------------------------------------


async def _hear(subscription: str, news: News, ctx: Context, *, fails: bool = False) -> str:
    run = scene.SCENE.get().next_run(news.op)
    if news.slow:
        await asyncio.sleep(news.slow)
    if fails and scene.SCENE.get().ledger.fail(news.op, subscription) <= news.fails:
        raise ValueError(f"{news.op} fails at {subscription}")
    db = await ctx.transaction()
    await db.execute("INSERT INTO heard VALUES (?, ?, ?)", (news.op, subscription, run))
    return run


def add_news(declared: dict[str, Service]) -> None:
    """Add the events and subscriptions to the services."""
    for name, event in TOLD.items():
        declared[name].event(event)
    shop, prices, stock = declared["shop"], declared["prices"], declared["stock"]

    @stock.on(TOLD["prices"])
    async def note(news: News, ctx: Context) -> None:
        await _hear("stock.note", news, ctx)

    @stock.on(TOLD["prices"], batch=4)
    async def many(news: list[News], ctx: Context) -> None:
        for each in news:
            await _hear("stock.many", each, ctx)

    @stock.on(TOLD["shop"], start="first")
    async def first(news: News, ctx: Context) -> None:
        await _hear("stock.first", news, ctx)

    @shop.on(TOLD["prices"], backoff="100ms..2s", attempts=4)
    async def flaky(news: News, ctx: Context) -> None:
        await _hear("shop.flaky", news, ctx, fails=True)

    @shop.on(TOLD["prices"])
    async def asks(news: News, ctx: Context) -> None:
        job = Job(f"{news.op}.asked", to="stock.do")
        await scene.SCENE.get().ask("shop", job, ctx, job)
        await _hear("shop.asks", news, ctx)

    @prices.on(TOLD["shop"], backoff="100ms..2s", attempts=4)
    async def echo(news: News, ctx: Context) -> None:
        run = await _hear("prices.echo", news, ctx, fails=True)
        await publish_in_handler("prices", f"{news.op}+{run}", ctx)


# --- what must have come of it ----------------------------------------------------------------------------------


async def not_heard_yet(world: World) -> list[str]:
    """Return which feeds have not had all that is in the streams of their publishers, and which are not there."""
    told = {
        (service, stream.topic, stream.epoch): stream.next
        for service in TOLD
        for stream in await _read(world, service, lambda books: books.streams())
    }
    left: list[str] = []
    for name, topic in HEARS.items():
        publisher = topic.partition(".")[0]
        feeds = await _read(world, name.partition(".")[0], lambda books, name=name: books.feeds(name))
        over = {feed.publisher.epoch: feed.over for feed in feeds}
        for (service, stream, epoch), end in told.items():
            if service != publisher or stream != topic:
                continue
            had = over.get(epoch)
            if had is None or had.floor < end or had.ranges:
                left.append(f"{name} has had {had} of {end} events of {topic}")
    return left


async def _read(world: World, service: str, step: Callable[[Books], list[T]]) -> list[T]:
    return await world.someone_of(service).store.read(step)


async def judge_news(world: World) -> list[str]:
    """Return what is wrong with what was told and heard."""
    ledger = world.ledger
    told = set(ledger.confirmed)
    heard: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    for service in world.services():
        place = world.someone_of(service)
        async with place.store.reading() as rows:
            told.update([op for (op,) in await rows.execute("SELECT op FROM told")])
            heard.update([(op, name) for op, name in await rows.execute("SELECT op, subscription FROM heard")])
        letters = await place.store.read(lambda books: books.dead_letters(limit=1000))
        wrong += [f"{service} was told: {letter.reason}" for letter in letters if letter.code == "event.lost"]
    for (op, name), times in heard.items():
        if times > 1:
            wrong.append(f"{name} has had {op} {times} times")
        if op not in ledger.begun:
            wrong.append(f"{name} has had {op}, which nobody told")
        elif "+" in op and op not in told:
            wrong.append(f"{name} has had {op}, and who told it has not committed")
        elif ledger.refusals[op] == ledger.tries[op]:
            wrong.append(f"{name} has had {op}, which was refused")
    for op in told:
        at, service = ledger.begun[op]
        for name, topic in HEARS.items():
            if topic != f"{service}.told" or heard[op, name]:
                continue
            if name in FROM_THE_FIRST or ledger.ready.get(name.partition(".")[0], at) < at:
                wrong.append(f"{name} has not had {op}")
    world.heard = heard.total()
    return wrong
