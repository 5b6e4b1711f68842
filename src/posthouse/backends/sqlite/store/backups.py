"""A backup: a directory with a copy of each store, and a manifest that says what each should be.

It is made beside its place, under another name, and gets its own when all of it is on the disk; the manifest is
written last. So what was not finished has no manifest, and is not taken for a backup. Each store is as it was at one
moment, which is another one for each: the protocol between them copes with that. All functions block.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from posthouse.backends.sqlite.store.checks import look_at_all
from posthouse.backends.sqlite.store.copies import cannot_write, checksum, copy_store, flush_names
from posthouse.backends.sqlite.store.tables import VERSION as FORMAT
from posthouse.errors import DiskFullError, IllegalNameError, StorageError, UsageError
from posthouse.message.names import check_part
from posthouse.protocol.epoch import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MANIFEST: Final = "manifest.json"
VERSION: Final = 1
"""Of the manifest. To change it: raise this, and keep reading what was written before."""

_SPARE: Final = 16 << 20


class StoreCopy(msgspec.Struct, frozen=True, kw_only=True):
    """The copy of one store.

    Attributes:
        service: whose store.
        id: of the store.
        epoch: its life, when it was copied.
        format: the version of its tables.
        file: its name, beside the manifest.
        size: of the file, in bytes.
        checksum: of the file; BLAKE2b, 32 bytes, in hex.
    """

    service: str
    id: str
    epoch: int
    format: int
    file: str
    size: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds.

    Attributes:
        version: of the manifest.
        made: when the backup was begun: no store in it is older.
        posthouse: the version that made it.
        stores: all that is in it.
    """

    version: int
    made: datetime
    posthouse: str
    stores: list[StoreCopy]


class Checked(NamedTuple):
    """One store of a backup, or of a data directory, that was read from its beginning to its end.

    Attributes:
        service: whose store.
        path: of the file.
        identity: which store, and in which life; as the file says, else as the manifest does.
        size: of the file, in bytes.
        faults: what is wrong.
    """

    service: str
    path: Path
    identity: Identity
    size: int
    faults: list[str]


