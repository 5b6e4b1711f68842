"""`posthouse check APP`: what a program declares, and what will not work; starts nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.errors import PosthouseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.cli.findings import Finding
    from posthouse.contracts.registry import Contract
    from posthouse.declare.service import Service
    from posthouse.declare.target import Target
    from posthouse.runtime.settings import Settings


@click.command()
@click.argument("app")
@common
def check(options: Options, app: str) -> int:
    """Load APP, print what it declares, and look for what will not work.

    What others have announced on the transport is taken into account where it can be read. The exit
    status is 1 when something was found.
    """
    from posthouse.cli.findings import World, findings
    from posthouse.declare.contract_of import contract_of
    from posthouse.runtime.app import load_app

    options.mind(app)
    settings = options.settings()
    services = load_app(app)
    found = findings(services, World([contract_of(each) for each in services], _announced(settings)), settings)
    if options.json:
        _as_json(services, found)
    else:
        _as_text(services, found)
    return exits.FINDING if found else exits.FINE


def _announced(settings: Settings) -> list[Contract]:
    """Return the contracts in the registry; none where there is none yet."""
    scheme, _, place = settings.transport.partition(":")
    from posthouse.cli.house import is_directory, opened

    async def read() -> list[Contract]:
        async with opened(settings) as host:
            return [*host.directory.contracts.values()]

    try:
        if scheme == "memory" or (scheme == "sqlite" and not is_directory(Path(place))):
            return []
        return asyncio.run(read())
    except PosthouseError as error:
        output.say(f"what others have announced could not be read, and is left out: {error} ({error.code})")
        return []


def _declared(services: Sequence[Service]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for service in services:
        for handler in service.operations.values():
            mode = handler.operation.mode
            rows.append(_row("operation", handler, mode, route=handler.http, uses=_uses(handler)))
        for event in service.events.values():
            rows.append({"kind": "event", "name": event.name, "mode": event.mode})
        for heard in service.subscriptions.values():
            mode = heard.event.mode
            rows.append(_row("subscription", heard, mode, hears=heard.event.name, uses=_uses(heard)))
    return rows


def _row(kind: str, target: Target, mode: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": target.name, "mode": mode, "place": target.place, **more}


def _uses(target: Target) -> list[str]:
    from posthouse.cli.findings import used_by

    return [used.name for used in used_by(target.function)]


def _as_json(services: Sequence[Service], found: Sequence[Finding]) -> None:
    for row in _declared(services):
        output.record(row)
    for each in found:
        output.record({"kind": "finding", "code": each.code, "what": each.what, "place": each.where})


def _as_text(services: Sequence[Service], found: Sequence[Finding]) -> None:
    output.table(
        ["WHAT", "NAME", "MODE", "FROM", "USES"],
        [
            (
                row["kind"],
                row["name"],
                row["mode"],
                row.get("route") or row.get("hears", ""),
                ", ".join(row.get("uses", ())),
            )
            for row in _declared(services)
        ],
    )
    output.line()
    for each in found:
        output.line(f"{each.code}: {each.what}" + (f"  ({each.where})" if each.where else ""))
    output.line(f"{len(found)} finding{'s' if len(found) != 1 else ''}" if found else "nothing found: it can run")
