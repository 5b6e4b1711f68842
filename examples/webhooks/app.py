"""GitHub webhooks in by HTTP, typed events out, and five services that do something with them.

    posthouse up app.py        (here, where posthouse.toml is)

    relay      takes each delivery behind the gateway, and tells what happened as typed events
    stats      counts everything, by repository
    chat       says in a channel who pushed and discussed what; asks the directory for the channel
    guard      keeps an eye on failed builds and on alerts; asks the directory too
    directory  knows which channel a repository has

Every handler here writes to its service's own book, so they are plain functions: those run in threads,
where waiting for the disk is allowed.
"""

from __future__ import annotations

import github
from book import Book
from msgspec import Struct

from posthouse import HttpRequest, Reject, Service
from posthouse.sync import SyncContext

relay, stats, chat, guard, directory = map(Service, ["relay", "stats", "chat", "guard", "directory"])

delivered = relay.event("delivered", github.Delivered)
pushed = relay.event("pushed", github.Pushed)
discussed = relay.event("discussed", github.Discussed)
checked = relay.event("checked", github.Checked)
alerted = relay.event("alerted", github.Alerted)

BOOKS = {service.name: Book(service.name) for service in (relay, stats, chat, guard, directory)}

# --- relay: from HTTP to events ----------------------------------------------------------------------


@relay.handler(http="POST /github", status=202)
def receive(request: HttpRequest, ctx: SyncContext) -> None:
    """Take a delivery. Its signature has been checked by the gateway: see posthouse.toml."""
    kind = request.headers.get("x-github-event", "")
    delivery = request.headers.get("x-github-delivery", "")
    if not kind or not delivery:
        raise Reject("this is no delivery of GitHub: x-github-event or x-github-delivery is missing", status=400)
    for event in github.events_of(kind, delivery, request.body):
        publish(ctx, event)
    BOOKS["relay"].enter("github", delivery, ctx.id, "", kind)


def publish(ctx: SyncContext, event: github.Event) -> None:
    """Tell an event to all who subscribe to it; it leaves when the handler has ended well."""
    match event:
        case github.Delivered():
            ctx.publish(delivered, event)
        case github.Pushed():
            ctx.publish(pushed, event)
        case github.Discussed():
            ctx.publish(discussed, event)
        case github.Checked():
            ctx.publish(checked, event)
        case github.Alerted():
            ctx.publish(alerted, event)


# --- directory: answers the others -------------------------------------------------------------------


class Place(Struct):
    """A repository, or an organization."""

    name: str


class Channel(Struct):
    name: str


@directory.handler
def channel_of(place: Place, ctx: SyncContext) -> Channel:
    """Say where people talk about a place."""
    channel = Channel("#" + place.name.partition("/")[0].lower())
    BOOKS["directory"].enter("asked", ctx.id, ctx.id, place.name, f"{ctx.caller} was told {channel.name}")
    return channel


# --- stats: hears everything -------------------------------------------------------------------------


@stats.on(delivered)
def count(event: github.Delivered, ctx: SyncContext) -> None:
    """Count a delivery; how many a repository has is a question to the book."""
    what = f"{event.kind}.{event.action}" if event.action else event.kind
    BOOKS["stats"].enter("delivered", event.delivery, ctx.id, event.place, f"{what} by {event.who}")


# --- chat: hears what people do ----------------------------------------------------------------------


@chat.on(pushed)
def tell_push(event: github.Pushed, ctx: SyncContext) -> None:
    """Say who pushed."""
    channel = ctx.call(channel_of, Place(event.place), timeout="5s")
    text = f"{channel.name}: {event.who} pushed {event.commits} commits to {event.ref}"
    BOOKS["chat"].enter("pushed", event.delivery, ctx.id, event.place, text)


@chat.on(discussed)
def tell_talk(event: github.Discussed, ctx: SyncContext) -> None:
    """Say who discussed what."""
    channel = ctx.call(channel_of, Place(event.place), timeout="5s")
    text = f"{channel.name}: {event.who} {event.action} #{event.number} {event.title}"
    BOOKS["chat"].enter("discussed", event.delivery, ctx.id, event.place, text)


# --- guard: hears what needs somebody ----------------------------------------------------------------


@guard.on(checked)
def watch(event: github.Checked, ctx: SyncContext) -> None:
    """Note how a check stands."""
    BOOKS["guard"].enter("checked", event.delivery, ctx.id, event.place, f"{event.name}: {event.conclusion}")


@guard.on(alerted)
def alarm(event: github.Alerted, ctx: SyncContext) -> None:
    """Say in the channel of the place what was found there."""
    channel = ctx.call(channel_of, Place(event.place), timeout="5s")
    text = f"{channel.name}: {event.severity}: {event.summary} ({event.action})"
    BOOKS["guard"].enter("alerted", event.delivery, ctx.id, event.place, text)
