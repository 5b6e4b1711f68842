"""Puts stores of a backup back into a data directory, each in a new life.

All is checked, and copied beside its place, before anything is changed there. Then each store takes its place in one
step; what was there is kept under another name. The new life is begun in the copy, so it is exactly one, wherever the
file comes to lie. All functions block. Whoever calls has none of the stores open: to close a file drops all locks
that a process has on it (fcntl(2)).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import apsw

from posthouse.backends.sqlite.place import make_directory
from posthouse.backends.sqlite.store.backups import check_backup
from posthouse.backends.sqlite.store.copies import cannot_write, connected, copy_file, facts_of, flush_names
from posthouse.backends.sqlite.store.faults import told
from posthouse.backends.sqlite.store.identity import RESTORED, Whereabouts, begin_epoch
from posthouse.backends.sqlite.store.processes import Process, is_gone, machine_id
from posthouse.backends.sqlite.store.tables import bring_up_to_date
from posthouse.backends.sqlite.turnstile import Turnstile
from posthouse.errors import StorageError, UnavailableError, UsageError
from posthouse.protocol.epoch import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import datetime
    from pathlib import Path

    from posthouse.backends.sqlite.store.backups import Checked, StoreCopy
    from posthouse.clock import Instant, Seconds

_PATIENCE: Final[Seconds] = 10.0
_SHARED: Final = 0x40000002, 510
"""The bytes of a file that everybody has locked who has it open in WAL mode (SQLite's file format, "locking")."""
_MEMBERS: Final = "SELECT pid, started, namespace, boot FROM posthouse_members"


class PutBack(NamedTuple):
    """A store that was put back.

    Attributes:
        service: whose store.
        identity: which one, and the life that it begins.
        path: where it is.
        epoch_before: its life in the backup.
        replaced: which store was there; None for none, or one that cannot be read.
        aside: where that is now; None when there was none.
    """

    service: str
    identity: Identity
    path: Path
    epoch_before: int
    replaced: Identity | None
    aside: Path | None


def put_back(
    folder: Path,
    copies: Sequence[StoreCopy],
    data: Path,
    stores: Path,
    *,
    replace: bool,
    now: datetime,
    progress: Callable[[str, int, int], None],
) -> Generator[PutBack]:
    """Put stores of a backup back, and yield each that is in its place.

    Args:
        folder: the backup.
        copies: what of it.
        data: the data directory; it is made if it is not there.
        stores: the directory of the stores in it.
        replace: a store that is there is put aside; without it, it is in the way.
        now: what time it is.
        progress: is told whose store is at work, the bytes done, and the bytes of all.

    Raises:
        StorageError: the backup is damaged, or the directory cannot be used.
        UsageError: a store is in the way, or somebody has it open.
        UnavailableError: something cannot be read or written.
    """
    for copy in copies:
        _must_be_free(stores / copy.file, copy.service, replace=replace)
    whole = 2 * sum(copy.size for copy in copies)
    _must_be_whole(folder, check_backup(folder, copies, progress=lambda who, done, _of: progress(who, done, whole)))
    make_directory(data)
    make_directory(stores)
    lives: dict[str, Identity] = {}
    # Named after us: somebody else may restore the same stores just now.
    beside = {copy.service: stores / f"{copy.file}.restoring-{os.getpid()}" for copy in copies}
    done = whole // 2
    try:
        for copy in copies:
            before = done

            def tell(bytes: int, service: str = copy.service) -> None:
                nonlocal done
                done += bytes
                progress(service, done, whole)

            lives[copy.service] = _prepare(
                folder, copy, beside[copy.service], place=stores / copy.file, now=now.timestamp(), progress=tell
            )
            done = before + copy.size
        for copy in copies:
            path = stores / copy.file
            with _turnstile(stores, copy.service):
                _must_be_free(path, copy.service, replace=replace)
                replaced = _settled(path)
                aside = _take_place(beside[copy.service], path, now=now)
            yield PutBack(copy.service, lives[copy.service], path, copy.epoch, replaced, aside)
    except OSError as error:
        raise cannot_write(stores, error) from error
    finally:
        for left in beside.values():
            left.unlink(missing_ok=True)


def user_of(path: Path) -> str | None:
    """Return who has a store open, as people read it; None for nobody.

    Raises:
        OSError: the file cannot be opened.
    """
    first, length = _SHARED
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, first)
    except BlockingIOError:
        pass
    else:
        return None
    finally:
        os.close(file)
    return _members(path) or "another program, or a command of posthouse's that looks into it"


