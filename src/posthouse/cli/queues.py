"""`posthouse queues`: what every queue holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.message.message import Mode

if TYPE_CHECKING:
    from posthouse.contracts.transport import QueueInfo
    from posthouse.runtime.host import Host


@click.command()
@common
def queues(options: Options) -> int:
    """List the queues: what they hold, what they may hold, who receives."""
    from posthouse.cli.house import visit

    async def work(host: Host) -> tuple[list[QueueInfo], set[str], float]:
        names = {name for name, record in host.directory.operations.items() if record.mode is Mode.JOURNALED}
        return await host.transport.queues(), names, host.seams.clock.now()

    found, journaled, now = visit(options, work)
    found.sort(key=lambda info: info.spec.name)
    if options.json:
        for info in found:
            output.record(info)
        return exits.FINE
    if not found:
        output.say("there are no queues here yet; a service makes its own when it is first started")
        return exits.FINE
    output.table(
        ["QUEUE", "STORED#", "AT WORK#", "DELAYED#", "DEAD#", "SIZE#", "CAPACITY#", "OLDEST", "RECEIVERS#"],
        [
            (
                info.spec.name,
                f"{info.stored:,}",
                f"{info.leased:,}",
                f"{info.delayed:,}",
                f"{info.dead:,}",
                output.size(info.stored_bytes),
                f"{info.spec.capacity:,}",
                output.ago(info.oldest, now),
                info.receivers,
            )
            for info in found
        ],
    )
    if any(info.spec.name in journaled for info in found):
        output.say("journaled requests only pass through here: `posthouse inbox` lists them")
    return exits.FINE
