"""`posthouse publish`: tell an event from a terminal, to try out what hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from posthouse.cli import data, exits, output
from posthouse.cli.options import Options, common
from posthouse.contracts.transport import Outgoing
from posthouse.errors import UnknownServiceError
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Message, Mode
from posthouse.message.names import check_name, service_of

if TYPE_CHECKING:
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

    It is told in the name of the service that owns the event.
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
    from posthouse.runtime.layers import nearest

    record = host.directory.events.get(event)
    if record is None:
        raise UnknownServiceError(f"nobody has announced the event {event!r}{nearest(event, host.directory.events)}")
    data.check(body, record.data, event)
    message = Message(
        Kind.EVENT, host.seams.new_id(), event, service_of(event), host.seams.clock.now(), body, record.mode
    )
    if record.mode is Mode.VOLATILE:
        await host.caller.tell(message)
    else:
        await host.transport.send([Outgoing(event, encode(message), True)])
    return _Told(message.id, event, [heard.name for heard in host.directory.subscriptions.get(event, ())])
