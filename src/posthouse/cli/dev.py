"""`posthouse dev APP`: everything in one child, started anew when a file of the program changes.

The child says itself what is wrong with a program; here is only decided what comes next. A mistake
in the program waits for the next change; what no change of a file can mend (a port in use, a
directory without rights) ends the command, if the program never ran.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from posthouse.cli import exits, notices, output
from posthouse.cli.children import Child, said
from posthouse.cli.options import Options, common
from posthouse.cli.watch import Watch
from posthouse.runtime.signals import Signals

if TYPE_CHECKING:
    from posthouse.clock import Seconds

GRACE: Seconds = 3.0
"""How long handlers at work may take when a file has changed: somebody waits for the new version."""


@click.command()
@click.argument("app")
@click.option("--bind", metavar="HOST:PORT", help="Where the gateway listens [default: 127.0.0.1:8080].")
@common
def dev(options: Options, app: str, bind: str | None) -> int:
    """Run all services of APP and the gateway in one process, and start it anew when a file changes.

    APP is FILE.py, or package.module; FILE.py:NAME runs one service of it.
    """
    from posthouse.runtime.app import file_of, place_and_name

    options.mind(app)
    settings = options.settings(gateway={"bind": bind})  # what is wrong here is said before anything starts
    file = file_of(place_and_name(app)[0])
    watch = Watch(file.parent if file else Path.cwd(), also=[found] if (found := _config(options)) else [])
    arguments = [app, f"--gateway={settings.gateway.bind}", "--banner", f"--grace={GRACE}", *options.flags()]
    return asyncio.run(_develop(options, ["_serve", *arguments], watch))


async def _develop(options: Options, arguments: list[str], watch: Watch) -> int:
    loop = asyncio.get_running_loop()
    never_ran = True
    with Signals() as signals:
        while True:
            began = loop.time()
            child = await Child.start(
                "dev", arguments, on_ready=lambda _, began=began: _tell_ready(options, loop.time() - began)
            )
            died = asyncio.create_task(child.wait())
            changed = asyncio.create_task(watch.changed())
            asked = asyncio.create_task(signals.asked.wait())
            try:
                await asyncio.wait({died, changed, asked}, return_when=asyncio.FIRST_COMPLETED)
                never_ran = never_ran and not child.was_ready
                if died.done() and not asked.done():
                    status = died.result()
                    if never_ran and status in {exits.USAGE, exits.UNREACHABLE}:
                        return status
                    notices.notice(
                        options, f"it {said(status)}; waiting for a change of a file", event="ended", status=status
                    )
                    await asyncio.wait({changed, asked}, return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    files = changed.result()
                    notices.notice(options, f"{_listed(files)} changed, starting anew", event="changed", files=files)
            finally:
                changed.cancel()
                asked.cancel()
                signals.hurry = child.kill
                await asyncio.gather(child.end(GRACE), died, changed, asked, return_exceptions=True)
            if asked.done() and not asked.cancelled():
                return exits.FINE


def _tell_ready(options: Options, took: Seconds) -> None:
    if not options.json:  # there the child has said so
        output.say(f"ready in {took:.2f} s; a changed file starts it anew, Ctrl-C ends it")


def _config(options: Options) -> Path | None:
    from posthouse.runtime.settings import in_force

    file = in_force(Path(options.config) if options.config else None)
    return None if file is None else file.absolute()


def _listed(files: list[str]) -> str:
    shown = ", ".join(files[:3])
    return f"{shown} and {len(files) - 3} more" if len(files) > 3 else shown
