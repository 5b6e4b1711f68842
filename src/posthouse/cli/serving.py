"""Serves in this process: services, a gateway, or both, until a signal says to end.

The gateway goes first when all ends, so that the HTTP requests that it holds are still answered;
then the services drain. A second signal ends the grace.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Final

from posthouse.cli import exits, logs, notices
from posthouse.cli.banner import banner as banner_of
from posthouse.cli.banner import facts
from posthouse.cli.parent import tell_ready
from posthouse.declare.contract_of import contract_of
from posthouse.runtime.host import Host
from posthouse.runtime.signals import Signals
from posthouse.runtime.start import run_loop, serve_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.cli.options import Options
    from posthouse.declare.service import Service
    from posthouse.gateway.server import Listener
    from posthouse.runtime.settings import Settings

_log: Final = logging.getLogger("posthouse.cli")


def serve(
    options: Options,
    settings: Settings,
    services: Sequence[Service],
    *,
    bind: str = "",
    banner: bool = True,
    news: int = -1,
) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        options: how to talk.
        settings: how it runs here.
        services: what to serve; may be none, for a gateway alone.
        bind: where the gateway listens; empty for none.
        banner: say what runs where, once it does.
        news: the pipe on which a parent waits to hear that we serve.

    Raises:
        PosthouseError: it could not be started.
    """
    logs.set_up(as_json=options.json)
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(line_buffering=True)  # what a handler prints is read now, also in a pipe
    run_loop(_serve(options, settings, services, bind=bind, banner=banner, news=news))
    return exits.FINE


async def _serve(
    options: Options, settings: Settings, services: Sequence[Service], *, bind: str, banner: bool, news: int
) -> None:
    with Signals() as signals:
        async with Host(settings) as host:
            if services and not await signals.unless_asked(serve_all(host, services)):
                return
            door = await _opened(host, bind) if bind else None
            address = door.address if door is not None else ""
            if banner:
                contracts = [contract_of(service) for service in services] or [*host.directory.contracts.values()]
                text = banner_of(contracts, settings, bind=address)
                notices.notice(
                    options, text, event="ready", pid=os.getpid(), **facts(contracts, settings, bind=address)
                )
            tell_ready(news, address)
            await signals.asked.wait()
            closing = asyncio.create_task(_close(host, door))
            signals.hurry = closing.cancel
            try:
                await closing
            except asyncio.CancelledError:
                _log.warning("asked twice to end: what was still at work is dropped here, and comes again")


async def _opened(host: Host, bind: str) -> Listener:
    from posthouse.gateway.server import Listener  # a process without a gateway needs no HTTP

    return await Listener.open(host, bind)


async def _close(host: Host, door: Listener | None) -> None:
    if door is not None:
        await door.close()
    await host.drain()
