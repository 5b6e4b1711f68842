"""Starts things: `connect` for a program that asks, `run` for one that serves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from posthouse.declare.service import Service
from posthouse.errors import NotBuiltError, UsageError
from posthouse.message.message import Mode
from posthouse.message.names import check_part
from posthouse.runtime import watchdog
from posthouse.runtime.host import Host
from posthouse.runtime.settings import load
from posthouse.runtime.signals import Signals

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from posthouse.runtime.client import Client
    from posthouse.runtime.settings import Settings


def connect(
    service: Service | str,
    *,
    serve: bool = False,
    transport: str | None = None,
    store: object = None,
    config: Path | Mapping[str, Any] | None = None,
) -> AbstractAsyncContextManager[Client]:
    """Take part in the name of a service, for as long as the block lasts.

    Args:
        service: in whose name; a Service where `serve` is set.
        serve: handle the service's messages too.
        transport: the URL of the engine, instead of the configured one.
        store: the URL of its store, instead of the configured one. A service that is only named has no store
            without it: what it asks is left to the replier, and it cannot ask for a reply again.
        config: a file, or what would stand in it, instead of the `posthouse.toml` that is found.

    Raises:
        ConfigError: the configuration or the place of the data cannot be used.
        UnavailableError: the engine cannot be reached.
    """
    if store is not None and not isinstance(store, str):
        raise NotBuiltError("store= takes the URL of a store; other kinds are not in this version")
    if serve and not isinstance(service, Service):
        raise UsageError("connect(..., serve=True) needs the Service itself, not its name")
    return _connected(service, serve, transport, store, config)


@asynccontextmanager
async def _connected(
    service: Service | str,
    serve: bool,
    transport: str | None,
    store: str | None,
    config: Path | Mapping[str, Any] | None,
) -> AsyncGenerator[Client, None]:
    name = service.name if isinstance(service, Service) else check_part(service, "service")
    settings = await asyncio.to_thread(settings_of, transport, config)  # it reads files
    async with Host(settings) as host:
        if isinstance(service, Service) or store is not None:
            host.journals.allow(name, store=store, schema=service.schema if isinstance(service, Service) else ())
            await host.journals.resume(name)
        if isinstance(service, Service) and serve:
            await host.serve(service)
        elif isinstance(service, Service) and service.events:
            await host.announce(service)
            if any(event.promise is Mode.JOURNALED for event in service.events.values()):
                await host.join(name)  # whoever hears them asks this process for what it misses
        yield host.client(name)
        await host.drain()


def run(*services: Service, transport: str | None = None, config: Path | Mapping[str, Any] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then take nothing more, finish, and return.

    Args:
        services: what to serve; one or more.
        transport: the URL of the engine, instead of the configured one.
        config: a file, or what would stand in it, instead of the `posthouse.toml` that is found.

    Raises:
        ConfigError: the configuration or the place of the data cannot be used.
        UnavailableError: the engine cannot be reached.
        UsageError: there is no service.
    """
    if not services:
        raise UsageError("run() needs at least one service")
    run_loop(_serve(settings_of(transport, config), services))


async def _serve(settings: Settings, services: tuple[Service, ...]) -> None:
    with Signals() as signals:
        async with Host(settings) as host:
            if await signals.unless_asked(serve_all(host, services)):
                await drain_when_asked(host, signals)


async def serve_all(host: Host, services: Sequence[Service]) -> None:
    """Serve, and go on with what earlier processes have left in stores, even where nothing is journaled any more."""
    for service in services:
        host.journals.allow(service.name, schema=service.schema)
        await host.journals.resume(service.name)
    await host.serve(*services)


async def drain_when_asked(host: Host, signals: Signals) -> None:
    """Serve until the first signal, then drain; a second signal ends the grace at once."""
    await signals.asked.wait()
    signals.hurry = host.hurry
    await host.drain()


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run a program's main coroutine, on uvloop where it is installed; should its loop get stuck, end the process."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_watched(main))


async def _watched(main: Coroutine[Any, Any, None]) -> None:
    with watchdog.Watchdog(limit=watchdog.LIMIT):
        await main


def settings_of(transport: str | None, config: Path | Mapping[str, Any] | None) -> Settings:
    """Return the settings, with the transport that a program named itself."""
    return load(config, overrides=None if transport is None else {"transport": transport})
