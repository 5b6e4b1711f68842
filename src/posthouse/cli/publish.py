"""`posthouse publish`: tell an event from a terminal, to try out what hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from posthouse.cli import data, exits, output
from posthouse.cli.options import Options, common
from posthouse.contracts.transport import Outgoing
from posthouse.errors import UnknownServiceError, UsageError
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Message, Mode
from posthouse.message.names import check_name, service_of

if TYPE_CHECKING:
    from posthouse.cli.stores import Stores
    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books
    from posthouse.runtime.host import Host


class _Told(msgspec.Struct):
    id: str
    event: str
    subscriptions: list[str]


@click.command()
@click.argument("event")
@click.argument("json_data", metavar="JSON", default="null")
@common
def publish(options: Options, event: str, json_data: str) -> int:
    """Tell EVENT ("prices.quoted") with JSON to all its subscriptions, and print its id.

    It is told in the name of the service that owns the event. A journaled one is stored where that service keeps its
    own, so it can only be told where its store lies.
    """
    from posthouse.cli.house import visit

    check_name(event, "event")
    body = data.read(json_data)
    told = visit(options, lambda host: _published(host, event, body))
    if options.json:
        output.record(told)
        return exits.FINE
    output.line(told.id)
    output.say(f"told to {', '.join(told.subscriptions)}" if told.subscriptions else "nobody has subscribed to it")
    return exits.FINE


async def _published(host: Host, event: str, body: bytes) -> _Told:
    from posthouse.runtime import unflushed
    from posthouse.runtime.layers import nearest

    record = host.directory.events.get(event)
    if record is None:
        raise UnknownServiceError(f"nobody has announced the event {event!r}{nearest(event, host.directory.events)}")
    data.check(body, record.data, event)
    message = Message(
        Kind.EVENT, host.seams.new_id(), event, service_of(event), host.seams.clock.now(), body, record.mode
    )
    match record.mode:
        case Mode.VOLATILE:
            await host.caller.tell(message)
        case Mode.QUEUED:
            await unflushed.send(host.transport, Outgoing(event, encode(message), True), message)
        case Mode.JOURNALED:
            await _keep(host, message, record.retain)
    return _Told(message.id, event, [heard.name for heard in host.directory.subscriptions.get(event, ())])


async def _keep(host: Host, message: Message, retain: Seconds) -> None:
    """Store an event with its publisher's own, and push it to those who are there to hear it; others ask for it.

    Raises:
        UsageError: the publisher's store is not here.
        PosthouseError: it could not be stored.
    """
    from posthouse.cli.stores import looked_at
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.telling import Pushed, Telling, tell

    publisher = service_of(message.type)
    here = Here(publisher, peer="", now=host.seams.clock.now, directory=host.directory)

    def store(books: Books) -> list[Pushed]:
        return [each for each in tell(books, [Telling(message, retain)], here) if isinstance(each, Pushed)]

    async with looked_at(host) as stores:
        _must_be_here(stores, message.type)
        pushed = await stores.change(publisher, store, name="tell")
        records = host.directory.subscriptions.get(message.type, ())
        hearers = dict.fromkeys(service_of(each.name) for each in records if each.mode is Mode.JOURNALED)
        Courier(host.transport, host.directory).spread(list(hearers), [each.frame for each in pushed])


def _must_be_here(stores: Stores, event: str) -> None:
    """See that the publisher's store is in this data directory, and is the one that its instances have.

    Raises:
        UsageError: it is not.
        PosthouseError: it cannot be read.
    """
    publisher = service_of(event)
    where = f"{event} is journaled, so it is stored where {publisher} keeps its own"
    if publisher not in stores.by_service and publisher not in stores.unreadable:
        raise UsageError(
            f"{where}, and {publisher} has no store in {stores.host.settings.data}",
            hint=f"Run this where its data directory is, or name that with --data. {publisher} makes its store when it"
            " is started for the first time.",
        )
    store = stores.of(publisher).identity.id
    for instance in stores.host.directory.present.get(publisher, ()):
        if instance.store not in {store, ""}:
            raise UsageError(
                f"{where}, and it runs on {instance.host} (process {instance.pid}) with the store"
                f" {instance.store[:8]}; the one here is {store[:8]}",
                hint="Run this where that store lies: name its data directory with --data.",
            )
