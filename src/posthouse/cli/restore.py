"""`posthouse restore`: puts stores of a backup back into the data directory."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common

if TYPE_CHECKING:
    from posthouse.backends.sqlite.store.backups import Manifest
    from posthouse.backends.sqlite.store.restores import PutBack


class Restored(msgspec.Struct):
    """A store that was put back, as scripts read it; `aside` is where the one lies that was there."""

    service: str
    path: str
    id: str
    epoch: int
    aside: str | None


@click.command()
@click.argument("origin", metavar="FROM")
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--replace", is_flag=True, help="Put a store aside that is there; it keeps its name, with the date.")
@common
def restore(options: Options, origin: str, services: tuple[str, ...], *, replace: bool) -> int:
    """Put the stores of the backup FROM back, of all services or of those named, which must not run.

    The backup is read whole before anything is changed. A restored store begins a new life: the services that it talks
    with notice by that what it has forgotten.
    """
    from posthouse.backends.sqlite.store.backups import read_manifest
    from posthouse.backends.sqlite.store.restores import put_back
    from posthouse.cli.backup import folder_of_stores, picked
    from posthouse.cli.progress import Progress

    settings = options.settings()
    stores = folder_of_stores(settings)
    manifest = read_manifest(Path(origin))
    chosen = picked(services, [copy.service for copy in manifest.stores], where=origin)
    copies = [copy for copy in manifest.stores if copy.service in chosen]
    with Progress("restoring") as progress:
        for done in put_back(
            Path(origin),
            copies,
            stores.parent,
            stores,
            replace=replace,
            now=datetime.now(UTC),
            progress=progress,
        ):
            progress.clear()
            _tell(options, done, manifest)
    if not options.json:
        _tell_what_follows(chosen)
    return exits.FINE


def _tell(options: Options, done: PutBack, manifest: Manifest) -> None:
    if options.json:
        aside = None if done.aside is None else str(done.aside)
        output.record(Restored(done.service, str(done.path), done.identity.id, done.identity.epoch, aside))
        return
    moment = output.moment(manifest.made.timestamp())
    output.line(f"{done.service} is as it was at {moment}, and begins epoch {done.identity.epoch}")
    if done.aside is not None:
        output.line(f"  what was there: {done.aside}")
    if done.replaced is not None and done.replaced.id != done.identity.id:
        output.say(
            f"what was there was another store ({done.replaced.id}): who is bound to it asks that one;"
            f" `posthouse lanes map --help` says how to bind them to {done.identity.id}"
        )


def _tell_what_follows(services: list[str]) -> None:
    one = len(services) == 1
    who, them = (services[0], "it") if one else ("they", "them")
    output.say(f"when {who} start{'s' if one else ''}, others are told, and ask {them} again what they know as done")
    output.say(f"what {who} had asked is asked again; what others have forgotten becomes unknown, and is listed")
    output.say("posthouse restores  shows what is asked again, what is unknown, and what contradicts what was told")
