"""`posthouse verify`: reads a backup, or the stores of a data directory, and says what is wrong where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.errors import UsageError

if TYPE_CHECKING:
    from posthouse.backends.sqlite.store.backups import Checked
    from posthouse.cli.progress import Progress


class Verified(msgspec.Struct):
    """A store that was read whole, as scripts read it."""

    service: str
    path: str
    id: str
    epoch: int
    size: int
    faults: list[str]


@click.command()
@click.argument("place", metavar="[DIR]", required=False)
@common
def verify(options: Options, place: str | None) -> int:
    """Read a backup, or the stores of a data directory, from beginning to end. DIR is either; without it, the latter.

    Each file is held against the manifest of its backup; SQLite looks at its structure and its indexes, and each row of
    posthouse's own has a checksum. A change within a row of yours is noticed in a backup only: there the whole file has
    a checksum. Services may run. The exit status is 1 when something is wrong.
    """
    from posthouse.cli.progress import Progress

    with Progress("reading") as progress:
        checked = _checked(options, place, progress)
    for each in checked:
        if options.json:
            output.record(
                Verified(each.service, str(each.path), each.identity.id, each.identity.epoch, each.size, each.faults)
            )
            continue
        said = f"{each.identity.id[:8]} epoch {each.identity.epoch}, {output.size(each.size)}"
        mark = "bad" if each.faults else "ok"
        output.fold(f"{said}, whole" if not each.faults else said, before=f"{mark:5} {each.service:15} ")
        for fault in each.faults:
            output.fold(fault, before=" " * 22)
    bad = [each.service for each in checked if each.faults]
    if bad:
        output.say(f"damaged: {', '.join(bad)}; keep the file, and restore the store from a backup that is whole")
    return exits.FINDING if bad else exits.FINE


def _checked(options: Options, place: str | None, progress: Progress) -> list[Checked]:
    from posthouse.backends.sqlite.store.backups import MANIFEST, check_backup, check_stores, read_manifest
    from posthouse.cli.backup import folder_of_stores, services_in
    from posthouse.cli.house import is_directory
    from posthouse.cli.stores import FOLDER

    stores = folder_of_stores(options.settings()) if place is None else Path(place) / FOLDER
    if place is not None and (not is_directory(stores) or (Path(place) / MANIFEST).exists()):
        return check_backup(Path(place), read_manifest(Path(place)).stores, progress=progress)
    services = services_in(stores)
    if not services:
        raise UsageError(f"there is no store in {stores.parent}", hint="Name a backup, or a data directory.")
    return check_stores(stores, services, progress=progress)
