"""`posthouse services [NAME]`: who is known, and who is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.cli.shape import shape
from posthouse.contracts.registry import Contract, Instance
from posthouse.errors import UnknownServiceError
from posthouse.message.message import Mode

if TYPE_CHECKING:
    from posthouse.runtime.host import Host


class _Known(msgspec.Struct):
    """A service as scripts read it."""

    service: str
    contract: Contract | None
    instances: list[Instance]


@click.command()
@click.argument("name", required=False)
@common
def services(options: Options, name: str | None) -> int:
    """List the services with their instances, or show NAME with its operations and schemas."""
    from posthouse.cli.house import visit

    known, now = visit(options, _look)
    if name is not None:
        found = next((each for each in known if each.service == name), None)
        if found is None:
            from posthouse.runtime.layers import nearest

            meant = nearest(name, [each.service for each in known])
            raise UnknownServiceError(f"there is no service {name!r}{meant}")
        known = [found]
    if options.json:
        for each in known:
            output.record(_named(msgspec.to_builtins(each)))
    elif name is not None:
        _show(known[0], now)
    elif known:
        _list(known, now)
    else:
        output.say("no service has been announced here yet; `posthouse dev app.py` does it")
    return exits.FINE


def _named(value: Any) -> Any:
    """Return the same with each mode as its name."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {
            key: Mode(each).name.lower() if key == "mode" and isinstance(each, int) else _named(each)
            for key, each in fields.items()
        }
    return [_named(each) for each in cast("list[Any]", value)] if isinstance(value, list | tuple) else value


async def _look(host: Host) -> tuple[list[_Known], float]:
    directory = host.directory
    names = sorted({*directory.contracts, *directory.present})
    known = [_Known(name, directory.contracts.get(name), list(directory.present.get(name, ()))) for name in names]
    return known, host.seams.clock.now()


def _list(known: Sequence[_Known], now: float) -> None:
    output.table(
        ["SERVICE", "INSTANCES#", "AT WORK#", "STORE", "OPERATIONS", "EVENTS", "HEARS", "SINCE"],
        [
            (
                each.service,
                _count(each.instances),
                sum(instance.load for instance in each.instances),
                ", ".join(sorted({instance.store[:8] for instance in each.instances if instance.store})) or "-",
                ", ".join(_short(record.name) for record in each.contract.operations) if each.contract else "",
                ", ".join(_short(record.name) for record in each.contract.events) if each.contract else "",
                ", ".join(record.topic for record in each.contract.subscriptions) if each.contract else "",
                output.ago(min((instance.started for instance in each.instances), default=None), now),
            )
            for each in known
        ],
    )


def _count(instances: Sequence[Instance]) -> str:
    draining = sum(instance.draining for instance in instances)
    return f"{len(instances)} ({draining} draining)" if draining else str(len(instances))


def _show(known: _Known, now: float) -> None:
    if (contract := known.contract) is not None:
        output.line(f"{contract.service}, contract {contract.version}, announced {output.moment(contract.announced)}")
        for operation in contract.operations:
            output.line(f"\n  operation {operation.name}  ({operation.mode.name.lower()})")
            if operation.http:
                output.line(f"    route    {operation.http}")
            output.line(f"    request  {shape(operation.request)}")
            output.line(f"    reply    {shape(operation.reply)}")
            for code, status in operation.rejects:
                output.line(f"    rejects  {code} (HTTP {status})")
        for event in contract.events:
            output.line(f"\n  event {event.name}  ({event.mode.name.lower()})")
            output.line(f"    data     {shape(event.data)}")
        for heard in contract.subscriptions:
            output.line(f"\n  subscription {heard.name}  hears {heard.topic}  ({heard.mode.name.lower()})")
    output.line()
    if not known.instances:
        output.line("  no instance is there now")
    for instance in known.instances:
        state = "draining" if instance.draining else f"{instance.load} at work"
        started = output.ago(instance.started, now)
        store = f", store {instance.store[:8]} epoch {instance.store_epoch}" if instance.store else ""
        where = f"pid {instance.pid} on {instance.host}"
        output.line(f"  instance {instance.peer[:8]}  {where}, started {started} ago, {state}{store}")


def _short(name: str) -> str:
    return name.partition(".")[2]
