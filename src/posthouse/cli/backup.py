"""`posthouse backup`: copies the stores of a data directory, while their services run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.errors import StorageError, UnknownServiceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.runtime.settings import Settings


@click.command()
@click.argument("to", metavar="TO")
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@common
def backup(options: Options, to: str, services: tuple[str, ...]) -> int:
    """Copy the stores of all services, or of those named, into the new directory TO; they may run meanwhile.

    Each store is copied as it is at one moment, with your own tables in it; a manifest says what each copy must be,
    and TO has its name only when all is on the disk. The transport (transport.db) is not in it: what is journaled
    is in the stores, and queues begin empty. `posthouse verify TO` reads it all, `posthouse restore TO` puts it back.
    """
    from posthouse.backends.sqlite.store.backups import back_up
    from posthouse.cli.progress import Progress

    stores = folder_of_stores(options.settings())
    chosen = _chosen(stores, services)
    _must_lie_elsewhere(Path(to), stores.parent)
    with Progress("copying") as progress:
        manifest = back_up(stores, chosen, Path(to), made=datetime.now(UTC), posthouse=_version(), progress=progress)
    if options.json:
        output.record({"path": str(Path(to).absolute()), "manifest": manifest})
        return exits.FINE
    output.table(
        ["STORE", "ID", "EPOCH#", "SIZE#"],
        [(copy.service, copy.id[:8], copy.epoch, output.size(copy.size)) for copy in manifest.stores],
    )
    count = "1 store" if len(manifest.stores) == 1 else f"{len(manifest.stores)} stores"
    output.say(f"{count} in {to}, on the disk; read it once with: posthouse verify {to}")
    return exits.FINE


def folder_of_stores(settings: Settings) -> Path:
    """Return the directory of the stores.

    Raises:
        UsageError: they do not lie in files.
    """
    from posthouse.cli.stores import FOLDER

    scheme, _, place = settings.stores.partition(":")
    if scheme != "sqlite":
        raise UsageError(f"stores at {scheme}: are not files, and have backups of their own engine")
    return Path(place) / FOLDER


def _chosen(stores: Path, services: Sequence[str]) -> list[str]:
    from posthouse.cli.house import is_directory

    if not is_directory(stores.parent):
        raise StorageError(
            f"there is no data directory {stores.parent}",
            hint="Go to where posthouse.toml is, or name the directory with --data.",
        )
    there = services_in(stores)
    if not there:
        raise UsageError(
            f"there is no store in {stores.parent}: no service of it has asked or served what is journaled"
        )
    return picked(services, there, where=str(stores.parent))


def _must_lie_elsewhere(target: Path, data: Path) -> None:
    if target.resolve().is_relative_to(data.resolve()):
        raise UsageError(
            f"{target} lies in the data directory {data}, and would be lost with it",
            hint="Name a directory outside of it, best on another disk.",
        )


def services_in(stores: Path) -> list[str]:
    """Return the services that have a store in a directory of stores; none, where there is no such directory.

    Raises:
        StorageError: this user may not look into it.
    """
    try:
        return sorted(file.stem for file in stores.iterdir() if file.suffix == ".db")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(
            f"{stores} cannot be looked into: {error.strerror}",
            hint="Run this as the user whose it is, or name another directory with --data.",
        ) from error


def picked(services: Sequence[str], there: Sequence[str], *, where: str) -> list[str]:
    """Return the services that are named, each once; all that are there, when none is.

    Raises:
        UnknownServiceError: one has no store there.
    """
    from posthouse.runtime.layers import nearest

    for service in services:
        if service not in there:
            raise UnknownServiceError(
                f"{service!r} has no store in {where}{nearest(service, there)}",
                hint=f"Stores there: {', '.join(there)}.",
            )
    return [service for service in there if not services or service in services]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("posthouse")
    except PackageNotFoundError:
        return ""
