"""`posthouse call` and `posthouse send`: ask an operation from a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from posthouse.cli import data, exits, output
from posthouse.cli.options import Options, common
from posthouse.clock import seconds
from posthouse.contracts.transport import Outgoing
from posthouse.errors import PendingError, UsageError
from posthouse.message.codec import encode
from posthouse.message.message import Kind, Message, Mode
from posthouse.message.names import check_name, service_of

if TYPE_CHECKING:
    from posthouse.clock import Seconds
    from posthouse.contracts.registry import OperationRecord
    from posthouse.runtime.host import Host


class _Answer(msgspec.Struct):
    id: str
    reply: msgspec.Raw


class _Sent(msgspec.Struct):
    id: str
    operation: str


@click.command()
@click.argument("operation")
@click.argument("json_data", metavar="JSON", default="null")
@click.option("--timeout", default="30s", show_default=True, metavar="TIME", help="How long to wait for the reply.")
@common
def call(options: Options, operation: str, json_data: str, timeout: str) -> int:
    """Ask OPERATION ("prices.quote") with JSON, and print its reply.

    JSON may be - for stdin, or @FILE. The exit status is 4 when the service said no.
    """
    from posthouse.cli.house import visit

    try:
        wait = seconds(float(timeout) if timeout.replace(".", "", 1).isdigit() else timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
    check_name(operation, "operation")
    body = data.read(json_data)

    async def work(host: Host) -> Message:
        record = await _known(host, operation, body)
        return await _asked(host, record, body, wait, talk=not options.json)

    reply = visit(options, work)
    if options.json:
        output.record(_Answer(reply.id, msgspec.Raw(reply.data or b"null")))
    elif reply.data:
        output.line(data.shown(reply.data))
    return exits.FINE


@click.command()
@click.argument("operation")
@click.argument("json_data", metavar="JSON", default="null")
@common
def send(options: Options, operation: str, json_data: str) -> int:
    """Store a request to OPERATION with JSON, wait for nothing, and print its id."""
    from posthouse.cli.house import visit

    check_name(operation, "operation")
    body = data.read(json_data)

    async def work(host: Host) -> str:
        from posthouse.cli.house import NAME
        from posthouse.runtime import unflushed

        record = await _known(host, operation, body)
        seams = host.seams
        message = Message(Kind.REQUEST, seams.new_id(), record.name, NAME, seams.clock.now(), body, record.mode)
        if record.mode is Mode.VOLATILE:
            await host.caller.tell(message)
        else:
            await unflushed.send(host.transport, Outgoing(record.name, encode(message)), message)
        return message.id

    id = visit(options, work)
    if options.json:
        output.record(_Sent(id, operation))
    else:
        output.line(id)
    return exits.FINE


async def _known(host: Host, name: str, body: bytes) -> OperationRecord:
    record = await host.directory.operation(name, within=0.0)
    if not record.whole_request:
        data.check(body, record.request, name)
    return record


async def _asked(host: Host, record: OperationRecord, body: bytes, wait: Seconds, *, talk: bool) -> Message:
    from posthouse.cli.house import NAME
    from posthouse.runtime.outbound import refused

    if talk and record.mode is not Mode.VOLATILE and not host.directory.instances(service_of(record.name)):
        output.say(f"nobody serves {record.name} now; it is {record.mode.name.lower()}, so it waits for one ...")
    ticket = await host.caller.ask(record.name, body, mode=record.mode, source=NAME, expires_in=wait)
    try:
        reply = await ticket.reply
    except PendingError as error:
        error.hint = (
            f"`posthouse messages why {error.id}` says how it stands, and `posthouse messages get` shows its reply."
        )
        raise
    finally:
        host.caller.forget(ticket)
    if reply.refusal is not None:
        raise refused(reply)
    return reply
