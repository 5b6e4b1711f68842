"""`posthouse _announce APP`: the child that makes a system ready before anything is delivered.

It declares all queues, bindings and contracts, so that no event is published to a subscription that
is not there yet, and no HTTP request meets a gateway that does not know its route. Then it prints
the contracts and ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.cli.parent import end_with_parent, of_parent

if TYPE_CHECKING:
    from posthouse.contracts.registry import Contract
    from posthouse.declare.service import Service
    from posthouse.runtime.settings import Settings


@click.command("_announce", hidden=True)
@click.argument("app")
@of_parent
@common
def announce(options: Options, app: str, lifeline: int, news: int) -> int:
    """Announce all services of a program, and print their contracts as JSON."""
    from posthouse.runtime.app import load_app

    settings = options.settings()
    end_with_parent(lifeline, grace=settings.grace)
    for contract in asyncio.run(_announced(settings, load_app(app))):
        output.record(contract)
    return exits.FINE


async def _announced(settings: Settings, services: list[Service]) -> list[Contract]:
    from posthouse.declare.contract_of import contract_of
    from posthouse.runtime.host import Host

    async with Host(settings) as host:
        await host.announce(*services)
    return [contract_of(service) for service in services]
