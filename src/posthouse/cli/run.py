"""`posthouse run APP...`: serves in this process until SIGTERM or SIGINT."""

from __future__ import annotations

import click

from posthouse.cli.options import Options, common


@click.command()
@click.argument("apps", nargs=-1, required=True, metavar="APP...")
@common
def run(options: Options, apps: tuple[str, ...]) -> int:
    """Serve the services of each APP in this process until it is told to end.

    APP is FILE.py:NAME for one service, FILE.py for all of a file, or the same with package.module.
    """
    from posthouse.cli.serving import serve
    from posthouse.runtime.app import load_all

    for app in apps:
        options.mind(app)
    return serve(options, options.settings(), load_all(apps))
