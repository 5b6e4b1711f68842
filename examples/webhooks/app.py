"""GitHub webhooks in by HTTP, and services that each do something with them, exactly once.

    posthouse up app.py        (here, where posthouse.toml is)

    relay      takes each delivery behind the gateway, and sends what happened to who needs it
    stats      counts everything, by repository
    chat       says in a channel who pushed and discussed what; asks the directory for the channel
    guard      keeps an eye on failed builds and on alerts; asks the directory too
    directory  knows which channel a repository has
    board      shows what comes in: a side show, by events, which are queued in this version

All but the board are journaled, which is the default: what a handler writes by ctx.transaction() is kept
together with what it sends, what it was told, and its reply, or nothing of it is. So no entry here
needs a key that keeps a second one out, and none has it.
"""

from __future__ import annotations

import os
from pathlib import Path

import github
from msgspec import Struct

from posthouse import Context, HttpRequest, Reject, Service
from posthouse.sync import SyncContext

SCHEMA = """
CREATE TABLE entries (
    what TEXT NOT NULL,        -- what was done
    delivery TEXT NOT NULL,    -- for which delivery: the number that GitHub gave it
    place TEXT NOT NULL,       -- the repository, or the organization
    text TEXT NOT NULL
)"""
ENTER = "INSERT INTO entries VALUES (?, ?, ?, ?)"

relay, stats, chat, guard, directory = (
    Service(name, schema=[SCHEMA]) for name in ("relay", "stats", "chat", "guard", "directory")
)
board = Service("board")
came = relay.event("came", github.Delivered)

# --- directory: answers the others -------------------------------------------------------------------


class Question(Struct):
    """Where do people talk about this place? Asked for a delivery."""

    delivery: str
    place: str


class Channel(Struct):
    name: str


@directory.handler
async def channel_of(question: Question, ctx: Context) -> Channel:
    """Say where people talk about a place, and keep who asked."""
    channel = Channel("#" + question.place.partition("/")[0].lower())
    db = await ctx.transaction()
    await db.execute(ENTER, ("answered", question.delivery, question.place, f"{ctx.caller} was told {channel.name}"))
    return channel


# --- stats: counts everything ------------------------------------------------------------------------


@stats.handler
async def count(news: github.Delivered, ctx: Context) -> None:
    """Count a delivery; how many a repository has is a question to the entries."""
    what = f"{news.kind}.{news.action}" if news.action else news.kind
    db = await ctx.transaction()
    await db.execute(ENTER, ("counted", news.delivery, news.place, f"{what} by {news.who}"))


# --- chat: says what people do -----------------------------------------------------------------------


@chat.handler
async def tell_push(news: github.Pushed, ctx: Context) -> None:
    """Say who pushed."""
    channel = await ctx.call(channel_of, Question(news.delivery, news.place))
    text = f"{channel.name}: {news.who} pushed {news.commits} commits to {news.ref}"
    db = await ctx.transaction()
    await db.execute(ENTER, ("told push", news.delivery, news.place, text))


@chat.handler
async def tell_talk(news: github.Discussed, ctx: Context) -> None:
    """Say who discussed what."""
    channel = await ctx.call(channel_of, Question(news.delivery, news.place))
    text = f"{channel.name}: {news.who} {news.action} #{news.number} {news.title}"
    db = await ctx.transaction()
    await db.execute(ENTER, ("told talk", news.delivery, news.place, text))


# --- guard: watches what needs somebody; plain functions do as well, and run in threads ---------------


@guard.handler
def watch(news: github.Checked, ctx: SyncContext) -> None:
    """Note how a check stands."""
    db = ctx.transaction()
    db.execute(ENTER, ("watched", news.delivery, news.place, f"{news.name}: {news.conclusion}"))


@guard.handler
def alarm(news: github.Alerted, ctx: SyncContext) -> None:
    """Say in the channel of the place what was found there."""
    channel = ctx.call(channel_of, Question(news.delivery, news.place))
    text = f"{channel.name}: {news.severity}: {news.summary} ({news.action})"
    db = ctx.transaction()
    db.execute(ENTER, ("raised alarm", news.delivery, news.place, text))


# --- relay: from HTTP to those who need it -----------------------------------------------------------


@relay.handler(http="POST /github", status=202)
async def receive(request: HttpRequest, ctx: Context) -> None:
    """Take a delivery. Its signature has been checked by the gateway: see posthouse.toml."""
    kind = request.headers.get("x-github-event", "")
    delivery = request.headers.get("x-github-delivery", "")
    if not kind or not delivery:
        raise Reject("this is no delivery of GitHub: x-github-event or x-github-delivery is missing", status=400)
    for news in github.news_of(kind, delivery, request.body):
        await pass_on(news, ctx)
    db = await ctx.transaction()
    await db.execute(ENTER, ("received", delivery, "", kind))


async def pass_on(news: github.News, ctx: Context) -> None:
    """Send news to who needs it; it leaves when the handler has ended well, and its entry is there."""
    match news:
        case github.Delivered():
            await ctx.send(count, news)
            await ctx.publish(came, news)
        case github.Pushed():
            await ctx.send(tell_push, news)
        case github.Discussed():
            await ctx.send(tell_talk, news)
        case github.Checked():
            await ctx.send(watch, news)
        case github.Alerted():
            await ctx.send(alarm, news)


# --- board: the side show ----------------------------------------------------------------------------

LINES = Path(os.environ.get("WEBHOOKS_BOARD") or Path(__file__).with_name(".posthouse") / "board.txt")


@board.on(came)
def show(news: github.Delivered) -> None:
    """Add a line to the board. Events are queued: one may come twice, or be lost with the transport."""
    with LINES.open("a", encoding="utf-8") as lines:
        lines.write(f"{news.delivery} {news.kind} {news.place}\n")