def back_up(
    stores: Path,
    services: Sequence[str],
    target: Path,
    *,
    made: datetime,
    posthouse: str,
    progress: Callable[[str, int, int], None],
) -> Manifest:
    """Copy stores into a new directory, while their services run or not.

    Args:
        stores: the directory of the stores.
        services: whose stores.
        target: the directory to make; one that is there must be empty.
        made: what time it is.
        posthouse: this version.
        progress: is told the service whose store is copied, the bytes done, and the bytes of all.

    Raises:
        UsageError: there is something at the target, or no directory to make it in.
        DiskFullError: there is no room for it.
        StorageError: a store is damaged, or none.
        UnavailableError: a store cannot be read now, or the backup not be written.
    """
    target = target.absolute()
    _must_be_free(target)
    sizes = {service: (stores / f"{service}.db").stat().st_size for service in services}
    _must_have_room(target.parent, sum(sizes.values()) + _SPARE)
    copies: list[StoreCopy] = []
    try:
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))  # mode 0700
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        for service in services:
            before, whole = sum(copy.size for copy in copies), sum(sizes.values())

            def tell(done: int, _of: int, service: str = service, before: int = before, whole: int = whole) -> None:
                progress(service, before + done, max(whole, before + done))

            copies.append(_copy(stores, service, partial, progress=tell))
        manifest = Manifest(version=VERSION, made=made, posthouse=posthouse, stores=copies)
        _write(partial / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        flush_names(partial)
        partial.rename(target)
        flush_names(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # it has another name by now, if all went well
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Return what a backup says that it holds.

    Raises:
        StorageError: it is none, or was not finished, or is of a newer version.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            raise _no_backup(folder) from None
        raise StorageError(
            f"{path} cannot be read: {error.strerror}",
            hint="A backup is private: run this as the user who made it, or who owns the copy.",
        ) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise StorageError(f"{path} is damaged, or none of ours: {error}", hint="Take another backup.") from error
    if manifest.version > VERSION:
        raise StorageError(f"{path} was written by a newer posthouse", hint="Upgrade this posthouse.")
    for copy in manifest.stores:
        try:
            check_part(copy.service, "service")
        except IllegalNameError as error:
            raise StorageError(f"{path} is damaged: {error}", hint="Take another backup.") from error
        if copy.file != f"{copy.service}.db":
            raise StorageError(f"{path} is damaged: {copy.file!r} is not the file of {copy.service}")
        if copy.format > FORMAT:
            raise StorageError(
                f"{folder} holds stores of a newer posthouse (format {copy.format}; this one knows {FORMAT})",
                hint="Upgrade this posthouse. The backup is not damaged by that.",
            )
    return manifest


def _no_backup(folder: Path) -> StorageError:
    if not folder.is_dir():
        what = "is a file, and a backup is a directory" if folder.exists() else "is not there"
        return StorageError(f"{folder} {what}", hint="Name the directory that `posthouse backup` has made.")
    return StorageError(
        f"{folder} is no backup: it has no {MANIFEST}",
        hint="It is what is left of a backup that was not finished: remove it, and take another one."
        if ".partial-" in folder.absolute().name
        else "Name the directory that `posthouse backup` has made.",
    )


def check_backup(
    folder: Path, copies: Sequence[StoreCopy], *, progress: Callable[[str, int, int], None]
) -> list[Checked]:
    """Read stores of a backup from beginning to end, and say what is wrong.

    Args:
        folder: the backup.
        copies: what it should hold.
        progress: is told whose store is read, the bytes done, and the bytes of all.
    """
    whole, done, checked = sum(copy.size for copy in copies), 0, list[Checked]()
    for copy in copies:
        progress(copy.service, done, whole)
        checked.append(_check(folder / copy.file, copy))
        done += copy.size
    return checked


def check_stores(stores: Path, services: Sequence[str], *, progress: Callable[[str, int, int], None]) -> list[Checked]:
    """Read the stores of a data directory from beginning to end, and say what is wrong. They may be in use.

    Args:
        stores: the directory of the stores.
        services: whose stores.
        progress: is told whose store is read, the bytes done, and the bytes of all.
    """
    files = {service: stores / f"{service}.db" for service in services}
    sizes = {service: file.stat().st_size for service, file in files.items()}
    done, checked = 0, list[Checked]()
    for service, file in files.items():
        progress(service, done, sum(sizes.values()))
        facts, faults = look_at_all(file, is_backup=False)
        checked.append(Checked(service, file, facts.identity if facts else Identity(), sizes[service], faults))
        done += sizes[service]
    return checked


def _copy(stores: Path, service: str, folder: Path, *, progress: Callable[[int, int], None]) -> StoreCopy:
    path = folder / f"{service}.db"
    facts = copy_store(stores / path.name, path, progress=progress)
    return StoreCopy(
        service=service,
        id=facts.identity.id,
        epoch=facts.identity.epoch,
        format=facts.format,
        file=path.name,
        size=path.stat().st_size,
        checksum=checksum(path),
    )


def _check(path: Path, copy: StoreCopy) -> Checked:
    meant = Identity(copy.id, copy.epoch)
    try:
        size = path.stat().st_size
        faults = [f"it has {size:,} bytes instead of {copy.size:,}"] if size != copy.size else []
        if not faults and checksum(path) != copy.checksum:
            faults.append("its checksum is not that of the manifest")
    except FileNotFoundError:
        return Checked(copy.service, path, meant, 0, ["it is missing"])
    except OSError as error:
        return Checked(copy.service, path, meant, 0, [f"it cannot be read: {error.strerror}"])
    facts, more = look_at_all(path, is_backup=True)
    if facts is not None and (facts.identity, facts.format) != (meant, copy.format):
        more.append(
            f"it is store {facts.identity.id[:8]} in epoch {facts.identity.epoch}, which the manifest does not say"
        )
    return Checked(copy.service, path, facts.identity if facts else meant, size, faults + more)


def _must_be_free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{target} is there already, and is no directory", hint="Name one that is not there yet.")
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(
            f"{target} holds something already; a backup is made in a directory of its own",
            hint="Name one that is not there yet, with the date in it perhaps.",
        )
    if not target.parent.is_dir():
        raise UsageError(f"there is no directory {target.parent} to make it in", hint="Make it, or name another one.")


def _must_have_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DiskFullError(
            f"a backup needs {size >> 20:,} MiB, some of it to spare, and {folder} has room for {free >> 20:,} MiB",
            hint="Make room there, or name a directory on another disk. Nothing was begun, and the services go on.",
        )


def _write(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(data + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