def _members(path: Path) -> str:
    try:
        with connected(path, apsw.SQLITE_OPEN_READONLY) as connection:
            found = [Process(*row) for row in connection.execute(_MEMBERS).fetchall()]
    except apsw.Error:
        return ""
    pids = sorted({process.pid for process in found if process.pid and not is_gone(process)})
    return f"process{'es' if len(pids) > 1 else ''} {', '.join(map(str, pids))}" if pids else ""


def _must_be_free(path: Path, service: str, *, replace: bool) -> None:
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise StorageError(f"{path} is no plain file", hint="Move it away.")
        if not path.exists() or not path.stat().st_size:
            return
        user = user_of(path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be looked into: {error.strerror}", hint="Run this as the user whose store it is."
        ) from error
    if user is not None:
        raise UsageError(
            f"the store of {service} is open: {user} has it", hint=f"End {service} first, then restore its store."
        )
    if not replace:
        raise UsageError(
            f"{service} has a store already: {path}",
            hint="--replace puts it aside under another name; it is not deleted.",
        )


def _must_be_whole(folder: Path, checked: Sequence[Checked]) -> None:
    bad = [f"{each.path.name}: {'; '.join(each.faults)}" for each in checked if each.faults]
    if bad:
        raise StorageError(
            f"the backup {folder} is damaged, and nothing was restored: {' | '.join(bad)}",
            hint="Take another backup, or only those of its services that are whole (`posthouse verify` tells which).",
        )


def _prepare(
    folder: Path, copy: StoreCopy, path: Path, *, place: Path, now: Instant, progress: Callable[[int], None]
) -> Identity:
    """Copy a store beside its place, and begin its new life there."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if copy_file(folder / copy.file, file, progress=progress) != copy.checksum:
            raise StorageError(f"{folder / copy.file} has changed while it was copied; nothing was restored")
        os.fsync(file)
        found = os.fstat(file)
    finally:
        os.close(file)
    where = Whereabouts(machine_id(), found.st_dev, found.st_ino)
    known = _settled(place)
    newest = max(copy.epoch, known.epoch if known is not None and known.id == copy.id else 0)
    try:
        with connected(path) as connection:
            sql = connection.cursor()
            sql.execute("PRAGMA synchronous = FULL")
            sql.execute("BEGIN IMMEDIATE")
            bring_up_to_date(sql, path)
            identity = begin_epoch(sql, Identity(copy.id, newest), where, reason=RESTORED, now=now)
            sql.execute("COMMIT")
    except apsw.Error as error:
        raise told(error, path) from error
    return identity


def _settled(path: Path) -> Identity | None:
    """Return which store is there, with all that it holds in one file; None when there is none that can be read."""
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        with connected(path) as connection:
            identity = facts_of(connection, path).identity
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except (apsw.Error, StorageError):
        return None
    return identity


def _take_place(new: Path, path: Path, *, now: datetime) -> Path | None:
    """Put a file into its place, in one step, and return where the one is that was there.

    A WAL that is left there would be taken for one of the new file, so it goes first. Only a store that SQLite cannot
    read still has one: who has closed it last, or we, have copied it back.
    """
    aside: Path | None = None
    if path.exists() and path.stat().st_size:
        aside = _aside(path, now)
        try:
            os.link(path, aside)
        except OSError:  # not every file system has links
            path.rename(aside)
    for more in ("-wal", "-shm"):
        beside = path.with_name(path.name + more)
        if beside.exists():
            beside.rename(path.with_name(f"{(aside or _aside(path, now)).name}{more}"))
    new.rename(path)
    flush_names(path.parent)
    return aside


def _aside(path: Path, now: datetime) -> Path:
    name, number = f"{path.name}.replaced-{now:%Y%m%dT%H%M%SZ}", 1
    while path.with_name(found := name if number == 1 else f"{name}-{number}").exists():
        number += 1
    return path.with_name(found)


@contextmanager
def _turnstile(stores: Path, service: str) -> Generator[None]:
    """Let nobody open the store meanwhile."""
    turnstile = Turnstile(stores, prefix=f"{service}.")
    try:
        if not turnstile.wait(_PATIENCE):
            raise UnavailableError(f"another process has been writing to the store of {service} for {_PATIENCE:.0f} s")
        try:
            yield
        finally:
            turnstile.leave()
    finally:
        turnstile.close()
