"""`posthouse _serve [APP]`: the child behind `dev` and `up`."""

from __future__ import annotations

import click

from posthouse.cli import complain, exits
from posthouse.cli.options import Options, common
from posthouse.cli.parent import end_with_parent, of_parent
from posthouse.errors import PosthouseError


@click.command("_serve", hidden=True)
@click.argument("app", required=False)
@click.option("--only", multiple=True)
@click.option("--gateway", "bind", default="")
@click.option("--grace", type=float)
@click.option("--banner", is_flag=True)
@of_parent
@common
def serve(
    options: Options,
    *,
    app: str | None,
    only: tuple[str, ...],
    bind: str,
    grace: float | None,
    banner: bool,
    lifeline: int,
    news: int,
) -> int:
    """Serve the services of APP, or those of them named by --only, and the gateway where --gateway says."""
    settings = options.settings(grace=grace, gateway={"bind": bind or None})
    end_with_parent(lifeline, grace=settings.grace)
    from posthouse.cli.serving import serve as serve_here
    from posthouse.runtime.app import load_app

    try:
        services = load_app(app) if app else []
    except PosthouseError as error:  # a fault of the program, which its next version may not have
        complain.of_error(error, as_json=options.json, debug=options.debug)
        return exits.FINDING
    if only:
        services = [service for service in services if service.name in only]
    return serve_here(options, settings, services, bind=bind, banner=banner, news=news)
