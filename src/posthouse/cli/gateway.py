"""`posthouse gateway`: the HTTP door of all services that share the transport."""

from __future__ import annotations

import click

from posthouse.cli.options import Options, common


@click.command()
@click.option("--bind", metavar="HOST:PORT", help="Where it listens [default: 127.0.0.1:8080].")
@common
def gateway(options: Options, bind: str | None) -> int:
    """Serve the routes of all announced services over HTTP; new ones appear as they are announced."""
    from posthouse.cli.serving import serve

    settings = options.settings(gateway={"bind": bind})
    return serve(options, settings, [], bind=settings.gateway.bind)
